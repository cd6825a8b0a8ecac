// VMBus channel management messages (Linux include/linux/hyperv.h and drivers/hv describe the same wire format).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <BygoneHyperV.h>
#include <Protocol/VmbusChannel.h>

namespace bygone::vmbus {

constexpr UINT32 kHypervisorMessageType = 1;
constexpr UINT32 kSint = 2;

/// Where messages to the host go, first.
enum class Connection : UINT32 {
  kMessages = 1,          ///< for versions below 5.0
  kInitiateContact5 = 4,  ///< for INITIATE_CONTACT from 5.0 on
};

enum class Version : UINT32 { k2_4 = 2 << 16 | 4, k3_0 = 3 << 16, k4_0 = 4 << 16, k5_0 = 5 << 16 };

enum class MessageType : UINT32 {
  kOffer = 1,
  kRescind = 2,
  kRequestOffers = 3,
  kOffersDelivered = 4,
  kOpen = 5,
  kOpenResult = 6,
  kClose = 7,
  kGpadlHeader = 8,
  kGpadlBody = 9,
  kGpadlCreated = 10,
  kGpadlTeardown = 11,
  kGpadlTorndown = 12,
  kRelidReleased = 13,
  kInitiateContact = 14,
  kVersionResponse = 15,
  kUnload = 16,
  kUnloadResponse = 17,
};

#pragma pack(1)

/// What a message begins with. One that is made has its type and else zeros.
template <MessageType type_of_message>
struct Message {
  static constexpr MessageType kType = type_of_message;
  MessageType type = kType;
  UINT32 padding = 0;
};

using RequestOffers = Message<MessageType::kRequestOffers>;
using OffersDelivered = Message<MessageType::kOffersDelivered>;
using Unload = Message<MessageType::kUnload>;
using UnloadResponse = Message<MessageType::kUnloadResponse>;

struct Offer : Message<MessageType::kOffer> {
  EFI_GUID interface_type;
  EFI_GUID interface_instance;
  UINT64 reserved[2];
  UINT16 flags;
  UINT16 mmio_megabytes;
  UINT8 user_defined[120];
  UINT16 subchannel_index;
  UINT16 reserved3;
  UINT32 child_relid;
  UINT8 monitor_id;
  UINT8 monitor_allocated;
  UINT16 dedicated_interrupt;
  UINT32 connection_id;
};

struct OpenChannel : Message<MessageType::kOpen> {
  UINT32 child_relid;
  UINT32 open_id;
  UINT32 ring_gpadl;
  UINT32 target_vp;
  UINT32 downstream_page_offset;
  UINT8 user_data[120];
};

struct OpenResult : Message<MessageType::kOpenResult> {
  UINT32 child_relid;
  UINT32 open_id;
  UINT32 status;
};

struct CloseChannel : Message<MessageType::kClose> {
  UINT32 child_relid;
};

/// Pages in a header message: what 240 bytes leave after the fixed part.
constexpr UINTN kGpadlHeaderPages = 26;
constexpr UINTN kGpadlBodyPages = 28;

struct GpadlHeader : Message<MessageType::kGpadlHeader> {
  UINT32 child_relid;
  UINT32 gpadl;
  UINT16 range_bytes;
  UINT16 range_count;
  UINT32 byte_count;
  UINT32 byte_offset;
  UINT64 page[kGpadlHeaderPages];
};

struct GpadlBody : Message<MessageType::kGpadlBody> {
  UINT32 message_number;
  UINT32 gpadl;
  UINT64 page[kGpadlBodyPages];
};

struct GpadlCreated : Message<MessageType::kGpadlCreated> {
  UINT32 child_relid;
  UINT32 gpadl;
  UINT32 status;
};

struct GpadlTeardown : Message<MessageType::kGpadlTeardown> {
  UINT32 child_relid;
  UINT32 gpadl;
};

struct GpadlTorndown : Message<MessageType::kGpadlTorndown> {
  UINT32 gpadl;
};

struct InitiateContact : Message<MessageType::kInitiateContact> {
  Version version;
  UINT32 target_vp;
  UINT64 interrupt_page;  ///< from 5.0 on: the target SINT in the low byte
  UINT64 monitor_page1;
  UINT64 monitor_page2;
};

struct VersionResponse : Message<MessageType::kVersionResponse> {
  UINT8 supported;
  UINT8 state;
  UINT16 reserved;
  Connection connection;  ///< from 5.0 on: where further messages go
};

/// A ring's control page (4 KiB); the guest's and the host's views are the same.
struct RingControl {
  UINT32 write_index;
  UINT32 read_index;
  UINT32 interrupt_mask;
  UINT32 pending_send_size;
  UINT32 reserved[12];
  UINT32 feature_bits;  ///< bit 0: pending_send_size is used
};

struct PacketHeader {
  ChannelPacketType type;
  UINT16 data_offset8;
  UINT16 length8;
  UINT16 flags;  ///< bit 0: completion requested
  UINT64 transaction;
};

struct GpaRange {
  UINT32 reserved;
  UINT32 range_count;
  UINT32 byte_count;
  UINT32 byte_offset;
};

#pragma pack()

static_assert(sizeof(Offer) == 196 && sizeof(OpenChannel) == 148 && sizeof(OpenResult) == 20 && sizeof(CloseChannel) == 12);
static_assert(sizeof(GpadlHeader) == 236 && sizeof(GpadlBody) == 240 && sizeof(GpadlCreated) == 20 && sizeof(GpadlTeardown) == 16);
static_assert(sizeof(InitiateContact) == 40 && sizeof(VersionResponse) == 16 && sizeof(RingControl) == 68 && sizeof(PacketHeader) == 16);

/// A message from the host, copied out of its slot.
class Payload {
 public:
  UINT8* bytes() { return bytes_; }
  /// Null if it is another.
  template <typename T>
  const T* as() const {
    static_assert(sizeof(T) <= sizeof bytes_);
    const auto* const message = reinterpret_cast<const T*>(bytes_);
    return message->type == T::kType ? message : nullptr;
  }

 private:
  alignas(8) UINT8 bytes_[hyperv::kMessagePayloadBytes] = {};
};

}  // namespace bygone::vmbus
