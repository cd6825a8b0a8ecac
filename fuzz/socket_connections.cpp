// Links: bygone_devices_sockets
// The machine's sockets under a hostile guest: any packets in the rings, connect requests, channels opened and closed at any time.
// Input: steps of {u8 operation, u8 which, u8 length, bytes}.
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <map>

#include "devices/sockets/sockets.h"
#include "devices/sockets/unix_socket.h"
#include "spec/hvsocket/hvsocket.h"
#include "spec/vmbus/ring.h"
#include "vmbus/testing/fake_guest.h"

namespace {

using namespace bygone;
namespace sockets = bygone::devices::sockets;
using vmbus::testing::FakeGuest;
using vmbus::testing::GuestChannel;

struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "fuzz-sockets.XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

/// The machine's sockets and their guest; one for each input.
struct World {
  explicit World(const std::filesystem::path& folder) {
    sockets::SocketBus bus;
    bus.is_ready = [] { return true; };
    bus.add = [this](vmbus::Device& connection) -> Result<void> {
      offered.push_back(&connection);
      return {};
    };
    bus.remove = [this](vmbus::Device& connection, std::move_only_function<void()> removed) {
      guest.loop().post([this, &connection, removed = std::move(removed)]() mutable {
        channels.erase(&connection);
        std::erase(offered, &connection);
        removed();
      });
    };
    bus.refuse = [](const Guid&, const Guid&) {};
    auto created = sockets::Sockets::create({.directory = folder, .ports = {1}}, guest.loop(), std::move(bus), Log());
    if (!created) std::abort();
    device = std::move(*created);
  }
  ~World() {
    channels.clear();
    device.reset();
  }

  FakeGuest guest{2};
  std::vector<vmbus::Device*> offered;
  std::map<vmbus::Device*, std::unique_ptr<GuestChannel>> channels;
  std::vector<UniqueFd> programs;
  std::unique_ptr<sockets::Sockets> device;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  static const Folder folder;
  static const auto listener = sockets::listen_at(folder.path / "host-2");
  World world(folder.path);
  std::size_t at = 0;
  const auto next = [&]() -> std::uint8_t { return at < size ? input[at++] : 0; };
  for (int step = 0; step < 64 && at < size; ++step) {
    const std::uint8_t operation = next(), which = next();
    const std::size_t length = std::min<std::size_t>(next(), size - at);
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(input + at), length);
    at += length;
    vmbus::Device* target = world.offered.empty() ? nullptr : world.offered[which % world.offered.size()];
    const auto channel = world.channels.find(target);
    const bool is_open = channel != world.channels.end() && channel->second->is_open();
    switch (operation % 9) {
      case 0:
        if (auto program = sockets::connect_to(folder.path / "guest-1")) world.programs.push_back(std::move(*program));
        break;
      case 1:
        if (auto program = sockets::connect_to(folder.path / "connect")) {
          [[maybe_unused]] const auto ignored = ::send(program->get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
          world.programs.push_back(std::move(*program));
        }
        break;
      case 2: world.device->connect_from_guest(spec::hvsocket::service_of_port(which), spec::hvsocket::service_of_port(2)); break;
      case 3:
        if (target != nullptr && !is_open && world.channels.size() < 4) world.channels[target] = world.guest.open(*target, {.ring_pages = 3});
        break;
      case 4:
        if (is_open) channel->second->send(bytes, 1, which % 2 == 1);
        break;
      case 5:
        if (is_open) {
          spec::vmbus::PipeHeader header;
          header.type = spec::vmbus::kPipeData;
          header.length = static_cast<std::uint32_t>(bytes.size());
          std::vector<std::byte> packet(sizeof header + bytes.size());
          std::memcpy(packet.data(), &header, sizeof header);
          std::copy(bytes.begin(), bytes.end(), packet.begin() + sizeof header);
          channel->second->send(packet);
        }
        break;
      case 6:
        if (is_open && bytes.size() >= 8) {
          channel->second->to_host_pages().store(vmbus::RingPages::Field::kWriteIndex, input[at - length]);
          channel->second->to_guest_pages().store(vmbus::RingPages::Field::kReadIndex, input[at - length + 1]);
          channel->second->signal();
        }
        break;
      case 7:
        if (is_open) channel->second->close();
        break;
      default:
        if (!world.programs.empty()) {
          UniqueFd& program = world.programs[which % world.programs.size()];
          if (length % 3 == 0) program.reset();
          else if (length % 3 == 1) ::shutdown(program.get(), SHUT_WR);
          else {
            [[maybe_unused]] const auto ignored = ::send(program.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
          }
        }
        break;
    }
    world.guest.run();
  }
  world.guest.run();
  if (listener) {
    for (UniqueFd taken; (taken = UniqueFd(::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)));) {
    }
  }
  return 0;
}
