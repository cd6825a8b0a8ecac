#include "service/control/event.h"

#include <algorithm>
#include <array>

#include "service/control/fields.h"

namespace bygone::service::control {
namespace {

using Json = nlohmann::json;

// In the order of Event's alternatives.
constexpr std::array<std::string_view, std::variant_size_v<Event>> kNames = {"screen-mode", "screen-damage", "pointer-shape",
                                                                             "pointer-moved", "state", "ended", "log"};
constexpr std::array<std::string_view, 5> kStates = {"starting", "running", "paused", "saving", "stopping"};
constexpr std::size_t kMaximumAreas = 1024;
constexpr std::uint32_t kMaximumSide = 16384;

struct Writer {
  Json& out;
  void operator()(const ScreenMode& event) const {
    out.update({{"width", event.width}, {"height", event.height}, {"stride", event.stride}, {"depth", event.depth}, {"offset", event.offset}});
  }
  void operator()(const ScreenDamage& event) const {
    Json areas = Json::array();
    for (const Area& area : event.areas) areas.push_back({area.left, area.top, area.right, area.bottom});
    out["areas"] = std::move(areas);
  }
  void operator()(const PointerShape& event) const {
    out.update({{"width", event.width}, {"height", event.height}, {"hot_x", event.hot_x}, {"hot_y", event.hot_y}, {"argb", event.is_argb}});
  }
  void operator()(const PointerMoved& event) const { out.update({{"visible", event.is_visible}, {"x", event.x}, {"y", event.y}}); }
  void operator()(const StateChanged& event) const { out["state"] = to_string(event.state); }
  void operator()(const Ended& event) const { out.update({{"reason", event.reason}, {"detail", event.detail}}); }
  void operator()(const LogLine& event) const { out.update({{"level", event.level}, {"part", event.part}, {"text", event.text}}); }
};

struct Reader {
  FieldReader& in;
  const Json& message;
  void operator()(ScreenMode& event) const {
    in.read("width", event.width, 0U, kMaximumSide);
    in.read("height", event.height, 0U, kMaximumSide);
    in.read("stride", event.stride, 0U, kMaximumSide * 16);
    in.read("depth", event.depth);
    in.read("offset", event.offset);
    if (event.depth != 16 && event.depth != 32) in.refuse("depth");
    if (event.stride < event.width * (event.depth / 8U)) in.refuse("stride");
  }
  void operator()(ScreenDamage& event) const {
    const auto areas = message.find("areas");
    if (areas == message.end() || !areas->is_array() || areas->size() > kMaximumAreas) return in.refuse("areas");
    for (const Json& area : *areas) {
      const auto is_side = [](const Json& side) { return side.is_number_integer() && side >= 0 && side <= kMaximumSide; };
      if (!area.is_array() || area.size() != 4 || !std::ranges::all_of(area, is_side)) return in.refuse("areas");
      event.areas.push_back({area[0].get<std::int32_t>(), area[1].get<std::int32_t>(), area[2].get<std::int32_t>(), area[3].get<std::int32_t>()});
    }
  }
  void operator()(PointerShape& event) const {
    for (const auto& [name, side] : {std::pair{"width", &event.width}, {"height", &event.height}, {"hot_x", &event.hot_x}, {"hot_y", &event.hot_y}}) {
      in.read(name, *side, 0U, kMaximumSide);
    }
    in.read("argb", event.is_argb);
  }
  void operator()(PointerMoved& event) const {
    in.read("visible", event.is_visible);
    in.read("x", event.x);
    in.read("y", event.y);
  }
  void operator()(StateChanged& event) const {
    std::string name;
    in.read("state", name, 64);
    const auto* const found = std::ranges::find(kStates, name);
    if (found == kStates.end()) return in.refuse("state");
    event.state = static_cast<State>(found - kStates.begin());
  }
  void operator()(Ended& event) const {
    in.read("reason", event.reason, 64);
    in.read("detail", event.detail, 65536);
  }
  void operator()(LogLine& event) const {
    in.read("level", event.level, 64);
    in.read("part", event.part, 256);
    in.read("text", event.text, 65536);
  }
};

template <std::size_t... I>
Event make_event(std::size_t index, std::index_sequence<I...>) {
  Event event;
  ((index == I ? void(event.emplace<I>()) : void()), ...);
  return event;
}

}  // namespace

std::string_view to_string(State state) { return kStates[static_cast<std::size_t>(state)]; }

nlohmann::json to_json(const Event& event) {
  Json message = {{"event", kNames[event.index()]}};
  std::visit(Writer{message}, event);
  return message;
}

Result<std::optional<Event>> parse_event(const nlohmann::json& message) {
  if (!message.is_object()) return fail(ErrorCode::kCorrupt, "an event that is not an object");
  FieldReader fields(message);
  std::string name;
  fields.read("event", name, 64);
  BYGONE_CHECK(fields.outcome());
  const auto* const found = std::ranges::find(kNames, name);
  if (found == kNames.end()) return std::nullopt;
  Event event = make_event(static_cast<std::size_t>(found - kNames.begin()), std::make_index_sequence<kNames.size()>());
  std::visit(Reader{fields, message}, event);
  BYGONE_CHECK(fields.outcome());
  return event;
}

}  // namespace bygone::service::control
