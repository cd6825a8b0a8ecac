// The VMBus ring buffer and its packets as they lie in guest memory.
// Source: the interface that Hyper-V's guests implement, as Linux's include/linux/hyperv.h and Microsoft's openvmm describe it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::vmbus {

inline constexpr std::uint32_t kPageSize = 4096;

/// The control page that starts each ring. The data pages follow it.
struct RingControl {
  le32 write_index;        ///< bytes into the data, multiple of 8; the sender moves it
  le32 read_index;         ///< the receiver moves it
  le32 interrupt_mask;     ///< nonzero: the receiver wants no signals
  le32 pending_send_size;  ///< nonzero: the sender waits for more than this much room
  std::uint8_t reserved1[48];
  le32 feature_bits;       ///< kFeaturePendingSendSize
  std::uint8_t reserved2[4028];
};
static_assert(sizeof(RingControl) == kPageSize && offsetof(RingControl, feature_bits) == 64);

/// Set by each side in the ring that it writes: it sets pending_send_size there and honours it in the other ring.
inline constexpr std::uint32_t kFeaturePendingSendSize = 1;

enum class PacketType : std::uint16_t {
  kInvalid = 0,
  kSynchronize = 1,
  kAddTransferPageSet = 2,
  kRemoveTransferPageSet = 3,
  kEstablishGpadl = 4,
  kTearDownGpadl = 5,
  kInBand = 6,
  kTransferPages = 7,
  kGpadl = 8,
  kGpaDirect = 9,
  kCancel = 10,
  kCompletion = 11,
  kAdditionalPackets = 12,
  kAdditionalData = 13,
};

inline constexpr std::uint16_t kPacketFlagCompletionRequested = 1;

struct PacketDescriptor {
  le16 type;
  le16 data_offset8;  ///< from the descriptor to the data, in units of 8 bytes
  le16 length8;       ///< descriptor to the data's end, in units of 8 bytes
  le16 flags;
  le64 transaction_id;
};
static_assert(sizeof(PacketDescriptor) == 16 && offsetof(PacketDescriptor, transaction_id) == 8);

/// After each packet: the offset at which it began, in the upper half.
struct PacketTrailer {
  le32 reserved;
  le32 packet_offset;
};
static_assert(sizeof(PacketTrailer) == 8);

/// Follows the descriptor of a kGpaDirect packet; `range_count` ranges follow.
struct GpaDirectHeader {
  le32 reserved;
  le32 range_count;
};
static_assert(sizeof(GpaDirectHeader) == 8);

/// One run of guest bytes; ceil((byte_offset + byte_count) / 4096) le64 page numbers follow. Also the form of a GPADL's ranges.
struct GpaRangeHeader {
  le32 byte_count;
  le32 byte_offset;
};
static_assert(sizeof(GpaRangeHeader) == 8);

/// Follows the descriptor of a kTransferPages packet; `range_count` TransferPageRanges follow.
struct TransferPagesHeader {
  le16 page_set;
  std::uint8_t sender_owns_set;
  std::uint8_t reserved;
  le32 range_count;
};
static_assert(sizeof(TransferPagesHeader) == 8);

struct TransferPageRange {
  le32 byte_count;
  le32 byte_offset;
};
static_assert(sizeof(TransferPageRange) == 8);

/// What in-band packets of pipe channels carry before their data.
struct PipeHeader {
  le32 type;  ///< kPipeData
  le32 length;
};
static_assert(sizeof(PipeHeader) == 8);
inline constexpr std::uint32_t kPipeData = 1;
inline constexpr std::uint32_t kPipePartial = 2;

}  // namespace bygone::spec::vmbus
