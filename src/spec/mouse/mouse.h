// The synthetic HID (mouse) protocol, version 2.0. Source: the interface as Linux's hid-hyperv driver speaks it; HID 1.11.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"
#include "support/guid.h"

namespace bygone::spec::mouse {

inline constexpr Guid kInterface = make_guid(0xcfa8b69e, 0x5b4a, 0x4cc0, {0xb9, 0x8b, 0x8b, 0xa1, 0xa1, 0xf3, 0xf9, 0x5a});
inline constexpr Guid kInstance = make_guid(0x58f75a6d, 0xd949, 0x4320, {0x99, 0xe1, 0xa2, 0xa2, 0x57, 0x6d, 0x58, 0x1c});

inline constexpr std::uint32_t kVersion2_0 = 0x00020000;

enum class MessageType : std::uint32_t {
  kProtocolRequest = 0,
  kProtocolResponse = 1,
  kInitialDeviceInfo = 2,
  kInitialDeviceInfoAck = 3,
  kInputReport = 4,
};

struct Header {
  le32 type;
  le32 size;  ///< of what follows
};
struct ProtocolRequest {
  Header header;
  le32 version;
};
struct ProtocolResponse {
  Header header;
  le32 version;
  std::uint8_t is_approved = 0;
};
static_assert(sizeof(ProtocolResponse) == 13);

struct HidDescriptor {  // HID 1.11, 6.2.1
  std::uint8_t length = 9;
  std::uint8_t type = 0x21;
  le16 hid_version = std::uint16_t{0x0111};
  std::uint8_t country = 0;
  std::uint8_t descriptor_count = 1;
  std::uint8_t report_type = 0x22;
  le16 report_length;
};
static_assert(sizeof(HidDescriptor) == 9);

/// Followed by the report descriptor's bytes.
struct InitialDeviceInfo {
  Header header;
  le32 size;
  le16 vendor, product, version;
  le16 reserved[11];
  HidDescriptor descriptor;
};
static_assert(sizeof(InitialDeviceInfo) == 8 + 32 + 9);

/// What the report descriptor describes: five buttons, absolute position, wheel and tilt.
struct InputReport {
  std::uint8_t buttons = 0;
  le16 x, y;  ///< 0-32767
  std::uint8_t wheel = 0, pan = 0;
};
static_assert(sizeof(InputReport) == 7);
inline constexpr std::uint16_t kAbsoluteMaximum = 0x7FFF;

}  // namespace bygone::spec::mouse
