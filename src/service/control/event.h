// What a running machine tells its clients unasked. Specification: docs/control-protocol.md.
// Threading: values and pure functions.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "support/result.h"

namespace bygone::service::control {

/// How the picture lies in the file that comes with this event: guest memory, to be mapped read-only. Width 0: the screen is off, no file.
struct ScreenMode {
  std::uint32_t width = 0, height = 0;  ///< pixels
  std::uint32_t stride = 0;             ///< bytes from line to line
  std::uint8_t depth = 32;              ///< bits a pixel: 32 (blue lowest, top byte without meaning) or 16 (5-6-5)
  std::uint64_t offset = 0;             ///< of the first pixel in the file, bytes
  friend bool operator==(const ScreenMode&, const ScreenMode&) = default;
};
/// Pixels; right and bottom are outside.
struct Area {
  std::int32_t left = 0, top = 0, right = 0, bottom = 0;
  friend bool operator==(const Area&, const Area&) = default;
};
struct ScreenDamage {
  std::vector<Area> areas;
};
/// The pointer's picture; its pixels are in the file that comes with this event: `argb`: 4 bytes a pixel, blue first, else 3.
struct PointerShape {
  std::uint32_t width = 0, height = 0, hot_x = 0, hot_y = 0;
  bool is_argb = false;
};
struct PointerMoved {
  bool is_visible = false;
  std::int32_t x = 0, y = 0;
};
enum class State { kStarting, kRunning, kPaused, kSaving, kStopping };
[[nodiscard]] std::string_view to_string(State state);
struct StateChanged {
  State state = State::kRunning;
};
/// The machine has ended; the connection follows.
struct Ended {
  std::string reason;  ///< "powered-off", "crashed", "engine-failed", "stopped", "saved"
  std::string detail;
};
struct LogLine {
  std::string level, part, text;
};

using Event = std::variant<ScreenMode, ScreenDamage, PointerShape, PointerMoved, StateChanged, Ended, LogLine>;

[[nodiscard]] nlohmann::json to_json(const Event& event);
/// Nothing: an event that this version does not know. Errors: kCorrupt.
[[nodiscard]] Result<std::optional<Event>> parse_event(const nlohmann::json& message);

}  // namespace bygone::service::control
