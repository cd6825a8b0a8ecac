// Links: bygone_devices_video bygone_devices_keyboard bygone_devices_mouse
// Screen, keyboard and mouse under any messages, and saved and restored amid them.
// Input: u8 device, then steps of {u8 flags, u8 type, u16 length, body}. Flags: 1 no pipe header, 2 the message begins with its type
// and length as the device's protocol has them, 4 the host strikes a key or moves the pointer, 8 save and restore.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "devices/keyboard/keyboard.h"
#include "devices/mouse/mouse.h"
#include "devices/video/video.h"
#include "spec/video/synthvid.h"
#include "vmbus/testing/fake_guest.h"

using namespace bygone;
using devices::keyboard::Keyboard;
using devices::mouse::Mouse;
using devices::video::Video;
namespace wire = spec::vmbus;

namespace {

struct Screen final : devices::video::ScreenObserver {
  explicit Screen(memory::GuestMemory& guest_memory) : memory(guest_memory) {}
  // A mode that a screen is told of lies in memory, and damage within the mode.
  void mode_changed(const devices::video::ScreenMode& changed) override {
    mode = changed;
    if (mode.width != 0 && memory.host_span(mode.address, std::uint64_t{mode.pitch} * mode.height).empty()) std::abort();
  }
  void damaged(const devices::video::Rectangle& area) override {
    if (area.left < 0 || area.top < 0 || area.left >= area.right || area.top >= area.bottom || area.right > static_cast<std::int64_t>(mode.width) ||
        area.bottom > static_cast<std::int64_t>(mode.height)) {
      std::abort();
    }
  }
  void pointer_shaped(const devices::video::PointerShape& shape) override {
    if (shape.data.size() > std::size_t{96} * 96 * 4) std::abort();
  }
  void pointer_moved(bool, std::int32_t, std::int32_t) override {}
  memory::GuestMemory& memory;
  devices::video::ScreenMode mode;
};

struct Machine {
  vmbus::testing::FakeGuest guest{1};
  Screen screen{guest.memory()};
  Video video{guest.memory(), {.vram_megabytes = 1}};
  Keyboard keyboard;
  Mouse mouse;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  Machine machine;
  machine.video.set_observer(&machine.screen);
  vmbus::Device* const devices[] = {&machine.video, &machine.keyboard, &machine.mouse};
  vmbus::Device& device = *devices[data[0] % 3];
  auto channel = machine.guest.open(device);
  std::span input(data + 1, size - 1);
  while (input.size() >= 4 && channel->is_open()) {
    const std::uint8_t flags = input[0], type = input[1];
    const std::size_t length = std::min<std::size_t>(static_cast<std::size_t>(input[2] | input[3] << 8), input.size() - 4);
    const auto body = std::as_bytes(input.subspan(4, length));
    input = input.subspan(4 + length);
    std::vector<std::byte> message;
    const auto add = [&](const auto& object) { message.insert(message.end(), bytes_of(object).begin(), bytes_of(object).end()); };
    const bool has_head = (flags & 2) != 0;
    const std::size_t head_bytes = !has_head ? 0 : data[0] % 3 == 1 ? sizeof(le32) : sizeof(spec::synthvid::Header);
    if ((flags & 1) == 0) add(wire::PipeHeader{wire::kPipeData, static_cast<std::uint32_t>(head_bytes + length)});
    if (has_head) add(le32(type % 16U));
    if (has_head && head_bytes == sizeof(spec::synthvid::Header)) add(le32(static_cast<std::uint32_t>(data[0] % 3 == 2 ? length : head_bytes + length)));
    message.insert(message.end(), body.begin(), body.end());
    if (!channel->send(message)) break;
    if ((flags & 4) != 0) {
      machine.keyboard.strike({type, (flags & 16) != 0, (flags & 32) != 0, (flags & 64) != 0});
      machine.mouse.move({static_cast<std::uint16_t>(length), type, flags, static_cast<std::int8_t>(type), 0});
      machine.guest.run();
    }
    if ((flags & 8) != 0) {
      const auto state = device.save();
      if (!state || !device.restore(*state)) std::abort();  // what it saves it takes
    }
    while (channel->receive()) {
    }
    (void)machine.video.capture();
    (void)device.inspect();
  }
  return 0;
}
