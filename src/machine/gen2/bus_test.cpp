#include "machine/gen2/bus.h"

#include <gtest/gtest.h>

namespace bygone::machine::gen2 {
namespace {

struct Latch : chipset::PortDevice, chipset::MmioDevice {
  std::uint32_t read_port(std::uint16_t port, std::uint8_t) override { return value + port; }
  void write_port(std::uint16_t, std::uint8_t, std::uint32_t written) override { value = written; }
  std::uint64_t read_mmio(std::uint64_t offset, std::uint8_t) override { return value + offset; }
  void write_mmio(std::uint64_t, std::uint8_t, std::uint64_t written) override { value = static_cast<std::uint32_t>(written); }
  std::uint32_t value = 0;
};

cpu::PortExit port_exit(std::uint16_t port, bool is_write, std::span<std::byte> data, std::uint8_t size) {
  cpu::PortExit exit;
  exit.port = port;
  exit.is_write = is_write;
  exit.size = size;
  exit.data = data;
  exit.count = static_cast<std::uint32_t>(data.size() / size);
  return exit;
}

TEST(PortBus, string_access_reaches_the_device_element_by_element) {
  PortBus bus{Log()};
  Latch latch;
  bus.attach({0x10, 4}, latch);
  std::byte data[4] = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{9}};
  auto write = port_exit(0x10, true, data, 1);
  bus.handle(write);
  EXPECT_EQ(latch.value, 9U);
  auto read = port_exit(0x11, false, std::span(data).first(2), 2);
  bus.handle(read);
  EXPECT_EQ(data[0], std::byte{9 + 0x11});
  EXPECT_EQ(data[1], std::byte{0});
}

TEST(PortBus, absorbed_ports_are_silent_and_unknown_ones_are_not) {
  int lines = 0;
  PortBus bus{Log([&](LogLevel, std::string_view, std::string_view) { ++lines; }, LogLevel::kDebug)};
  std::byte data[1] = {};
  auto absorbed = port_exit(0x21, false, data, 1);
  bus.handle(absorbed);
  EXPECT_EQ(data[0], std::byte{0xFF});
  EXPECT_EQ(lines, 0);
  auto unknown = port_exit(0x9999, false, data, 1);
  bus.handle(unknown);
  EXPECT_EQ(data[0], std::byte{0xFF});
  EXPECT_EQ(lines, 1);
}

TEST(MmioBus, offsets_are_the_devices) {
  MmioBus bus{Log()};
  Latch latch;
  bus.attach(0x1000, 0x10, latch);
  cpu::MmioExit exit;
  exit.address = {0x1008};
  bus.handle(exit);
  EXPECT_EQ(exit.data, 8U);
  exit.address = {0x1010};
  bus.handle(exit);
  EXPECT_EQ(exit.data, ~0ULL);
}

}  // namespace
}  // namespace bygone::machine::gen2
