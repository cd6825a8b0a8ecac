// From a key of the host's keyboard to what the guest's keyboard sends: scan code set 1 (IBM PC/AT 8042 and its successors).
//
// Keys are named by Linux input codes (linux/input-event-codes.h). X11 and Wayland give them to Qt as "native scan
// codes", 8 higher. Layouts are the guest's business: what goes over is the place of the key.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bygone::window {

/// What one press or release of a key sends. `code` is a set-1 make code without prefix.
struct ScanCode {
  std::uint8_t code = 0;
  bool is_e0 = false;
  bool is_e1 = false;
  friend bool operator==(const ScanCode&, const ScanCode&) = default;
};

/// The difference between a native scan code of X11 or Wayland and a Linux input code.
inline constexpr std::uint32_t kNativeOffset = 8;

/// The codes, in order, that a press of key `linux_code` sends; empty for keys that PC keyboards do not have. A release sends the same
/// codes with the release bit. Only Pause has more than one.
[[nodiscard]] std::span<const ScanCode> scan_codes(std::uint32_t linux_code);

}  // namespace bygone::window
