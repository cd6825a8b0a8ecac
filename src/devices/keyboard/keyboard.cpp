#include "devices/keyboard/keyboard.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "spec/keyboard/keyboard.h"

namespace bygone::devices::keyboard {

namespace protocol = spec::keyboard;

Keyboard::Keyboard(std::function<void(std::uint8_t)> on_leds)
    : PacketDevice(vmbus::Offer{.name = "keyboard", .interface_type = protocol::kInterface, .instance = protocol::kInstance},
                   vmbus::Framing::kRaw),
      on_leds_(std::move(on_leds)) {}

Result<void> Keyboard::on_open(const vmbus::ChannelParameters& parameters) {
  if (!parameters.is_restored) is_ready_ = false;
  return {};
}

void Keyboard::on_close() { is_ready_ = false; }

Result<void> Keyboard::on_message(std::span<const std::byte> message) {
  le32 type;
  if (message.size() < sizeof type) return fail(ErrorCode::kCorrupt, "a keyboard message of {} bytes", message.size());
  std::memcpy(&type, message.data(), sizeof type);
  switch (static_cast<protocol::MessageType>(type.value())) {
    case protocol::MessageType::kProtocolRequest: {
      protocol::ProtocolRequest request;
      if (message.size() < sizeof request) return fail(ErrorCode::kCorrupt, "a cut-off keyboard protocol request");
      std::memcpy(&request, message.data(), sizeof request);
      is_ready_ = request.version == protocol::kVersion1_0;
      send_object(protocol::ProtocolResponse{static_cast<std::uint32_t>(protocol::MessageType::kProtocolResponse), is_ready_ ? 1U : 0U});
      return {};
    }
    case protocol::MessageType::kLedIndicators: {
      protocol::LedIndicators leds;
      if (message.size() < sizeof leds) return fail(ErrorCode::kCorrupt, "a cut-off keyboard light message");
      std::memcpy(&leds, message.data(), sizeof leds);
      if (on_leds_) on_leds_(static_cast<std::uint8_t>(leds.leds & 7));
      return {};
    }
    case protocol::MessageType::kProtocolResponse:
    case protocol::MessageType::kEvent: break;
  }
  return fail(ErrorCode::kCorrupt, "keyboard message type {}", type.value());
}

bool Keyboard::strike(KeyStroke stroke) {
  if (!is_ready_ || !is_open()) return false;
  protocol::Event event;
  event.type = static_cast<std::uint32_t>(protocol::MessageType::kEvent);
  event.make_code = stroke.code;
  event.flags = (stroke.is_release ? protocol::kIsBreak : 0) | (stroke.is_e0 ? protocol::kIsE0 : 0) | (stroke.is_e1 ? protocol::kIsE1 : 0);
  ++strokes_;
  return send_object(event);
}

Result<nlohmann::json> Keyboard::save_state() { return nlohmann::json{{"version", 1}, {"ready", is_ready_}}; }

Result<void> Keyboard::restore_state(const nlohmann::json& state) {
  const auto ready = state.find("ready");
  if (state.value("version", 0) != 1 || ready == state.end() || !ready->is_boolean()) {
    return fail(ErrorCode::kCorrupt, "the keyboard's saved state is not one of this version");
  }
  is_ready_ = ready->get<bool>();
  return {};
}

nlohmann::json Keyboard::inspect() const { return {{"ready", is_ready_}, {"strokes", strokes_}}; }

}  // namespace bygone::devices::keyboard
