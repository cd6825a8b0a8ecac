// The synthetic keyboard protocol, version 1.0. Source: the interface as Linux's hyperv-keyboard driver speaks it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"
#include "support/guid.h"

namespace bygone::spec::keyboard {

inline constexpr Guid kInterface = make_guid(0xf912ad6d, 0x2b17, 0x48ea, {0xbd, 0x65, 0xf9, 0x27, 0xa6, 0x1c, 0x76, 0x84});
inline constexpr Guid kInstance = make_guid(0xd34b2567, 0xb9b6, 0x42b9, {0x87, 0x78, 0x0a, 0x4e, 0xc0, 0xb9, 0x55, 0xbf});

inline constexpr std::uint32_t kVersion1_0 = 0x00010000;

enum class MessageType : std::uint32_t { kProtocolRequest = 1, kProtocolResponse = 2, kEvent = 3, kLedIndicators = 4 };

struct ProtocolRequest {
  le32 type;
  le32 version;
};
struct ProtocolResponse {
  le32 type;
  le32 status;  ///< bit 0: accepted
};

/// A key stroke of scan code set 1.
struct Event {
  le32 type;
  le16 make_code;
  le16 reserved;
  le32 flags;
};
static_assert(sizeof(Event) == 12);
inline constexpr std::uint32_t kIsUnicode = 1, kIsBreak = 2, kIsE0 = 4, kIsE1 = 8;

struct LedIndicators {
  le32 type;
  le16 leds, reserved;  ///< bit 0 scroll, 1 num, 2 caps
};

}  // namespace bygone::spec::keyboard
