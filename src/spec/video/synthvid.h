// The synthetic video protocol, versions 3.0-3.5. Source: the interface as Linux's hyperv_drm and hyperv_fb drivers speak it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"
#include "support/guid.h"

namespace bygone::spec::synthvid {

inline constexpr Guid kInterface = make_guid(0xda0a7802, 0xe377, 0x4aac, {0x8e, 0x77, 0x05, 0x58, 0xeb, 0x10, 0x73, 0xf8});
inline constexpr Guid kInstance = make_guid(0x5620e0c7, 0x8062, 0x4dce, {0xae, 0xb7, 0x52, 0x0c, 0x7e, 0xf7, 0x61, 0x71});

/// Minor in the high half, major in the low one. Windows 7, 8, 8.1, 10.
inline constexpr std::uint32_t kVersion3_0 = 0x00000003, kVersion3_2 = 0x00020003, kVersion3_3 = 0x00030003, kVersion3_4 = 0x00040003,
                               kVersion3_5 = 0x00050003;

enum class MessageType : std::uint32_t {
  kError = 0,
  kVersionRequest = 1,
  kVersionResponse = 2,
  kVramLocation = 3,
  kVramLocationAck = 4,
  kSituationUpdate = 5,
  kSituationUpdateAck = 6,
  kPointerPosition = 7,
  kPointerShape = 8,
  kFeatureChange = 9,
  kDirt = 10,
  kBiosInfoRequest = 11,   ///< from 3.3 on; nothing follows the header
  kBiosInfoResponse = 12,
  kResolutionRequest = 13,
  kResolutionResponse = 14,
  kCapabilityRequest = 15,  ///< from 3.5 on; nothing follows the header
  kCapabilityResponse = 16,
};

struct Header {
  le32 type;
  le32 size;  ///< of this header and what follows
};
static_assert(sizeof(Header) == 8);

struct VersionRequest {
  Header header;
  le32 version;
};
struct VersionResponse {
  Header header;
  le32 version;
  std::uint8_t is_accepted = 0;
  std::uint8_t maximum_outputs = 1;
};
static_assert(sizeof(VersionResponse) == 14);
inline constexpr std::uint8_t kAccepted = 1;
inline constexpr std::uint8_t kAcceptedWithVersionExchange = 2;

struct VramLocation {
  Header header;
  le64 context;
  std::uint8_t is_address_specified = 0;
  le64 address;
};
static_assert(sizeof(VramLocation) == 25);
struct Ack {
  Header header;
  le64 context;
};

struct SituationUpdate {
  Header header;
  le64 context;
  std::uint8_t output_count = 0;
  std::uint8_t is_active = 0;
  le32 vram_offset;
  std::uint8_t depth_bits = 0;
  le32 width, height, pitch_bytes;
};
static_assert(sizeof(SituationUpdate) == 35);

struct PointerPosition {
  Header header;
  std::uint8_t is_visible = 0;
  std::uint8_t output = 0;
  le32 x, y;  ///< two's complement
};
static_assert(sizeof(PointerPosition) == 18);

/// A shape comes in parts 0, 1, …, of which the last one has kPointerLastPart; so has the only one. Data: 4 bytes a pixel, blue first,
/// or, monochrome, two bitmaps with lines of whole bytes: what is kept of the screen (AND), then what is inverted in it (XOR).
struct PointerShape {
  Header header;
  std::uint8_t part = 0;
  std::uint8_t is_argb = 0;
  le32 width, height, hot_x, hot_y;
};
static_assert(sizeof(PointerShape) == 26);
inline constexpr std::uint8_t kPointerLastPart = 0xFF;
inline constexpr std::uint32_t kPointerMaximumSide = 96;

struct FeatureChange {
  Header header;
  std::uint8_t wants_dirt = 0, wants_pointer_position = 0, wants_pointer_shape = 0, wants_situation = 0;
};
static_assert(sizeof(FeatureChange) == 12);
/// From 3.4 on, where the host may set the resolution.
struct FeatureChange2 {
  FeatureChange base;
  std::uint8_t edid[128] = {};
};
static_assert(sizeof(FeatureChange2) == 140);

struct Rectangle {
  le32 left, top, right, bottom;  ///< two's complement; right and bottom are outside
};
struct Dirt {
  Header header;
  std::uint8_t output = 0;
  std::uint8_t count = 0;
};
static_assert(sizeof(Dirt) == 10 && sizeof(Rectangle) == 16);

struct ResolutionRequest {
  Header header;
  std::uint8_t maximum_count = 0;
};
struct Resolution {
  le16 width, height;
};
struct ResolutionResponse {
  Header header;
  std::uint8_t edid[128] = {};
  std::uint8_t count = 0;
  std::uint8_t default_index = 0;
  std::uint8_t is_standard = 0;
};
static_assert(sizeof(ResolutionResponse) == 139);

struct BiosInfoResponse {
  Header header;
  le32 generation_2 = 1U;  ///< the driver may be stopped
  le32 reserved[3];
};
static_assert(sizeof(BiosInfoResponse) == 24);

struct CapabilityResponse {
  Header header;
  le32 locks_on_disconnect;
  le32 reserved[15];
};
static_assert(sizeof(CapabilityResponse) == 72);

}  // namespace bygone::spec::synthvid
