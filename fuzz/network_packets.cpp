// Links: bygone_devices_network
// The network adapter under any messages: protocol, RNDIS control and data, buffers that come and go, completions of any number,
// and frames from a back end in between.
// Input: steps of {u8 operation, u8 argument, u16 length, bytes}.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "devices/network/network_adapter.h"
#include "devices/network/testing_backend.h"
#include "vmbus/testing/fake_guest.h"

using namespace bygone;
namespace nvsp = spec::netvsp;
namespace rndis = spec::rndis;

namespace {

template <typename T>
std::vector<std::byte> message(nvsp::MessageType type, const T& body) {
  const le32 wire_type(static_cast<std::uint32_t>(type));
  std::vector<std::byte> bytes(sizeof wire_type + sizeof body);
  std::memcpy(bytes.data(), &wire_type, sizeof wire_type);
  std::memcpy(bytes.data() + sizeof wire_type, &body, sizeof body);
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  static constexpr std::uint32_t kVersions[] = {nvsp::kVersion1, nvsp::kVersion2, nvsp::kVersion4, nvsp::kVersion5, nvsp::kVersion6, nvsp::kVersion6_1};
  vmbus::testing::FakeGuest guest(4);
  devices::network::TestingBackend backend((data[0] & 1) != 0);
  devices::network::NetworkAdapter adapter({"net0", {}, {2, 0, 0, 0, 0, 9}, {}}, guest.loop(), backend);
  if (!adapter.start()) return 0;
  auto channel = guest.open(adapter, {.ring_pages = 3});
  const std::uint32_t version = kVersions[data[1] % std::size(kVersions)];
  channel->send(message(nvsp::MessageType::kInitialize, nvsp::Initialize{version, version}), 1, true);
  const auto receive_id = guest.create_gpadl(guest.allocate_pages(8));
  const auto send_id = guest.create_gpadl(guest.allocate_pages(6));
  if ((data[0] & 2) == 0) {
    channel->send(message(nvsp::MessageType::kSendReceiveBuffer, nvsp::SendBuffer{receive_id.value, nvsp::kUsualReceiveBufferId}), 1, true);
    channel->send(message(nvsp::MessageType::kSendSendBuffer, nvsp::SendBuffer{send_id.value, 0U}), 1, true);
  }
  const auto pages = guest.allocate_pages(20);
  const auto send_rndis = [&](std::span<const std::byte> bytes, std::uint32_t channel_type, std::uint32_t section, std::uint32_t section_bytes) {
    const auto packet = message(nvsp::MessageType::kSendRndisPacket, nvsp::SendRndisPacket{channel_type, section, section_bytes});
    if (bytes.empty()) return channel->send(packet, 2, true);
    guest.write(pages, 16, bytes);
    return channel->send_gpa_direct(packet, std::span(pages).first((bytes.size() + 16 + 4095) / 4096), 16, static_cast<std::uint32_t>(bytes.size()), 2);
  };
  std::span input(data + 2, size - 2);
  while (input.size() >= 4 && channel->is_open()) {
    const std::uint8_t operation = input[0], argument = input[1];
    const std::size_t length = std::min(std::size_t{input[2]} | std::size_t{input[3]} << 8, input.size() - 4);
    const auto bytes = std::as_bytes(input.subspan(4, length));
    input = input.subspan(4 + length);
    switch (operation % 8) {
      case 0: channel->send(bytes, argument, true); break;  // any protocol message
      case 1: send_rndis(bytes.first(std::min<std::size_t>(bytes.size(), 70000)), argument & 1, (argument & 2) != 0 ? argument >> 2 : nvsp::kNoSendSection, argument * 32U); break;
      case 2: {  // a request for an OID, well formed up to its information
        rndis::Header header;
        rndis::OidRequest request{};
        header.type = static_cast<std::uint32_t>((argument & 1) != 0 ? rndis::MessageType::kSet : rndis::MessageType::kQuery);
        header.length = static_cast<std::uint32_t>(sizeof header + sizeof request + bytes.size());
        std::memcpy(&request, bytes.data(), std::min(bytes.size(), sizeof request));
        request.information_bytes = static_cast<std::uint32_t>(bytes.size());
        request.information_offset = static_cast<std::uint32_t>(sizeof request);
        std::vector<std::byte> all(header.length);
        std::memcpy(all.data(), &header, sizeof header);
        std::memcpy(all.data() + sizeof header, &request, sizeof request);
        std::ranges::copy(bytes, all.begin() + sizeof header + sizeof request);
        send_rndis(all, nvsp::kChannelTypeControl, nvsp::kNoSendSection, 0);
        break;
      }
      case 3: {  // a frame with per-packet information, well formed up to its values
        rndis::Header header;
        rndis::Packet packet{};
        const std::size_t information = std::min<std::size_t>(argument % 64, bytes.size());
        header.type = 1U;
        header.length = static_cast<std::uint32_t>(sizeof header + sizeof packet + bytes.size());
        packet.data_offset = static_cast<std::uint32_t>(sizeof packet + information);
        packet.data_bytes = static_cast<std::uint32_t>(bytes.size() - information);
        packet.information_offset = static_cast<std::uint32_t>(sizeof packet);
        packet.information_bytes = static_cast<std::uint32_t>(information);
        std::vector<std::byte> all(header.length);
        std::memcpy(all.data(), &header, sizeof header);
        std::memcpy(all.data() + sizeof header, &packet, sizeof packet);
        std::ranges::copy(bytes, all.begin() + sizeof header + sizeof packet);
        send_rndis(all, nvsp::kChannelTypeData, nvsp::kNoSendSection, 0);
        break;
      }
      case 4:
        backend.sink->deliver(bytes, {.checksums_are_valid = (argument & 1) != 0, .segment_bytes = static_cast<std::uint16_t>(argument * 16)});
        if ((argument & 2) != 0) backend.sink->finish_delivery();
        break;
      case 5: channel->complete(std::uint64_t{argument} << 32 | length, bytes.first(std::min<std::size_t>(bytes.size(), 64))); break;
      case 6: guest.tear_down_gpadl(*channel, (argument & 1) != 0 ? receive_id : send_id); break;
      default: backend.sink->set_link((argument & 1) != 0); break;
    }
    guest.run();
    // A driver finishes what it gets, mostly.
    while (channel->is_open()) {
      const auto packet = channel->receive();
      if (!packet) break;
      if (packet->type() == vmbus::PacketType::kTransferPages && argument % 16 != 15) channel->complete(packet->transaction_id());
    }
  }
  if (channel->is_open()) {
    const auto state = adapter.save();
    if (!state) __builtin_trap();
    devices::network::TestingBackend other_backend;
    devices::network::NetworkAdapter other({"net0", {}, {2, 0, 0, 0, 0, 9}, {}}, guest.loop(), other_backend);
    if (!other.restore(*state)) __builtin_trap();
  }
  return 0;
}
