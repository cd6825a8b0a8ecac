#include "service/control/request.h"

#include <array>

#include "library/definition_fields.h"
#include "service/control/fields.h"

namespace bygone::service::control {
namespace {

using Json = nlohmann::json;

// In the order of RequestBody's alternatives.
constexpr std::array<std::string_view, std::variant_size_v<RequestBody>> kNames = {
    "status", "pause", "resume", "reset", "save", "stop", "inspect", "screenshot", "type",
    "keys", "pointer", "click", "resize", "eject", "insert", "console", "watch"};

struct Writer {
  Json& out;
  template <typename Empty>
  void operator()(const Empty&) const {}
  void operator()(const request::Stop& body) const { out["forced"] = body.is_forced; }
  void operator()(const request::Type& body) const { out["text"] = body.text; }
  void operator()(const request::Keys& body) const {
    Json keys = Json::array();
    for (const Key& key : body.keys) {
      Json one = {{"code", key.code}};
      if (key.is_release) one["release"] = true;
      if (key.is_e0) one["e0"] = true;
      if (key.is_e1) one["e1"] = true;
      keys.push_back(std::move(one));
    }
    out["keys"] = std::move(keys);
  }
  void operator()(const request::Pointer& body) const {
    out.update({{"x", body.x}, {"y", body.y}, {"buttons", body.buttons}, {"wheel", body.wheel}, {"pan", body.pan}});
  }
  void operator()(const request::Click& body) const {
    out.update({{"x", body.x}, {"y", body.y}, {"button", body.button}, {"count", body.count}});
  }
  void operator()(const request::Resize& body) const { out.update({{"width", body.width}, {"height", body.height}}); }
  void operator()(const request::Eject& body) const { out.update({{"drive", body.drive}, {"forced", body.is_forced}}); }
  void operator()(const request::Insert& body) const { out.update({{"drive", body.drive}, {"name", body.name}}); }
  void operator()(const request::Watch& body) const { out.update({{"screen", body.screen}, {"log", body.log}}); }
};

struct Reader {
  FieldReader& in;
  const Json& message;
  template <typename Empty>
  void operator()(Empty&) const {}
  void operator()(request::Stop& body) const { in.optional().read("forced", body.is_forced); }
  void operator()(request::Type& body) const { in.read("text", body.text, kMaximumTextBytes); }
  void operator()(request::Keys& body) const {
    const auto keys = message.find("keys");
    if (keys == message.end() || !keys->is_array() || keys->size() > kMaximumKeys) return in.refuse("keys");
    for (const Json& one : *keys) {
      if (!one.is_object()) return in.refuse("keys");
      FieldReader fields(one);
      Key key;
      fields.read("code", key.code, std::uint8_t{1}, std::uint8_t{127});
      fields.optional().read("release", key.is_release);
      fields.read("e0", key.is_e0);
      fields.read("e1", key.is_e1);
      if (!fields.outcome()) return in.refuse("keys");
      body.keys.push_back(key);
    }
  }
  void operator()(request::Pointer& body) const {
    in.read("x", body.x, std::uint16_t{0}, std::uint16_t{32767});
    in.read("y", body.y, std::uint16_t{0}, std::uint16_t{32767});
    in.optional().read("buttons", body.buttons, std::uint8_t{0}, std::uint8_t{31});
    in.read("wheel", body.wheel, std::int8_t{-127}, std::int8_t{127});
    in.read("pan", body.pan, std::int8_t{-127}, std::int8_t{127});
  }
  void operator()(request::Click& body) const {
    in.read("x", body.x, 0U, 16383U);
    in.read("y", body.y, 0U, 16383U);
    in.optional().read("button", body.button, std::uint8_t{0}, std::uint8_t{4});
    in.read("count", body.count, std::uint8_t{1}, std::uint8_t{10});
  }
  void operator()(request::Resize& body) const {
    in.read("width", body.width, library::kLeastScreenWidth, library::kMostScreenWidth);
    in.read("height", body.height, library::kLeastScreenHeight, library::kMostScreenHeight);
  }
  void operator()(request::Eject& body) const {
    in.optional().read("drive", body.drive, std::uint8_t{0}, std::uint8_t{7});
    in.read("forced", body.is_forced);
  }
  void operator()(request::Insert& body) const {
    in.optional().read("drive", body.drive, std::uint8_t{0}, std::uint8_t{7});
    in.read("name", body.name, 4096);
  }
  void operator()(request::Watch& body) const {
    in.optional().read("screen", body.screen);
    in.read("log", body.log);
  }
};

template <std::size_t... I>
RequestBody make_body(std::size_t index, std::index_sequence<I...>) {
  RequestBody body;
  ((index == I ? void(body.emplace<I>()) : void()), ...);
  return body;
}

}  // namespace

std::string_view name_of(const RequestBody& body) { return kNames[body.index()]; }

nlohmann::json to_json(const Request& request) {
  Json message = {{"id", request.id}, {"do", name_of(request.body)}};
  std::visit(Writer{message}, request.body);
  return message;
}

Result<Request> parse_request(const nlohmann::json& message) {
  if (!message.is_object()) return fail(ErrorCode::kCorrupt, "a request that is not an object");
  Request request;
  FieldReader fields(message);
  fields.read("id", request.id);
  std::string name;
  fields.read("do", name, 64);
  BYGONE_CHECK(fields.outcome());
  const auto* const found = std::ranges::find(kNames, name);
  if (found == kNames.end()) return fail(ErrorCode::kUnsupported, "there is no request \"{}\"", name);
  request.body = make_body(static_cast<std::size_t>(found - kNames.begin()), std::make_index_sequence<kNames.size()>());
  std::visit(Reader{fields, message}, request.body);
  BYGONE_CHECK(fields.outcome());
  return request;
}

}  // namespace bygone::service::control
