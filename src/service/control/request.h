// What a client may ask of a running machine. Specification: docs/control-protocol.md.
// Threading: values and pure functions.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "support/result.h"

namespace bygone::service::control {

inline constexpr std::size_t kMaximumTextBytes = 16384;
inline constexpr std::size_t kMaximumKeys = 1024;

/// A key of scan code set 1: the make code without its prefix.
struct Key {
  std::uint8_t code = 0;
  bool is_release = false, is_e0 = false, is_e1 = false;
  friend bool operator==(const Key&, const Key&) = default;
};

namespace request {
struct Status {};
struct Pause {};
struct Resume {};
struct Reset {};
struct Save {};      ///< writes the whole state and ends
struct Stop {
  bool is_forced = false;  ///< pulls the plug instead of asking the guest
};
struct Inspect {};   ///< the reply brings JSON in a file
struct Screenshot {};  ///< the reply brings pixels in a file
struct Type {
  std::string text;
};
struct Keys {
  std::vector<Key> keys;
};
struct Pointer {
  std::uint16_t x = 0, y = 0;  ///< 0 to 32767 over the screen
  std::uint8_t buttons = 0;    ///< bit 0 left, 1 right, 2 middle, 3 back, 4 forward
  std::int8_t wheel = 0, pan = 0;
};
struct Click {
  std::uint32_t x = 0, y = 0;  ///< pixels of the guest's screen
  std::uint8_t button = 0;     ///< 0 left, 1 right, 2 middle
  std::uint8_t count = 1;
};
struct Resize {
  std::uint16_t width = 0, height = 0;
};
struct Eject {
  std::uint8_t drive = 0;
  bool is_forced = false;
};
/// Brings the opened image as a file.
struct Insert {
  std::uint8_t drive = 0;
  std::string name;  ///< its absolute path: for messages, and for putting it back when the machine is saved and resumed
};
struct Console {};  ///< the reply brings a stream socket that is COM1
struct Watch {
  bool screen = false, log = false;  ///< changes of state are told to everybody
};
}  // namespace request

using RequestBody = std::variant<request::Status, request::Pause, request::Resume, request::Reset, request::Save, request::Stop,
                                 request::Inspect, request::Screenshot, request::Type, request::Keys, request::Pointer, request::Click,
                                 request::Resize, request::Eject, request::Insert, request::Console, request::Watch>;

struct Request {
  std::uint64_t id = 0;
  RequestBody body;
};

/// What "do" says for a request.
[[nodiscard]] std::string_view name_of(const RequestBody& body);
[[nodiscard]] nlohmann::json to_json(const Request& request);
/// Errors: kCorrupt (a field is missing, wrong or out of range), kUnsupported (nothing of that name).
[[nodiscard]] Result<Request> parse_request(const nlohmann::json& message);

}  // namespace bygone::service::control
