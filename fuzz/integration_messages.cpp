// Links: bygone_devices_integration
// The integration services under any messages: well-formed answers with some bytes changed, and bytes of any kind; amid what the host
// asks of them, and saved and restored.
// Input: u8 service, then steps of {u8 flags, u16 length, message}. Flags: 1 no pipe header; 2 an answer to what the host asked last,
// in which the message, {u16 offset, u8 value} after {u32 status}, changes bytes; 4 the answer chooses versions out of those that
// are offered; 8 the host wants something; 16 save and restore.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "devices/integration/key_value.h"
#include "devices/integration/services.h"
#include "vmbus/testing/fake_guest.h"

using namespace bygone;
using namespace bygone::devices::integration;
namespace wire = spec::vmbus;

namespace {

struct Services {
  Services(EventLoop& loop, std::uint8_t which) {
    switch (which % 4) {
      case 0: shutdown = std::make_unique<ShutdownService>(loop); break;
      case 1: heartbeat = std::make_unique<HeartbeatService>(loop, std::chrono::hours(1)); break;
      case 2:
        time = std::make_unique<TimeSyncService>(
            loop, TimeSyncService::Clocks{[] { return std::uint64_t{1}; }, [] { return std::uint64_t{2}; }}, std::chrono::hours(1));
        break;
      default: values = std::make_unique<KeyValueService>(loop, KeyValues{{"a", "b"}}, std::chrono::hours(1)); break;
    }
  }
  vmbus::Device& device() {
    if (shutdown) return *shutdown;
    if (heartbeat) return *heartbeat;
    if (time) return *time;
    return *values;
  }
  void want(std::uint8_t what) {
    if (shutdown) {
      shutdown->ask(static_cast<ShutdownService::Kind>(what % 3), static_cast<ShutdownService::Manner>(what / 3 % 2), "why", [](Result<void>) {});
    } else if (time) {
      time->step();
    } else if (values) {
      const std::string key(1, static_cast<char>('a' + what % 26));
      if (what % 3 == 0) (void)values->set(key, "value");
      if (what % 3 == 1) values->remove(key);
      if (what % 3 == 2) values->refresh();
    }
  }
  std::unique_ptr<ShutdownService> shutdown;
  std::unique_ptr<HeartbeatService> heartbeat;
  std::unique_ptr<TimeSyncService> time;
  std::unique_ptr<KeyValueService> values;
};

constexpr std::size_t kHeaderBytes = sizeof(wire::PipeHeader) + sizeof(wire::IntegrationHeader);

/// The host's request as its guest answers it.
std::vector<std::byte> answer(std::vector<std::byte> request, std::uint8_t flags, std::span<const std::uint8_t> changes) {
  if (request.size() < kHeaderBytes) return request;
  wire::IntegrationHeader header;
  std::memcpy(&header, request.data() + sizeof(wire::PipeHeader), sizeof header);
  header.flags = wire::kIntegrationTransaction | wire::kIntegrationResponse;
  if (changes.size() >= 4) {
    std::uint32_t status = 0;
    std::memcpy(&status, changes.data(), sizeof status);
    header.status = status;
    changes = changes.subspan(4);
  }
  std::memcpy(request.data() + sizeof(wire::PipeHeader), &header, sizeof header);
  const auto body = std::span(request).subspan(kHeaderBytes);
  if ((flags & 4) != 0 && body.size() >= sizeof(wire::IntegrationNegotiate)) {
    wire::IntegrationNegotiate counts;
    std::memcpy(&counts, body.data(), sizeof counts);
    const std::size_t offered = std::size_t{counts.framework_count} + counts.service_count;
    if (counts.framework_count != 0 && counts.service_count != 0 && body.size() >= sizeof counts + offered * sizeof(wire::IntegrationVersion)) {
      std::vector<wire::IntegrationVersion> versions(offered);
      std::memcpy(versions.data(), body.data() + sizeof counts, offered * sizeof versions[0]);
      const wire::IntegrationVersion chosen[] = {versions[(flags >> 5) % counts.framework_count],
                                                 versions[counts.framework_count + (flags >> 6) % counts.service_count]};
      counts.framework_count = counts.service_count = std::uint16_t{1};
      std::memcpy(body.data(), &counts, sizeof counts);
      std::memcpy(body.data() + sizeof counts, chosen, sizeof chosen);
    }
  }
  for (; changes.size() >= 3; changes = changes.subspan(3)) {
    request[static_cast<std::size_t>(changes[0] | changes[1] << 8) % request.size()] = std::byte{changes[2]};
  }
  return request;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  vmbus::testing::FakeGuest guest(1);
  Services services(guest.loop(), data[0]);
  vmbus::Device& device = services.device();
  auto channel = guest.open(device);
  std::vector<std::byte> asked;
  std::span input(data + 1, size - 1);
  while (input.size() >= 3 && channel->is_open()) {
    const std::uint8_t flags = input[0];
    const std::size_t length = std::min<std::size_t>(static_cast<std::size_t>(input[1] | input[2] << 8), input.size() - 3);
    const auto body = input.subspan(3, length);
    input = input.subspan(3 + length);
    while (const auto request = channel->receive()) asked.assign(request->payload().begin(), request->payload().end());
    std::vector<std::byte> message;
    if ((flags & 2) != 0) {
      message = answer(asked, flags, body);
    } else {
      const auto add = [&](std::span<const std::byte> bytes) { message.insert(message.end(), bytes.begin(), bytes.end()); };
      if ((flags & 1) == 0) add(bytes_of(wire::PipeHeader{wire::kPipeData, static_cast<std::uint32_t>(length)}));
      add(std::as_bytes(body));
    }
    if ((flags & 8) != 0) services.want(body.empty() ? flags >> 5 : body[0]);
    if ((flags & 16) != 0) {
      const auto state = device.save();
      if (!state || !device.restore(*state)) std::abort();  // what it saves it takes
    }
    if (!channel->send(message)) break;
    guest.run();
    (void)device.inspect();
  }
  return 0;
}
