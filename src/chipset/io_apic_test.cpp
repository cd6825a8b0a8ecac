#include "chipset/io_apic.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

namespace bygone::chipset {
namespace {

class IoApicTest : public testing::Test {
 protected:
  void write(std::uint8_t index, std::uint32_t value) {
    io_apic_.write_mmio(0x00, 4, index);
    io_apic_.write_mmio(0x10, 4, value);
  }
  std::uint32_t read(std::uint8_t index) {
    io_apic_.write_mmio(0x00, 4, index);
    return static_cast<std::uint32_t>(io_apic_.read_mmio(0x10, 4));
  }
  void route(unsigned pin, std::uint32_t low, std::uint8_t destination = 0) {
    write(static_cast<std::uint8_t>(0x11 + pin * 2), static_cast<std::uint32_t>(destination) << 24);
    write(static_cast<std::uint8_t>(0x10 + pin * 2), low);
  }
  std::vector<cpu::InterruptRequest> sent_;
  IoApic io_apic_{[this](const cpu::InterruptRequest& request) { sent_.push_back(request); }};
};

TEST_F(IoApicTest, identifies_itself_with_24_masked_entries) {
  EXPECT_EQ(read(1), 0x00170011U);
  EXPECT_EQ(read(0x10), 0x10000U);
  EXPECT_EQ(read(0x3E), 0x10000U);
  EXPECT_EQ(read(0x40), 0xFFFFFFFFU);
}

TEST_F(IoApicTest, edge_is_sent_once_and_lost_while_masked) {
  io_apic_.set_pin(4, true);
  io_apic_.set_pin(4, false);
  route(4, 0x34, 2);
  EXPECT_TRUE(sent_.empty());
  InterruptLine& line = io_apic_.line(4);
  line.set_level(true);
  line.set_level(true);
  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_EQ(sent_[0].vector, 0x34);
  EXPECT_EQ(sent_[0].destination, 2U);
  EXPECT_EQ(sent_[0].trigger, cpu::TriggerMode::kEdge);
  line.set_level(false);
  line.set_level(true);
  EXPECT_EQ(sent_.size(), 2U);
}

TEST_F(IoApicTest, level_is_sent_again_after_its_eoi_while_asserted) {
  route(9, 0x8039);
  io_apic_.set_pin(9, true);
  EXPECT_EQ(sent_.size(), 1U);
  EXPECT_EQ(read(0x22) & 0x4000U, 0x4000U);  // remote IRR
  io_apic_.end_of_interrupt(0x38);
  EXPECT_EQ(sent_.size(), 1U);
  io_apic_.end_of_interrupt(0x39);
  EXPECT_EQ(sent_.size(), 2U);
  io_apic_.set_pin(9, false);
  io_apic_.end_of_interrupt(0x39);
  EXPECT_EQ(sent_.size(), 2U);
  EXPECT_EQ(read(0x22) & 0x4000U, 0U);
}

TEST_F(IoApicTest, masked_level_waits_for_its_unmasking) {
  route(9, 0x18039);
  io_apic_.set_pin(9, true);
  EXPECT_TRUE(sent_.empty());
  route(9, 0x8039);
  EXPECT_EQ(sent_.size(), 1U);
}

TEST_F(IoApicTest, turning_a_level_entry_into_an_edge_frees_it) {
  route(9, 0x8039);
  io_apic_.set_pin(9, true);
  io_apic_.set_pin(9, false);
  write(0x22, 0x10039);
  EXPECT_EQ(read(0x22), 0x10039U);
}

TEST_F(IoApicTest, physical_all_ones_is_a_broadcast) {
  route(2, 0x40, 0xFF);
  EXPECT_EQ(io_apic_.route(2)->destination, 0xFFFFFFFFU);
  route(2, 0x840, 0xFF);
  EXPECT_EQ(io_apic_.route(2)->destination, 0xFFU);
}

TEST_F(IoApicTest, saved_state_returns_and_nonsense_is_refused_whole) {
  route(9, 0x8039, 1);
  io_apic_.set_pin(9, true);
  const nlohmann::json state = io_apic_.save();
  IoApic other([](const cpu::InterruptRequest&) {});
  ASSERT_TRUE(other.restore(state));
  EXPECT_EQ(other.save(), state);
  nlohmann::json broken = state;
  broken["entries"][3] = ~0ULL;
  EXPECT_FALSE(other.restore(broken));
  broken = state;
  broken["version"] = 99;
  EXPECT_EQ(other.restore(broken).error().code, ErrorCode::kUnsupported);
  broken = state;
  broken.erase("entries");
  EXPECT_EQ(other.restore(broken).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(other.save(), state);
}

}  // namespace
}  // namespace bygone::chipset
