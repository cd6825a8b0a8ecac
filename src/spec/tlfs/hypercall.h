// Hypercalls: the control word, status codes, call codes and inputs. Hypervisor Top-Level Functional Specification 6.0b,
// sections 3.7-3.9 and appendixes A and B.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::tlfs {

/// The hypercall input value (3.7).
struct HypercallControl {
  std::uint64_t value = 0;
  [[nodiscard]] constexpr std::uint16_t code() const { return static_cast<std::uint16_t>(value); }
  [[nodiscard]] constexpr bool is_fast() const { return (value >> 16 & 1) != 0; }
  [[nodiscard]] constexpr std::uint32_t variable_header_qwords() const { return static_cast<std::uint32_t>(value >> 17 & 0x3FF); }
  [[nodiscard]] constexpr std::uint32_t rep_count() const { return static_cast<std::uint32_t>(value >> 32 & 0xFFF); }
  [[nodiscard]] constexpr std::uint32_t rep_start() const { return static_cast<std::uint32_t>(value >> 48 & 0xFFF); }
  [[nodiscard]] constexpr bool has_reserved_bits() const { return (value & 0xF000F000F8000000) != 0; }
};

/// HV_STATUS (appendix B).
enum class HvStatus : std::uint16_t {
  kSuccess = 0x0000,
  kInvalidHypercallCode = 0x0002,
  kInvalidHypercallInput = 0x0003,
  kInvalidAlignment = 0x0004,
  kInvalidParameter = 0x0005,
  kAccessDenied = 0x0006,
  kOperationDenied = 0x0008,
  kInvalidVpIndex = 0x000E,
  kInvalidPortId = 0x0011,
  kInvalidConnectionId = 0x0012,
  kInsufficientBuffers = 0x0013,
};
[[nodiscard]] constexpr std::uint64_t hypercall_result(HvStatus status, std::uint32_t reps_completed = 0) {
  return static_cast<std::uint64_t>(status) | static_cast<std::uint64_t>(reps_completed) << 32;
}

enum class HypercallCode : std::uint16_t {
  kFlushVirtualAddressSpace = 0x0002,
  kFlushVirtualAddressList = 0x0003,
  kNotifyLongSpinWait = 0x0008,
  kSendSyntheticClusterIpi = 0x000B,
  kFlushVirtualAddressSpaceEx = 0x0013,
  kFlushVirtualAddressListEx = 0x0014,
  kSendSyntheticClusterIpiEx = 0x0015,
  kGetVpRegisters = 0x0050,
  kSetVpRegisters = 0x0051,
  kPostMessage = 0x005C,
  kSignalEvent = 0x005D,
};

/// Input that fits registers: RDX, R8 and XMM0-5 (3.7.4).
inline constexpr std::size_t kFastInputBytes = 16;
inline constexpr std::size_t kXmmFastInputBytes = 112;

inline constexpr std::uint64_t kPartitionIdSelf = ~0ULL;
inline constexpr std::uint32_t kVpIndexSelf = 0xFFFFFFFE;

// Flags of the flush calls (9.4).
inline constexpr std::uint64_t kFlushAllProcessors = 1U << 0;
inline constexpr std::uint64_t kFlushKnownFlags = 0xF;

struct FlushInput {  // HvCallFlushVirtualAddressSpace, HvCallFlushVirtualAddressList
  le64 address_space;
  le64 flags;
  le64 processor_mask;
};
static_assert(sizeof(FlushInput) == 24 && offsetof(FlushInput, processor_mask) == 16);

/// The fixed part of a sparse set (7.8.7.3); `valid_banks` has a bit for each 64-bit bank that follows.
struct VpSetHeader {
  le64 format;
  le64 valid_banks;
};
inline constexpr std::uint64_t kVpSetSparse = 0;
inline constexpr std::uint64_t kVpSetAll = 1;

struct FlushExInput {  // then the banks, then the addresses
  le64 address_space;
  le64 flags;
  VpSetHeader processors;
};
static_assert(sizeof(FlushExInput) == 32 && offsetof(FlushExInput, processors) == 16);

struct SendIpiInput {
  le32 vector;
  std::uint8_t target_vtl;
  std::uint8_t padding[3];
  le64 processor_mask;
};
static_assert(sizeof(SendIpiInput) == 16 && offsetof(SendIpiInput, processor_mask) == 8);

struct SendIpiExInput {  // then the banks
  le32 vector;
  std::uint8_t target_vtl;
  std::uint8_t padding[3];
  VpSetHeader processors;
};
static_assert(sizeof(SendIpiExInput) == 24 && offsetof(SendIpiExInput, processors) == 8);

struct PostMessageInput {
  le32 connection_id;
  le32 padding;
  le32 message_type;
  le32 payload_bytes;
  std::byte payload[240];
};
static_assert(sizeof(PostMessageInput) == 256 && offsetof(PostMessageInput, payload) == 16);

struct SignalEventInput {
  le32 connection_id;
  le16 flag;
  le16 reserved;
};
static_assert(sizeof(SignalEventInput) == 8 && offsetof(SignalEventInput, flag) == 4);

struct VpRegistersInput {  // then register names of four bytes each
  le64 partition_id;
  le32 vp_index;
  std::uint8_t target_vtl;
  std::uint8_t padding[3];
};
static_assert(sizeof(VpRegistersInput) == 16 && offsetof(VpRegistersInput, vp_index) == 8);

/// HV_REGISTER_NAME (appendix C): those that mirror an MSR of the partition.
enum class RegisterName : std::uint32_t {
  kHypercall = 0x00090001,
  kGuestOsId = 0x00090002,
  kVpIndex = 0x00090003,
  kReferenceTime = 0x00090004,
  kReferenceTsc = 0x00090017,
};

/// Message types with this bit are the hypervisor's own (11.6).
inline constexpr std::uint32_t kMessageTypeHypervisor = 0x80000000;
/// Vectors that an IPI may carry (10.5.2).
inline constexpr std::uint32_t kFirstIpiVector = 0x10;
inline constexpr std::uint32_t kLastIpiVector = 0xFF;
inline constexpr std::uint32_t kEventFlagCount = 2048;

}  // namespace bygone::spec::tlfs
