// The hypervisor's interface as far as the firmware uses it (Hypervisor Top Level Functional Specification 6.0b: TLFS).
// SPDX-License-Identifier: Apache-2.0
#pragma once

extern "C" {
#include <Uefi.h>
#include <Library/BaseLib.h>
}

namespace bygone::hyperv {

/// TLFS 2.4.
enum class Leaf : UINT32 { kInterface = 0x40000001, kFeatures = 0x40000003, kRecommendations = 0x40000004 };

constexpr UINT32 kInterfaceSignature = SIGNATURE_32('H', 'v', '#', '1');

/// Leaf kFeatures.
struct Features {
  UINT32 privileges = 0;    ///< EAX
  UINT32 capabilities = 0;  ///< EDX

  bool has_synic() const { return (privileges & BIT2) != 0; }
  bool has_synthetic_timers() const { return (privileges & BIT3) != 0; }
  bool has_hypercall_msrs() const { return (privileges & BIT5) != 0; }
  bool has_frequency_msrs() const { return (privileges & BIT11) != 0; }
  bool has_direct_timers() const { return (capabilities & BIT19) != 0; }
};

/// None where there is no such hypervisor. Two exits from the guest, or three.
inline Features features() {
  UINT32 eax = 0;
  UINT32 ecx = 0;
  Features found;
  AsmCpuid(1, nullptr, nullptr, &ecx, nullptr);
  if ((ecx & BIT31) == 0) return found;
  AsmCpuid(static_cast<UINT32>(Leaf::kInterface), &eax, nullptr, nullptr, nullptr);
  if (eax != kInterfaceSignature) return found;
  AsmCpuid(static_cast<UINT32>(Leaf::kFeatures), &found.privileges, nullptr, nullptr, &found.capabilities);
  return found;
}

/// Whether the hypervisor would rather not end interrupts by itself. Only where it is there.
inline bool advises_against_auto_eoi() {
  UINT32 eax = 0;
  AsmCpuid(static_cast<UINT32>(Leaf::kRecommendations), &eax, nullptr, nullptr, nullptr);
  return (eax & BIT9) != 0;
}

enum class Msr : UINT32 {
  kGuestOsId = 0x40000000,
  kHypercall = 0x40000001,
  kTscFrequency = 0x40000022,
  kApicFrequency = 0x40000023,
  kSynicControl = 0x40000080,
  kEventFlagsPage = 0x40000082,
  kMessagePage = 0x40000083,
  kEndOfMessage = 0x40000084,
  kSint0 = 0x40000090,
  kTimer0Configuration = 0x400000B0,
  kTimer0Count = 0x400000B1,
};

inline UINT64 read(Msr number) { return AsmReadMsr64(static_cast<UINT32>(number)); }
inline void write(Msr number, UINT64 value) { AsmWriteMsr64(static_cast<UINT32>(number), value); }

/// A synthetic interrupt source's register.
constexpr Msr sint_msr(UINT32 source) { return static_cast<Msr>(static_cast<UINT32>(Msr::kSint0) + source); }

/// Of an interrupt source, above its vector (TLFS 11.8.4).
constexpr UINT64 kSintMasked = BIT16;
constexpr UINT64 kSintAutoEoi = BIT17;

/// Of the registers that hold a page's address.
constexpr UINT64 kPageEnabled = BIT0;

/// Of a timer's configuration (TLFS 12.4.1).
constexpr UINT64 kTimerPeriodic = BIT1;
constexpr UINT64 kTimerLazy = BIT2;  ///< late ticks may be dropped
constexpr UINT64 kTimerAutoEnable = BIT3;
constexpr UINT64 kTimerDirect = BIT12;
constexpr UINT64 kTimerVectorShift = 4;

constexpr UINT64 kCallPostMessage = 0x5C;
constexpr UINT64 kCallSignalEvent = 0x5D;
constexpr UINT64 kCallFast = BIT16;

/// What a hypercall returns in the low half word.
enum class Status : UINT16 { kSuccess = 0, kInsufficientMemory = 0x0B, kInsufficientBuffers = 0x33 };

/// The hypercall page takes control, input and output in RCX, RDX and R8: the EFIAPI convention.
using Hypercall = UINT64(EFIAPI*)(UINT64 control, UINT64 input, UINT64 output);

constexpr UINTN kMessagePayloadBytes = 240;

#pragma pack(1)

struct Message {
  UINT32 type;  ///< 0: the slot is empty
  UINT8 payload_bytes;
  UINT8 flags;  ///< bit 0: another message waits for the end of this one
  UINT16 reserved;
  UINT64 origin;
  UINT8 payload[kMessagePayloadBytes];
};

struct PostMessageInput {
  UINT32 connection;
  UINT32 reserved;
  UINT32 message_type;
  UINT32 payload_bytes;
  UINT8 payload[kMessagePayloadBytes];
};

#pragma pack()

static_assert(sizeof(Message) == 256 && sizeof(PostMessageInput) == 256, "TLFS 11.8 and 11.11");

}  // namespace bygone::hyperv
