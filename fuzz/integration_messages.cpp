// Links: bygone_devices_integration
// The integration services under any messages. Input: u8 service, then steps of {u8 flags, u16 length, message}.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "devices/integration/key_value.h"
#include "devices/integration/services.h"
#include "vmbus/testing/fake_guest.h"

using namespace bygone;
using namespace bygone::devices::integration;
namespace wire = spec::vmbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  vmbus::testing::FakeGuest guest(1);
  std::unique_ptr<vmbus::Device> service;
  switch (data[0] % 4) {
    case 0: service = std::make_unique<ShutdownService>(guest.loop()); break;
    case 1: service = std::make_unique<HeartbeatService>(guest.loop(), std::chrono::hours(1)); break;
    case 2:
      service = std::make_unique<TimeSyncService>(
          guest.loop(), TimeSyncService::Clocks{[] { return std::uint64_t{1}; }, [] { return std::uint64_t{2}; }}, std::chrono::hours(1));
      break;
    default: service = std::make_unique<KeyValueService>(guest.loop(), KeyValues{}, std::chrono::hours(1)); break;
  }
  auto channel = guest.open(*service);
  std::span input(data + 1, size - 1);
  while (input.size() >= 3 && channel->is_open()) {
    const std::uint8_t flags = input[0];
    const std::size_t length = std::min<std::size_t>(static_cast<std::size_t>(input[1] | input[2] << 8), input.size() - 3);
    std::vector<std::byte> message;
    const auto add = [&](const auto& object) {
      message.insert(message.end(), bytes_of(object).begin(), bytes_of(object).end());
    };
    if ((flags & 1) == 0) {  // with a sensible pipe header
      add(wire::PipeHeader{wire::kPipeData, static_cast<std::uint32_t>(length)});
    }
    const auto body = std::as_bytes(input.subspan(3, length));
    message.insert(message.end(), body.begin(), body.end());
    input = input.subspan(3 + length);
    if (!channel->send(message)) break;
    while (channel->receive()) {
    }
  }
  return 0;
}
