// What a test guest and its runner know of each other: image header, hand-over, ports, test devices. README.md explains.
#pragma once

#include <cstdint>

namespace guest {

inline constexpr std::uint64_t kMagic = 0x3154534555475942;  // "BYGUEST1"

enum class EntryMode : std::uint32_t { kLong = 0, kProtected = 1, kReal = 2 };

/// At the start of every image.
struct ImageHeader {
  std::uint64_t magic;
  EntryMode mode;
  std::uint32_t processors;  ///< how many the guest wants, at least 1
  std::uint32_t memory_mib;
  std::uint32_t entry;  ///< offset of the first instruction from the start of the image
  std::uint32_t flags;
  std::uint32_t reserved;
};
static_assert(sizeof(ImageHeader) == 32);
/// ImageHeader::flags: the guest finds the hypervisor interface (TLFS) in place of the test registers and calls.
inline constexpr std::uint32_t kImageWantsHypervisor = 1;
/// ImageHeader::flags: the image's source lies beside it, and its head names the registers that the run shall end with.
inline constexpr std::uint32_t kImageNamesRegisters = 2;

// The hand-over.
inline constexpr std::uint32_t kPageTables = 0x1000;  ///< six pages, identity map of 4 GiB
inline constexpr std::uint32_t kBootInfo = 0x7000;
inline constexpr std::uint32_t kDescriptors = 0x8000;
inline constexpr std::uint32_t kHypercallPage = 0x9000;  ///< the engine's hypercall code
inline constexpr std::uint32_t kRealImage = 0x10000;     ///< where images of real mode are loaded
inline constexpr std::uint32_t kStackTop = 0x90000;
inline constexpr std::uint32_t kImage = 0x100000;  ///< where all others are loaded

struct BootInfo {
  std::uint32_t processors;
  std::uint32_t flags;
  std::uint64_t memory_bytes;
  std::uint64_t tsc_hz;
  std::uint64_t apic_timer_hz;
};

/// BootInfo::flags: below KVM runs an emulated processor with known defects (QEMU 7.2 in tests/nested).
inline constexpr std::uint32_t kFlagEmulatedProcessor = 1;

// Ports of every run.
inline constexpr std::uint16_t kPortText = 0xE9;    ///< bytes of text
inline constexpr std::uint16_t kPortSerial = 0x3F8;  ///< the same, as COM1
inline constexpr std::uint16_t kPortFinish = 0xF4;   ///< 32 bits: the number of failed checks; ends the run
inline constexpr std::uint16_t kPortDone = 0xF6;     ///< any: the run ends, no checks failed; the registers are looked at
inline constexpr std::uint16_t kPortExpect = 0xF5;   ///< 8 bits: how the run shall end, an Ending

enum class Ending : std::uint8_t { kFinish = 0, kShutdown = 1 };

// The test device on ports: 256 bytes of memory, and what was done to it.
inline constexpr std::uint16_t kPortScratch = 0x5000;
inline constexpr std::uint16_t kPortScratchBytes = 0x100;
inline constexpr std::uint16_t kPortLast = 0x5100;   ///< read 32: port | size << 16 | is_write << 24 of the last access
inline constexpr std::uint16_t kPortCount = 0x5104;  ///< read 32: accesses (elements) so far; a write zeroes it

/// Write 32: vector, delivery mode << 8, level << 15, destination << 16, logical << 24: sends that interrupt.
inline constexpr std::uint16_t kPortInterrupt = 0x5200;
inline constexpr std::uint16_t kPortEoiCount = 0x5204;   ///< read 32: EOIs of level-triggered vectors
inline constexpr std::uint16_t kPortEoiVector = 0x5208;  ///< read 32: the last one's vector

// The test device in memory: two pages, and what was done to them.
inline constexpr std::uint32_t kMmioScratch = 0xD0000000;
inline constexpr std::uint32_t kMmioScratchBytes = 0x2000;
inline constexpr std::uint32_t kMmioLastAddress = 0xD0002000;  ///< read 64
inline constexpr std::uint32_t kMmioLastSize = 0xD0002008;     ///< read 32: size | is_write << 8
inline constexpr std::uint32_t kMmioCount = 0xD000200C;        ///< read 32: accesses so far; a write zeroes it

// Test registers; every other MSR that the engine does not keep faults.
inline constexpr std::uint32_t kMsrScratch = 0xC0DE0000;  ///< 64 bits that stay
inline constexpr std::uint32_t kMsrFault = 0xC0DE0001;    ///< reads and writes fault

// Test hypercalls: the low 16 bits of the control value.
inline constexpr std::uint16_t kCallXor = 0xB001;    ///< result: control ^ input ^ output
inline constexpr std::uint16_t kCallXmm = 0xB002;    ///< fast: XMM5 = XMM0 + 1 in each half; result 0
inline constexpr std::uint16_t kCallFault = 0xB003;  ///< invalid opcode

// With the hypervisor interface: what is posted to this connection comes back as a message from source 2 of the processor that
// posted; an event on the other sets flag 7 of source 3 on processor 0, and flag 8 if it was signalled with a flag other than 0.
inline constexpr std::uint32_t kEchoConnection = 0x11;
inline constexpr std::uint32_t kEventConnection = 0x12;
inline constexpr std::uint8_t kEchoSource = 2, kEventSource = 3;
inline constexpr std::uint16_t kEventFlag = 7, kOtherEventFlag = 8;

}  // namespace guest
