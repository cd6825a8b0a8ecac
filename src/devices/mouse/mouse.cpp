#include "devices/mouse/mouse.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "spec/mouse/mouse.h"

namespace bygone::devices::mouse {

namespace protocol = spec::mouse;
using protocol::MessageType;

namespace {

// HID 1.11, 6.2.2, and the usage tables 1.12: the layout of protocol::InputReport.
constexpr std::array<std::uint8_t, 73> kReportDescriptor = {
    0x05, 0x01,                    // usage page: generic desktop
    0x09, 0x02,                    // usage: mouse
    0xA1, 0x01,                    // collection: application
    0x09, 0x01,                    //   usage: pointer
    0xA1, 0x00,                    //   collection: physical
    0x05, 0x09,                    //     usage page: buttons
    0x19, 0x01, 0x29, 0x05,        //     1 to 5
    0x15, 0x00, 0x25, 0x01,        //     values 0 to 1
    0x95, 0x05, 0x75, 0x01,        //     five of one bit
    0x81, 0x02,                    //     input: variable, absolute
    0x95, 0x01, 0x75, 0x03,        //     one of three bits
    0x81, 0x01,                    //     input: constant
    0x05, 0x01,                    //     usage page: generic desktop
    0x09, 0x30, 0x09, 0x31,        //     usages: X, Y
    0x15, 0x00, 0x26, 0xFF, 0x7F,  //     values 0 to 32767
    0x95, 0x02, 0x75, 0x10,        //     two of sixteen bits
    0x81, 0x02,                    //     input: variable, absolute
    0x09, 0x38,                    //     usage: wheel
    0x15, 0x81, 0x25, 0x7F,        //     values -127 to 127
    0x95, 0x01, 0x75, 0x08,        //     one of eight bits
    0x81, 0x06,                    //     input: variable, relative
    0x05, 0x0C,                    //     usage page: consumer
    0x0A, 0x38, 0x02,              //     usage: AC pan
    0x95, 0x01, 0x81, 0x06,        //     one, input: variable, relative
    0xC0, 0xC0,                    // end both collections
};

}  // namespace

Mouse::Mouse()
    : PacketDevice(
          [] {
            vmbus::Offer offer{.name = "mouse", .interface_type = protocol::kInterface, .instance = protocol::kInstance};
            vmbus::set_message_pipe(offer);
            return offer;
          }(),
          vmbus::Framing::kPipe) {}

Result<void> Mouse::on_open(const vmbus::ChannelParameters& parameters) {
  if (!parameters.is_restored) is_ready_ = false;
  return {};
}

void Mouse::on_close() { is_ready_ = false; }

Result<void> Mouse::on_message(std::span<const std::byte> message) {
  protocol::Header header;
  if (message.size() < sizeof header) return fail(ErrorCode::kCorrupt, "a mouse message of {} bytes", message.size());
  std::memcpy(&header, message.data(), sizeof header);
  switch (static_cast<MessageType>(header.type.value())) {
    case MessageType::kProtocolRequest: {
      protocol::ProtocolRequest request;
      if (message.size() < sizeof request) return fail(ErrorCode::kCorrupt, "a cut-off mouse protocol request");
      std::memcpy(&request, message.data(), sizeof request);
      protocol::ProtocolResponse response;
      response.header = {static_cast<std::uint32_t>(MessageType::kProtocolResponse),
                         static_cast<std::uint32_t>(sizeof response - sizeof header)};
      response.version = request.version.value();
      response.is_approved = request.version == protocol::kVersion2_0 ? 1 : 0;
      send_object(response);
      if (response.is_approved != 0) send_device_info();
      return {};
    }
    case MessageType::kInitialDeviceInfoAck: is_ready_ = true; return {};
    case MessageType::kProtocolResponse:
    case MessageType::kInitialDeviceInfo:
    case MessageType::kInputReport: break;
  }
  return fail(ErrorCode::kCorrupt, "mouse message type {}", header.type.value());
}

void Mouse::send_device_info() {
  protocol::InitialDeviceInfo info;
  info.header = {static_cast<std::uint32_t>(MessageType::kInitialDeviceInfo),
                 static_cast<std::uint32_t>(sizeof info - sizeof info.header + kReportDescriptor.size())};
  info.size = std::uint32_t{32};
  info.vendor = std::uint16_t{0x045E};
  info.product = std::uint16_t{0x0621};
  info.version = std::uint16_t{1};
  info.descriptor.report_length = static_cast<std::uint16_t>(kReportDescriptor.size());
  send({bytes_of(info), std::as_bytes(std::span(kReportDescriptor))});
}

bool Mouse::move(PointerState state) {
  if (!is_ready_ || !is_open()) return false;
  protocol::InputReport report;
  report.buttons = state.buttons & 0x1F;
  report.x = std::min(state.x, protocol::kAbsoluteMaximum);
  report.y = std::min(state.y, protocol::kAbsoluteMaximum);
  report.wheel = static_cast<std::uint8_t>(state.wheel);
  report.pan = static_cast<std::uint8_t>(state.pan);
  const protocol::Header header{static_cast<std::uint32_t>(MessageType::kInputReport), static_cast<std::uint32_t>(sizeof report)};
  ++reports_;
  return send({bytes_of(header), bytes_of(report)});
}

Result<nlohmann::json> Mouse::save_state() { return nlohmann::json{{"version", 1}, {"ready", is_ready_}}; }

Result<void> Mouse::restore_state(const nlohmann::json& state) {
  const auto ready = state.find("ready");
  if (state.value("version", 0) != 1 || ready == state.end() || !ready->is_boolean()) {
    return fail(ErrorCode::kCorrupt, "the mouse's saved state is not one of this version");
  }
  is_ready_ = ready->get<bool>();
  return {};
}

nlohmann::json Mouse::inspect() const { return {{"ready", is_ready_}, {"reports", reports_}}; }

}  // namespace bygone::devices::mouse
