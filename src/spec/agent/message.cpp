#include "spec/agent/message.h"

#include <array>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>

#include "spec/agent/cbor.h"

namespace bygone::spec::agent {
namespace {

constexpr std::size_t kLengthSize = 4;

constexpr std::array<std::pair<ReplyError, std::string_view>, 6> kErrorNames{{
    {ReplyError::kBadRequest, "bad-request"},
    {ReplyError::kUnknownRequest, "unknown-request"},
    {ReplyError::kUnsupportedVersion, "unsupported-version"},
    {ReplyError::kNotFound, "not-found"},
    {ReplyError::kNoDisplay, "no-display"},
    {ReplyError::kFailed, "failed"},
}};

// --- writing --------------------------------------------------------------------------------------------------------

/// Collects a map's entries and remembers the first bound that was exceeded.
class MapWriter {
 public:
  void text(std::string_view key, const std::string& value) {
    if (value.size() > kMaximumTextSize || value.find('\0') != std::string::npos) exceeded(key);
    map_.emplace_back(key, CborValue(value));
  }
  void number(std::string_view key, std::uint32_t value) { map_.emplace_back(key, CborValue(std::uint64_t{value})); }
  void signed_number(std::string_view key, std::int32_t value) { map_.emplace_back(key, CborValue(std::int64_t{value})); }
  void flag(std::string_view key, bool value) { map_.emplace_back(key, CborValue(value)); }
  void bytes(std::string_view key, const std::vector<std::byte>& value, std::size_t maximum) {
    if (value.size() > maximum) exceeded(key);
    map_.emplace_back(key, CborValue(value));
  }
  void texts(std::string_view key, const std::vector<std::string>& values, std::size_t maximum) {
    if (values.size() > maximum) exceeded(key);
    CborArray array;
    for (const std::string& value : values) {
      if (value.size() > kMaximumTextSize || value.find('\0') != std::string::npos) exceeded(key);
      array.emplace_back(value);
    }
    map_.emplace_back(key, CborValue(std::move(array)));
  }
  template <typename T>
  void things(std::string_view key, const std::vector<T>& values, std::size_t maximum) {
    if (values.size() > maximum) exceeded(key);
    CborArray array;
    for (const T& value : values) array.push_back(thing(value));
    map_.emplace_back(key, CborValue(std::move(array)));
  }
  template <typename T>
  void one_thing(std::string_view key, const T& value) {
    map_.emplace_back(key, thing(value));
  }

  [[nodiscard]] Result<std::vector<std::byte>> frame() && {
    if (!exceeded_.empty()) return fail(ErrorCode::kOutOfRange, "the field \"{}\" of a message exceeds the protocol's bound", exceeded_);
    const std::vector<std::byte> payload = encode_cbor(CborValue(std::move(map_)));
    if (payload.size() > kMaximumMessageSize) {
      return fail(ErrorCode::kOutOfRange, "a message of {} bytes exceeds the protocol's {}", payload.size(), kMaximumMessageSize);
    }
    std::vector<std::byte> frame(kLengthSize);
    for (std::size_t i = 0; i < kLengthSize; ++i) frame[i] = static_cast<std::byte>(payload.size() >> (8 * i));
    frame.insert(frame.end(), payload.begin(), payload.end());
    return frame;
  }

 private:
  template <typename T>
  [[nodiscard]] CborValue thing(const T& value) {
    MapWriter inner;
    write(inner, value);
    if (!inner.exceeded_.empty()) exceeded(inner.exceeded_);
    return CborValue(std::move(inner.map_));
  }
  void exceeded(std::string_view key) {
    if (exceeded_.empty()) exceeded_ = key;
  }
  static void write(MapWriter& to, const Program& program);
  static void write(MapWriter& to, const Window& window);

  CborMap map_;
  std::string exceeded_;
};

void MapWriter::write(MapWriter& to, const Program& program) {
  to.text("id", program.id);
  to.text("name", program.name);
  to.text("comment", program.comment);
  to.flag("windows", program.is_windows_program);
}

void MapWriter::write(MapWriter& to, const Window& window) {
  to.number("id", window.id);
  to.number("process", window.process);
  to.text("title", window.title);
  to.text("class", window.class_name);
  to.text("instance", window.instance_name);
  to.signed_number("x", window.x);
  to.signed_number("y", window.y);
  to.number("width", window.width);
  to.number("height", window.height);
  to.flag("active", window.is_active);
  to.flag("minimized", window.is_minimized);
}

// The wire name of each kind of message, and its fields. The readers below mirror these one to one.
struct RequestWriter {
  MapWriter& to;
  void name(std::string_view kind) { to.text("do", std::string(kind)); }
  void operator()(const HelloRequest& request) {
    name("hello");
    to.number("version", request.version);
  }
  void operator()(const ListProgramsRequest&) { name("list-programs"); }
  void operator()(const ProgramIconRequest& request) {
    name("program-icon");
    to.text("program", request.program);
    to.number("size", request.size);
  }
  void operator()(const StartProgramRequest& request) {
    name("start-program");
    to.text("program", request.program);
    to.texts("arguments", request.arguments, kMaximumArguments);
  }
  void operator()(const ListWindowsRequest&) { name("list-windows"); }
  void operator()(const WatchRequest&) { name("watch"); }
  void operator()(const LogOffRequest&) { name("log-off"); }
  void operator()(const ShutdownRequest& request) {
    name("shutdown");
    to.flag("restart", request.restart);
  }
  void operator()(const SetScreenRequest& request) {
    name("set-screen");
    to.number("width", request.width);
    to.number("height", request.height);
  }
};

struct ReplyWriter {
  MapWriter& to;
  void name(std::string_view kind) { to.text("reply", std::string(kind)); }
  void operator()(const ErrorReply& reply) {
    name("error");
    for (const auto& [code, wire] : kErrorNames) {
      if (code == reply.code) to.text("code", std::string(wire));
    }
    to.text("text", reply.text);
  }
  void operator()(const DoneReply&) { name("done"); }
  void operator()(const HelloReply& reply) {
    name("hello");
    to.number("version", reply.version);
    to.text("agent", reply.agent);
    to.text("system", reply.system);
    to.flag("display", reply.has_display);
  }
  void operator()(const ProgramsReply& reply) {
    name("programs");
    to.things("programs", reply.programs, kMaximumPrograms);
  }
  void operator()(const IconReply& reply) {
    name("icon");
    to.text("media-type", reply.media_type);
    to.bytes("data", reply.data, kMaximumIconSize);
  }
  void operator()(const StartedReply& reply) {
    name("started");
    to.number("process", reply.process);
  }
  void operator()(const WindowsReply& reply) {
    name("windows");
    to.things("windows", reply.windows, kMaximumWindows);
  }
};

struct EventWriter {
  MapWriter& to;
  void name(std::string_view kind) { to.text("event", std::string(kind)); }
  void operator()(const WindowOpenedEvent& event) {
    name("window-opened");
    to.one_thing("window", event.window);
  }
  void operator()(const WindowChangedEvent& event) {
    name("window-changed");
    to.one_thing("window", event.window);
  }
  void operator()(const WindowClosedEvent& event) {
    name("window-closed");
    to.number("window", event.window);
  }
  void operator()(const ProgramEndedEvent& event) {
    name("program-ended");
    to.number("process", event.process);
    to.signed_number("status", event.status);
  }
};

// --- reading --------------------------------------------------------------------------------------------------------

/// Takes typed fields out of a map and remembers the first one that is missing or wrong. Unknown keys are passed over: a
/// later minor addition must not break this side.
class MapReader {
 public:
  explicit MapReader(const CborMap& map) : map_(map) {}

  [[nodiscard]] std::string text(std::string_view key) {
    const auto* value = get<std::string>(key);
    if (value == nullptr) return {};
    check_text(key, *value);
    return *value;
  }
  [[nodiscard]] std::uint32_t number(std::string_view key) {
    const auto* value = get<std::uint64_t>(key);
    if (value == nullptr) return 0;
    if (*value > std::numeric_limits<std::uint32_t>::max()) wrong(key, "is too large");
    return static_cast<std::uint32_t>(*value);
  }
  [[nodiscard]] std::int32_t signed_number(std::string_view key) {
    const CborValue* value = find(map_, key);
    if (value != nullptr) {
      constexpr std::int64_t kLeast = std::numeric_limits<std::int32_t>::min();
      constexpr std::uint64_t kMost = std::numeric_limits<std::int32_t>::max();
      if (const auto* negative = value->as<std::int64_t>(); negative != nullptr && *negative >= kLeast) {
        return static_cast<std::int32_t>(*negative);
      }
      if (const auto* positive = value->as<std::uint64_t>(); positive != nullptr && *positive <= kMost) {
        return static_cast<std::int32_t>(*positive);
      }
    }
    wrong(key, "is missing or not a 32-bit number");
    return 0;
  }
  [[nodiscard]] bool flag(std::string_view key) {
    const auto* value = get<bool>(key);
    return value != nullptr && *value;
  }
  [[nodiscard]] std::vector<std::byte> bytes(std::string_view key, std::size_t maximum) {
    const auto* value = get<CborBytes>(key);
    if (value == nullptr) return {};
    if (value->size() > maximum) wrong(key, "is too long");
    return *value;
  }
  [[nodiscard]] std::vector<std::string> texts(std::string_view key, std::size_t maximum) {
    std::vector<std::string> result;
    for (const CborValue& element : array(key, maximum)) {
      const auto* value = element.as<std::string>();
      if (value == nullptr) {
        wrong(key, "holds something that is not text");
        break;
      }
      check_text(key, *value);
      result.push_back(*value);
    }
    return result;
  }
  template <typename T>
  [[nodiscard]] std::vector<T> things(std::string_view key, std::size_t maximum) {
    std::vector<T> result;
    for (const CborValue& element : array(key, maximum)) result.push_back(thing<T>(key, element));
    return result;
  }
  template <typename T>
  [[nodiscard]] T one_thing(std::string_view key) {
    const CborValue* value = find(map_, key);
    return value == nullptr ? (wrong(key, "is missing"), T{}) : thing<T>(key, *value);
  }

  [[nodiscard]] bool has(std::string_view key) const { return find(map_, key) != nullptr; }
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  template <typename T>
  [[nodiscard]] const T* get(std::string_view key) {
    const CborValue* value = find(map_, key);
    const T* typed = value == nullptr ? nullptr : value->as<T>();
    if (typed == nullptr) wrong(key, value == nullptr ? "is missing" : "has the wrong type");
    return typed;
  }
  [[nodiscard]] std::span<const CborValue> array(std::string_view key, std::size_t maximum) {
    const auto* elements = get<CborArray>(key);
    if (elements == nullptr) return {};
    if (elements->size() > maximum) {
      wrong(key, "is too long");
      return {};
    }
    return *elements;
  }
  template <typename T>
  [[nodiscard]] T thing(std::string_view key, const CborValue& value) {
    const auto* map = value.as<CborMap>();
    if (map == nullptr) {
      wrong(key, "holds something that is not a map");
      return {};
    }
    MapReader inner(*map);
    T result;
    read(inner, result);
    if (problem_.empty() && !inner.problem_.empty()) problem_ = inner.problem_;
    return result;
  }
  void check_text(std::string_view key, const std::string& value) {
    if (value.size() > kMaximumTextSize) wrong(key, "is too long");
    if (value.find('\0') != std::string::npos) wrong(key, "has a NUL byte");
  }
  void wrong(std::string_view key, std::string_view how) {
    if (problem_.empty()) problem_ = fmt::format("the field \"{}\" {}", key, how);
  }
  static void read(MapReader& from, Program& program);
  static void read(MapReader& from, Window& window);

  const CborMap& map_;
  std::string problem_;
};

void MapReader::read(MapReader& from, Program& program) {
  program.id = from.text("id");
  program.name = from.text("name");
  program.comment = from.text("comment");
  program.is_windows_program = from.flag("windows");
}

void MapReader::read(MapReader& from, Window& window) {
  window.id = from.number("id");
  window.process = from.number("process");
  window.title = from.text("title");
  window.class_name = from.text("class");
  window.instance_name = from.text("instance");
  window.x = from.signed_number("x");
  window.y = from.signed_number("y");
  window.width = from.number("width");
  window.height = from.number("height");
  window.is_active = from.flag("active");
  window.is_minimized = from.flag("minimized");
}

[[nodiscard]] std::optional<RequestBody> read_request(std::string_view kind, MapReader& from) {
  if (kind == "hello") return HelloRequest{from.number("version")};
  if (kind == "list-programs") return ListProgramsRequest{};
  if (kind == "program-icon") {
    ProgramIconRequest request;
    request.program = from.text("program");
    request.size = from.number("size");
    return request;
  }
  if (kind == "start-program") {
    StartProgramRequest request;
    request.program = from.text("program");
    request.arguments = from.texts("arguments", kMaximumArguments);
    return request;
  }
  if (kind == "list-windows") return ListWindowsRequest{};
  if (kind == "watch") return WatchRequest{};
  if (kind == "log-off") return LogOffRequest{};
  if (kind == "shutdown") return ShutdownRequest{from.flag("restart")};
  if (kind == "set-screen") {
    SetScreenRequest request;
    request.width = from.number("width");
    request.height = from.number("height");
    return request;
  }
  return std::nullopt;
}

[[nodiscard]] ErrorReply read_error(MapReader& from) {
  ErrorReply reply;
  const std::string code = from.text("code");
  for (const auto& [value, wire] : kErrorNames) {
    if (wire == code) reply.code = value;  // a code that is not known here is a plain failure with its text
  }
  reply.text = from.text("text");
  return reply;
}

[[nodiscard]] std::optional<ReplyBody> read_reply(std::string_view kind, MapReader& from) {
  if (kind == "error") return read_error(from);
  if (kind == "done") return DoneReply{};
  if (kind == "hello") {
    HelloReply reply;
    reply.version = from.number("version");
    reply.agent = from.text("agent");
    reply.system = from.text("system");
    reply.has_display = from.flag("display");
    return reply;
  }
  if (kind == "programs") return ProgramsReply{from.things<Program>("programs", kMaximumPrograms)};
  if (kind == "icon") {
    IconReply reply;
    reply.media_type = from.text("media-type");
    reply.data = from.bytes("data", kMaximumIconSize);
    return reply;
  }
  if (kind == "started") return StartedReply{from.number("process")};
  if (kind == "windows") return WindowsReply{from.things<Window>("windows", kMaximumWindows)};
  return std::nullopt;
}

[[nodiscard]] std::optional<Event> read_event(std::string_view kind, MapReader& from) {
  if (kind == "window-opened") return WindowOpenedEvent{from.one_thing<Window>("window")};
  if (kind == "window-changed") return WindowChangedEvent{from.one_thing<Window>("window")};
  if (kind == "window-closed") return WindowClosedEvent{from.number("window")};
  if (kind == "program-ended") {
    ProgramEndedEvent event;
    event.process = from.number("process");
    event.status = from.signed_number("status");
    return event;
  }
  return std::nullopt;
}

[[nodiscard]] Result<CborMap> decode_map(std::span<const std::byte> payload) {
  if (payload.size() > kMaximumMessageSize) return fail(ErrorCode::kCorrupt, "a message of {} bytes is too long", payload.size());
  BYGONE_ASSIGN(const CborValue value, decode_cbor(payload));
  const auto* map = value.as<CborMap>();
  if (map == nullptr) return fail(ErrorCode::kCorrupt, "a message is not a map");
  return *map;
}

}  // namespace

Result<std::vector<std::byte>> encode(const Request& request) {
  MapWriter writer;
  writer.number("id", request.id);
  std::visit(RequestWriter{writer}, request.body);
  return std::move(writer).frame();
}

Result<std::vector<std::byte>> encode(const Reply& reply) {
  MapWriter writer;
  writer.number("id", reply.id);
  std::visit(ReplyWriter{writer}, reply.body);
  return std::move(writer).frame();
}

Result<std::vector<std::byte>> encode(const Event& event) {
  MapWriter writer;
  std::visit(EventWriter{writer}, event);
  return std::move(writer).frame();
}

Result<std::variant<Request, RefusedRequest>> decode_request(std::span<const std::byte> payload) {
  BYGONE_ASSIGN(const CborMap map, decode_map(payload));
  MapReader reader(map);
  Request request;
  request.id = reader.number("id");
  const std::string kind = reader.text("do");
  if (!reader.problem().empty()) return fail(ErrorCode::kCorrupt, "a message is not a request: {}", reader.problem());
  std::optional<RequestBody> body = read_request(kind, reader);
  if (!body) {
    return RefusedRequest{request.id, {ReplyError::kUnknownRequest, fmt::format("there is no request \"{}\"", kind.substr(0, 64))}};
  }
  if (!reader.problem().empty()) return RefusedRequest{request.id, {ReplyError::kBadRequest, reader.problem()}};
  request.body = std::move(*body);
  return request;
}

Result<FromAgent> decode_from_agent(std::span<const std::byte> payload) {
  BYGONE_ASSIGN(const CborMap map, decode_map(payload));
  MapReader reader(map);
  if (reader.has("event")) {
    const std::string kind = reader.text("event");
    std::optional<Event> event = read_event(kind, reader);
    if (reader.problem().empty() && !event) return FromAgent(UnknownEvent{});
    if (!reader.problem().empty()) return fail(ErrorCode::kCorrupt, "an event of the agent is not usable: {}", reader.problem());
    return FromAgent(std::move(*event));
  }
  Reply reply;
  reply.id = reader.number("id");
  const std::string kind = reader.text("reply");
  std::optional<ReplyBody> body = read_reply(kind, reader);
  if (reader.problem().empty() && !body) {
    return fail(ErrorCode::kUnsupported, "the agent sent an unknown reply \"{}\"", kind.substr(0, 64));
  }
  if (!reader.problem().empty()) return fail(ErrorCode::kCorrupt, "a reply of the agent is not usable: {}", reader.problem());
  reply.body = std::move(*body);
  return FromAgent(std::move(reply));
}

void FrameReader::append(std::span<const std::byte> bytes) { pending_.insert(pending_.end(), bytes.begin(), bytes.end()); }

Result<std::optional<std::vector<std::byte>>> FrameReader::next() {
  if (pending_.size() < kLengthSize) return std::nullopt;
  std::size_t length = 0;
  for (std::size_t i = kLengthSize; i-- > 0;) length = length << 8 | std::to_integer<std::size_t>(pending_[i]);
  if (length == 0 || length > kMaximumMessageSize) {
    return fail(ErrorCode::kCorrupt, "the peer announces a message of {} bytes; 1 to {} are possible", length, kMaximumMessageSize);
  }
  if (pending_.size() < kLengthSize + length) return std::nullopt;
  const auto begin = pending_.begin() + static_cast<std::ptrdiff_t>(kLengthSize);
  const auto end = begin + static_cast<std::ptrdiff_t>(length);
  std::vector<std::byte> payload(begin, end);
  pending_.erase(pending_.begin(), end);
  return payload;
}

}  // namespace bygone::spec::agent
