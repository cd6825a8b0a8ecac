// VMBus control messages: what guest and host post to each other through the SynIC.
// Source: the interface that Hyper-V's guests implement, as Linux's include/linux/hyperv.h and Microsoft's openvmm describe it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"
#include "support/guid.h"

namespace bygone::spec::vmbus {

inline constexpr std::uint8_t kMessageSint = 2;
inline constexpr std::uint32_t kSynicMessageType = 1;
inline constexpr std::uint32_t kMessageConnectionId = 1;
inline constexpr std::uint32_t kMessageConnectionId4 = 4;  ///< INITIATE_CONTACT of 5.0 and later
inline constexpr std::uint32_t kSharedEventConnectionId = 2;  ///< all channels' events of guests before dedicated interrupts
inline constexpr std::uint32_t kMaximumChannelId = 2047;       ///< a bit in a VP's event flags
inline constexpr std::uint32_t kMaximumChannelIdInInterruptPage = 255;
inline constexpr std::uint32_t kNoInterrupts = 0xFFFF'FFFF;    ///< as target VP

/// Versions compare as numbers. An unknown one is representable.
enum class Version : std::uint32_t {
  kNone = 0,
  k0_13 = 0x0000'000D,  ///< Vista, Server 2008
  k1_1 = 0x0001'0001,   ///< Windows 7
  k2_4 = 0x0002'0004,   ///< Windows 8
  k3_0 = 0x0003'0000,   ///< Windows 8.1
  k4_0 = 0x0004'0000,   ///< Windows 10
  k4_1 = 0x0004'0001,
  k5_0 = 0x0005'0000,
  k5_1 = 0x0005'0001,
  k5_2 = 0x0005'0002,
  k5_3 = 0x0005'0003,
  k6_0 = 0x0006'0000,
};

/// Feature flags of 6.0.
inline constexpr std::uint32_t kFeatureGuestSpecifiedSignal = 1U << 0;
inline constexpr std::uint32_t kFeatureInterruptRedirection = 1U << 1;
inline constexpr std::uint32_t kFeatureModifyConnection = 1U << 2;
inline constexpr std::uint32_t kFeatureClientId = 1U << 3;
inline constexpr std::uint32_t kFeatureConfidentialChannels = 1U << 4;
inline constexpr std::uint32_t kFeaturePauseResume = 1U << 5;

enum class MessageType : std::uint32_t {
  kInvalid = 0,
  kOfferChannel = 1,
  kRescindChannelOffer = 2,
  kRequestOffers = 3,
  kAllOffersDelivered = 4,
  kOpenChannel = 5,
  kOpenChannelResult = 6,
  kCloseChannel = 7,
  kGpadlHeader = 8,
  kGpadlBody = 9,
  kGpadlCreated = 10,
  kGpadlTeardown = 11,
  kGpadlTorndown = 12,
  kRelIdReleased = 13,
  kInitiateContact = 14,
  kVersionResponse = 15,
  kUnload = 16,
  kUnloadComplete = 17,
  kOpenReservedChannel = 18,
  kCloseReservedChannel = 19,
  kCloseReservedResponse = 20,
  kTlConnectRequest = 21,
  kModifyChannel = 22,
  kTlConnectResult = 23,
  kModifyChannelResponse = 24,
  kModifyConnection = 25,
  kModifyConnectionResponse = 26,
  kPause = 27,
  kPauseResponse = 28,
  kResume = 29,
};

inline constexpr std::uint32_t kStatusSuccess = 0;
inline constexpr std::uint32_t kStatusUnsuccessful = 0x8000'FFFF;
inline constexpr std::uint32_t kStatusConnectionRefused = 0xC000'0236;

struct MessageHeader {
  le32 type;
  le32 padding;
};
static_assert(sizeof(MessageHeader) == 8);

using UserData = std::array<std::uint8_t, 120>;

// Offer flags.
inline constexpr std::uint16_t kOfferEnumerateDeviceInterface = 0x0001;
inline constexpr std::uint16_t kOfferNamedPipeMode = 0x0010;  ///< the user data starts with a pipe type
inline constexpr std::uint16_t kOfferSocket = 0x2000;          ///< offered for a socket connection

// Pipe types: the first four bytes of a pipe offer's user data.
inline constexpr std::uint32_t kPipeTypeByte = 0;
inline constexpr std::uint32_t kPipeTypeMessage = 4;

struct OfferChannel {
  MessageHeader header;
  Guid interface_type;
  Guid instance;
  std::uint8_t reserved[16];
  le16 flags;
  le16 mmio_megabytes;
  UserData user_data;
  le16 subchannel_index;
  le16 mmio_megabytes_optional;
  le32 channel_id;
  std::uint8_t monitor_id;
  std::uint8_t monitor_allocated;
  // From 1.1 on:
  le16 is_dedicated_interrupt;
  le32 connection_id;
};
static_assert(sizeof(OfferChannel) == 196 && offsetof(OfferChannel, connection_id) == 192);
inline constexpr std::size_t kOfferChannelSize0_13 = 190;

struct RescindChannelOffer {
  MessageHeader header;
  le32 channel_id;
};
static_assert(sizeof(RescindChannelOffer) == 12);

struct OpenChannel {
  MessageHeader header;
  le32 channel_id;
  le32 open_id;
  le32 ring_gpadl;
  le32 target_vp;
  le32 downstream_page_offset;
  UserData user_data;
};
static_assert(sizeof(OpenChannel) == 148);

struct OpenChannelResult {
  MessageHeader header;
  le32 channel_id;
  le32 open_id;
  le32 status;
};
static_assert(sizeof(OpenChannelResult) == 20);

struct CloseChannel {
  MessageHeader header;
  le32 channel_id;
};
static_assert(sizeof(CloseChannel) == 12);

/// GpaRangeHeaders with their page numbers follow, as far as they fit; GPADL bodies carry the rest.
struct GpadlHeader {
  MessageHeader header;
  le32 channel_id;
  le32 gpadl;
  le16 range_bytes;
  le16 range_count;
};
static_assert(sizeof(GpadlHeader) == 20);

/// More of the same bytes follow.
struct GpadlBody {
  MessageHeader header;
  le32 message_number;
  le32 gpadl;
};
static_assert(sizeof(GpadlBody) == 16);

struct GpadlCreated {
  MessageHeader header;
  le32 channel_id;
  le32 gpadl;
  le32 status;
};
static_assert(sizeof(GpadlCreated) == 20);

struct GpadlTeardown {
  MessageHeader header;
  le32 channel_id;
  le32 gpadl;
};
static_assert(sizeof(GpadlTeardown) == 16);

struct GpadlTorndown {
  MessageHeader header;
  le32 gpadl;
};
static_assert(sizeof(GpadlTorndown) == 12);

struct RelIdReleased {
  MessageHeader header;
  le32 channel_id;
};
static_assert(sizeof(RelIdReleased) == 12);

struct InitiateContact {
  MessageHeader header;
  le32 version;
  le32 target_message_vp;
  /// Before 5.0 the interrupt page's address; from then on SINT (byte 0), VTL (byte 1), feature flags of 6.0 (bytes 4-7).
  le64 interrupt_page_or_target;
  le64 parent_to_child_monitor_page;
  le64 child_to_parent_monitor_page;
};
static_assert(sizeof(InitiateContact) == 40);

/// 6.0 with kFeatureClientId.
struct InitiateContact2 {
  InitiateContact base;
  Guid client_id;
};
static_assert(sizeof(InitiateContact2) == 56);

inline constexpr std::uint8_t kConnectionSuccessful = 0;
inline constexpr std::uint8_t kConnectionFailedLowResources = 1;
inline constexpr std::uint8_t kConnectionFailedUnknown = 2;

struct VersionResponse {
  MessageHeader header;
  std::uint8_t version_supported;
  std::uint8_t connection_state;
  le16 padding;
  le32 selected_version_or_connection_id;  ///< from 5.0 on the connection id for the guest's further messages
};
static_assert(sizeof(VersionResponse) == 16);

/// To supported requests of 6.0 and later.
struct VersionResponse2 {
  VersionResponse base;
  le32 supported_features;
};
static_assert(sizeof(VersionResponse2) == 20);

struct TlConnectRequest {
  MessageHeader header;
  Guid endpoint;
  Guid service;
};
static_assert(sizeof(TlConnectRequest) == 40);

struct TlConnectRequest2 {
  TlConnectRequest base;
  Guid silo;
};
static_assert(sizeof(TlConnectRequest2) == 56);

struct TlConnectResult {
  MessageHeader header;
  Guid endpoint;
  Guid service;
  le32 status;
};
static_assert(sizeof(TlConnectResult) == 44);

struct ModifyChannel {
  MessageHeader header;
  le32 channel_id;
  le32 target_vp;
};
static_assert(sizeof(ModifyChannel) == 16);

struct ModifyChannelResponse {
  MessageHeader header;
  le32 channel_id;
  le32 status;
};
static_assert(sizeof(ModifyChannelResponse) == 16);

}  // namespace bygone::spec::vmbus
