#include "devices/video/video.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "devices/video/edid.h"
#include "spec/video/synthvid.h"
#include "support/saved_fields.h"

namespace bygone::devices::video {

namespace protocol = spec::synthvid;
using protocol::MessageType;

namespace {

constexpr std::array kVersions = {protocol::kVersion3_0, protocol::kVersion3_2, protocol::kVersion3_3, protocol::kVersion3_4, protocol::kVersion3_5};
constexpr std::uint32_t kMaximumSide = 16384;
constexpr auto kResolutions = std::to_array<Resolution>(
    {{640, 480},   {800, 600},   {1024, 768},  {1152, 864},  {1280, 720},  {1280, 800},  {1280, 1024}, {1440, 900},  {1600, 900},  {1600, 1200}, {1680, 1050},
     {1920, 1080}, {1920, 1200}, {2048, 1152}, {2560, 1080}, {2560, 1440}, {2560, 1600}, {3440, 1440}, {3840, 2160}, {5120, 2880}, {7680, 4320}});

template <typename T>
Result<T> parse(std::span<const std::byte> message, const char* what) {
  T parsed;
  if (message.size() < sizeof parsed) return fail(ErrorCode::kCorrupt, "a cut-off video message ({})", what);
  std::memcpy(&parsed, message.data(), sizeof parsed);
  return parsed;
}

protocol::Header header(MessageType type, std::size_t size) {
  return {static_cast<std::uint32_t>(type), static_cast<std::uint32_t>(size)};
}

std::uint32_t widen_565(std::uint16_t pixel) {
  const std::uint32_t red = pixel >> 11, green = (pixel >> 5) & 0x3F, blue = pixel & 0x1F;
  return ((red * 255 / 31) << 16) | ((green * 255 / 63) << 8) | (blue * 255 / 31);
}

/// 32 bits a pixel, or two masks of one.
std::size_t bytes_of_shape(const PointerShape& shape) { return std::size_t{shape.height} * (shape.is_argb ? shape.width * 4 : (shape.width + 7) / 8 * 2); }

/// A monochrome pointer in colours. What inverts the screen cannot be shown: it is black with a white rim, to be seen on any ground.
PointerShape colour(const PointerShape& shape) {
  constexpr std::uint32_t kBlack = 0xFF000000, kWhite = 0xFFFFFFFF;
  const std::size_t line = (shape.width + 7) / 8;
  const auto bit = [&](std::size_t plane, std::int64_t x, std::int64_t y) {
    const std::size_t at = (plane * shape.height + static_cast<std::size_t>(y)) * line + static_cast<std::size_t>(x) / 8;
    return (shape.data[at] & std::byte{static_cast<std::uint8_t>(0x80 >> x % 8)}) != std::byte{0};
  };
  const auto inverts = [&](std::int64_t x, std::int64_t y) {
    return x >= 0 && y >= 0 && x < shape.width && y < shape.height && bit(0, x, y) && bit(1, x, y);
  };
  PointerShape coloured{shape.width, shape.height, shape.hot_x, shape.hot_y, true, {}};
  coloured.data.reserve(std::size_t{shape.width} * shape.height * 4);
  for (std::int64_t y = 0; y < shape.height; ++y) {
    for (std::int64_t x = 0; x < shape.width; ++x) {
      std::uint32_t pixel = 0;
      if (!bit(0, x, y)) {
        pixel = bit(1, x, y) ? kWhite : kBlack;
      } else if (bit(1, x, y)) {
        pixel = kBlack;
      } else if (inverts(x - 1, y) || inverts(x + 1, y) || inverts(x, y - 1) || inverts(x, y + 1)) {
        pixel = kWhite;
      }
      const le32 wire(pixel);
      coloured.data.insert(coloured.data.end(), bytes_of(wire).begin(), bytes_of(wire).end());
    }
  }
  return coloured;
}

}  // namespace

Video::Video(memory::GuestMemory& memory, VideoOptions options)
    : PacketDevice(
          [&] {
            vmbus::Offer offer{.name = "video", .interface_type = protocol::kInterface, .instance = protocol::kInstance};
            offer.mmio_megabytes = options.vram_megabytes;
            vmbus::set_message_pipe(offer);
            return offer;
          }(),
          vmbus::Framing::kPipe),
      memory_(memory),
      options_(options) {}

ScreenMode Video::mode() const {
  const std::lock_guard lock(mutex_);
  return mode_;
}

Result<void> Video::prefer(Resolution resolution) {
  if (resolution.width == 0 || resolution.height == 0 || !fits(resolution, options_.vram_megabytes)) {
    return std::unexpected(Error{ErrorCode::kOutOfRange,
                                 fmt::format("a screen of {}x{} does not fit {} MiB of video memory", resolution.width, resolution.height,
                                             options_.vram_megabytes),
                                 "Give the machine more of it: video.memory in its definition"});
  }
  if (std::exchange(options_.preferred, resolution) == resolution) return {};
  // Newer drivers hear at once what their screen would like to be.
  if (is_open() && version_ >= protocol::kVersion3_4 && mode().width != 0) send_features();
  return {};
}

Result<Picture> Video::capture() const {
  const ScreenMode mode = this->mode();
  if (mode.width == 0) return fail(ErrorCode::kNotFound, "the guest has not switched its screen on");
  Picture picture{mode.width, mode.height, std::vector<std::uint32_t>(std::size_t{mode.width} * mode.height)};
  std::vector<std::uint16_t> narrow(mode.depth == 16 ? mode.width : 0);
  for (std::uint32_t y = 0; y < mode.height; ++y) {
    const auto line = std::span(picture.pixels).subspan(std::size_t{y} * mode.width, mode.width);
    const memory::Gpa from = mode.address + std::uint64_t{y} * mode.pitch;
    if (mode.depth == 16) {
      BYGONE_CHECK(memory_.read(from, std::as_writable_bytes(std::span(narrow))));
      std::ranges::transform(narrow, line.begin(), widen_565);
    } else {
      BYGONE_CHECK(memory_.read(from, std::as_writable_bytes(line)));
    }
  }
  return picture;
}

void Video::set_mode(const ScreenMode& mode) {
  {
    const std::lock_guard lock(mutex_);
    if (mode_ == mode) return;
    mode_ = mode;
  }
  if (observer_ != nullptr) observer_->mode_changed(mode);
}

void Video::reset() {
  version_ = 0;
  vram_address_.reset();
  shape_ = {};
  shape_is_growing_ = false;
  set_mode({});
}

Result<void> Video::on_open(const vmbus::ChannelParameters& parameters) {
  if (!parameters.is_restored) version_ = 0;
  mode_with_features_ = {};
  return {};
}

void Video::on_close() { version_ = 0; }  // the picture stays: the next driver, or none, takes it over

Result<void> Video::on_message(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto head, parse<protocol::Header>(message, "header"));
  switch (static_cast<MessageType>(head.type.value())) {
    case MessageType::kVersionRequest: return on_version(message);
    case MessageType::kVramLocation: return on_vram_location(message);
    case MessageType::kSituationUpdate: return on_situation(message);
    case MessageType::kPointerPosition: return on_pointer_position(message);
    case MessageType::kPointerShape: return on_pointer_shape(message);
    case MessageType::kDirt: return on_dirt(message);
    case MessageType::kResolutionRequest: return on_resolution_request(message);
    case MessageType::kBiosInfoRequest: {
      protocol::BiosInfoResponse response;
      response.header = header(MessageType::kBiosInfoResponse, sizeof response);
      send_object(response);
      return {};
    }
    case MessageType::kCapabilityRequest: {
      protocol::CapabilityResponse response = {};
      response.header = header(MessageType::kCapabilityResponse, sizeof response);
      send_object(response);
      return {};
    }
    default: return fail(ErrorCode::kCorrupt, "video message type {}", head.type.value());
  }
}

Result<void> Video::on_version(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto request, parse<protocol::VersionRequest>(message, "version request"));
  const std::uint32_t wanted = request.version;
  const bool is_known = std::ranges::find(kVersions, wanted) != kVersions.end();
  protocol::VersionResponse response;
  response.header = header(MessageType::kVersionResponse, sizeof response);
  response.version = wanted;
  response.is_accepted = !is_known ? 0 : wanted >= protocol::kVersion3_3 ? protocol::kAcceptedWithVersionExchange : protocol::kAccepted;
  version_ = is_known ? wanted : 0;
  send_object(response);
  return {};
}

Result<void> Video::on_vram_location(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto location, parse<protocol::VramLocation>(message, "VRAM location"));
  if (location.is_address_specified != 0) {
    if (memory_.host_span({location.address}, memory::kPageSize).empty()) {
      return fail(ErrorCode::kOutOfRange, "the guest put its framebuffer at {:#x}, where no video memory is", location.address.value());
    }
    vram_address_ = location.address.value();
  }
  protocol::Ack ack;
  ack.header = header(MessageType::kVramLocationAck, sizeof ack);
  ack.context = location.context.value();
  send_object(ack);
  return {};
}

Result<void> Video::on_situation(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto situation, parse<protocol::SituationUpdate>(message, "situation"));
  protocol::Ack ack;
  ack.header = header(MessageType::kSituationUpdateAck, sizeof ack);
  ack.context = situation.context.value();
  send_object(ack);
  if (situation.output_count == 0 || situation.is_active == 0 || !vram_address_) {
    set_mode({});
    return {};
  }
  ScreenMode mode{situation.width, situation.height, situation.pitch_bytes, situation.depth_bits,
                  {*vram_address_ + situation.vram_offset}};
  const std::uint64_t line_bytes = std::uint64_t{mode.width} * (mode.depth / 8U);
  // A small mode may look at a part of a framebuffer as wide as the largest: so does an X server on its way from one size to another.
  const bool is_sound = mode.width != 0 && mode.height != 0 && mode.width <= kMaximumSide && mode.height <= kMaximumSide &&
                        (mode.depth == 32 || mode.depth == 16) && mode.pitch >= line_bytes && mode.pitch <= kMaximumSide * 4 &&
                        !memory_.host_span(mode.address, std::uint64_t{mode.height} * mode.pitch).empty();
  if (!is_sound) {
    return fail(ErrorCode::kCorrupt, "a video mode of {}x{} at {} bits, {} bytes a line, does not fit its memory", mode.width, mode.height,
                mode.depth, mode.pitch);
  }
  set_mode(mode);
  request_features(mode);
  return {};
}

// Drivers answer with their situation, to which the next request would be the answer, without end.
void Video::request_features(const ScreenMode& mode) {
  if (mode_with_features_ == mode) return;
  mode_with_features_ = mode;
  send_features();
}

void Video::send_features() {
  protocol::FeatureChange2 features;
  const bool has_edid = version_ >= protocol::kVersion3_4;
  const std::size_t size = has_edid ? sizeof features : sizeof features.base;
  features.base.header = header(MessageType::kFeatureChange, size);
  features.base.wants_dirt = features.base.wants_pointer_position = features.base.wants_pointer_shape = features.base.wants_situation = 1;
  std::ranges::copy(make_edid(options_.preferred.width, options_.preferred.height), features.edid);
  send({bytes_of(features).first(size)});
}

Result<void> Video::on_pointer_position(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto position, parse<protocol::PointerPosition>(message, "pointer position"));
  place_ = {position.is_visible != 0, static_cast<std::int32_t>(position.x.value()), static_cast<std::int32_t>(position.y.value())};
  if (observer_ != nullptr) observer_->pointer_moved(place_.is_visible, place_.x, place_.y);
  return {};
}

Result<void> Video::on_pointer_shape(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto part, parse<protocol::PointerShape>(message, "pointer shape"));
  if (part.width > protocol::kPointerMaximumSide || part.height > protocol::kPointerMaximumSide) {
    return fail(ErrorCode::kCorrupt, "a pointer of {}x{} pixels", part.width.value(), part.height.value());
  }
  // A shape of one part comes with the last part's number at once.
  if (part.part == 0 || !shape_is_growing_) {
    shape_ = {part.width, part.height, part.hot_x, part.hot_y, part.is_argb != 0, {}};
  }
  const std::size_t total = bytes_of_shape(shape_);
  // What the header says of the message's length counts the header for some drivers and not for others.
  const auto data = message.subspan(sizeof part);
  const std::size_t room = total - std::min(total, shape_.data.size());
  shape_.data.insert(shape_.data.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(std::min(room, data.size())));
  shape_is_growing_ = part.part != protocol::kPointerLastPart && shape_.data.size() < total;
  if (is_shape_whole()) show_pointer();
  return {};
}

bool Video::is_shape_whole() const { return !shape_is_growing_ && shape_.width > 0 && shape_.data.size() == bytes_of_shape(shape_); }

void Video::set_observer(ScreenObserver* observer) {
  observer_ = observer;
  if (observer_ == nullptr) return;
  if (const ScreenMode mode = this->mode(); mode.width != 0) observer_->mode_changed(mode);
  if (is_shape_whole()) show_pointer();
}

void Video::show_pointer() {
  if (observer_ == nullptr) return;
  observer_->pointer_shaped(shape_.is_argb ? shape_ : colour(shape_));
  observer_->pointer_moved(place_.is_visible, place_.x, place_.y);
}

Result<void> Video::on_dirt(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto dirt, parse<protocol::Dirt>(message, "dirt"));
  if (message.size() - sizeof dirt < dirt.count * sizeof(protocol::Rectangle)) {
    return fail(ErrorCode::kCorrupt, "a dirt message with fewer than its {} rectangles", dirt.count);
  }
  ++dirty_messages_;
  if (observer_ == nullptr) return {};
  const ScreenMode mode = this->mode();
  const auto clip = [](std::uint32_t value, std::uint32_t limit) {
    return std::clamp(static_cast<std::int32_t>(value), 0, static_cast<std::int32_t>(limit));
  };
  for (std::size_t i = 0; i < dirt.count; ++i) {
    protocol::Rectangle wire;
    std::memcpy(&wire, message.data() + sizeof dirt + i * sizeof wire, sizeof wire);
    const Rectangle area{clip(wire.left, mode.width), clip(wire.top, mode.height), clip(wire.right, mode.width),
                         clip(wire.bottom, mode.height)};
    if (area.left < area.right && area.top < area.bottom) observer_->damaged(area);
  }
  return {};
}

Result<void> Video::on_resolution_request(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto request, parse<protocol::ResolutionRequest>(message, "resolution request"));
  // The largest of the list is for Linux the largest that it will ever switch to.
  std::vector<Resolution> all;
  std::ranges::copy_if(kResolutions, std::back_inserter(all), [&](Resolution one) { return fits(one, options_.vram_megabytes); });
  auto preferred = std::ranges::find(all, options_.preferred);
  if (preferred == all.end()) preferred = all.insert(all.begin(), options_.preferred);
  std::iter_swap(all.begin(), preferred);  // a short list still holds it
  all.resize(std::min<std::size_t>(all.size(), request.maximum_count));

  protocol::ResolutionResponse response;
  std::vector<protocol::Resolution> list;
  list.reserve(all.size());
  for (const Resolution& one : all) list.push_back({one.width, one.height});
  response.header = header(MessageType::kResolutionResponse, sizeof response + list.size() * sizeof list[0]);
  std::ranges::copy(make_edid(options_.preferred.width, options_.preferred.height), response.edid);
  response.count = static_cast<std::uint8_t>(list.size());
  response.default_index = 0;
  send({bytes_of(response), std::as_bytes(std::span(list))});
  return {};
}

nlohmann::json Video::save_pointer() const {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(shape_.data.data());
  return {{"version", 1},
          {"width", shape_.width}, {"height", shape_.height}, {"hot_x", shape_.hot_x}, {"hot_y", shape_.hot_y}, {"argb", shape_.is_argb},
          {"growing", shape_is_growing_}, {"visible", place_.is_visible}, {"x", place_.x}, {"y", place_.y},
          {"data", std::vector<std::uint8_t>(bytes, bytes + shape_.data.size())}};
}

// Guests send the shape when it changes, and the observer of the new machine has seen none.
Result<void> Video::restore_pointer(const nlohmann::json& state) {
  if (!state.contains("pointer")) return {};  // in older states
  PointerShape shape;
  PointerPlace place;
  bool growing = false;
  std::vector<std::uint8_t> data;
  SavedFields fields(state["pointer"], "the pointer", 1);
  fields.read("width", shape.width);
  fields.read("height", shape.height);
  fields.read("hot_x", shape.hot_x);
  fields.read("hot_y", shape.hot_y);
  fields.read("argb", shape.is_argb);
  fields.read("growing", growing);
  fields.read("visible", place.is_visible);
  fields.read("x", place.x);
  fields.read("y", place.y);
  fields.require(shape.width <= protocol::kPointerMaximumSide && shape.height <= protocol::kPointerMaximumSide, "it is larger than the protocol allows");
  BYGONE_CHECK(fields.finish());
  fields.read("data", data, bytes_of_shape(shape));
  BYGONE_CHECK(fields.finish());
  const auto bytes = std::as_bytes(std::span(data));
  shape.data.assign(bytes.begin(), bytes.end());
  shape_ = std::move(shape);
  shape_is_growing_ = growing;
  place_ = place;
  if (is_shape_whole()) show_pointer();
  return {};
}

Result<nlohmann::json> Video::save_state() {
  const ScreenMode mode = this->mode();
  return nlohmann::json{{"version", 1},
                        {"protocol", version_},
                        {"vram", vram_address_.value_or(0)},
                        {"has_vram", vram_address_.has_value()},
                        {"mode", {mode.width, mode.height, mode.pitch, mode.depth, mode.address.value}},
                        {"pointer", save_pointer()}};
}

Result<void> Video::restore_state(const nlohmann::json& state) {
  const auto refuse = [] { return fail(ErrorCode::kCorrupt, "the video device's saved state is not one of this version"); };
  if (!state.is_object() || state.value("version", nlohmann::json()) != 1) return refuse();
  const auto mode = state.value("mode", nlohmann::json()), vram = state.value("vram", nlohmann::json());
  const auto has_vram = state.value("has_vram", nlohmann::json()), version = state.value("protocol", nlohmann::json());
  if (!mode.is_array() || mode.size() != 5 || !vram.is_number_unsigned() || !has_vram.is_boolean() || !version.is_number_unsigned()) return refuse();
  for (const auto& number : mode) {
    if (!number.is_number_unsigned()) return refuse();
  }
  BYGONE_CHECK(restore_pointer(state));
  version_ = version.get<std::uint32_t>();
  vram_address_ = has_vram.get<bool>() ? std::optional(vram.get<std::uint64_t>()) : std::nullopt;
  set_mode({mode[0].get<std::uint32_t>(), mode[1].get<std::uint32_t>(), mode[2].get<std::uint32_t>(), mode[3].get<std::uint8_t>(),
            {mode[4].get<std::uint64_t>()}});
  return {};
}

nlohmann::json Video::inspect() const {
  const ScreenMode mode = this->mode();
  return {{"width", mode.width}, {"height", mode.height}, {"pitch", mode.pitch}, {"depth", mode.depth},
          {"address", mode.address.value}, {"protocol", version_}, {"dirt_messages", dirty_messages_}};
}

}  // namespace bygone::devices::video
