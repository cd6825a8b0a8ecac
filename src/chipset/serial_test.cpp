#include "chipset/serial.h"

#include <gtest/gtest.h>

#include <string>

#include "chipset/function_line.h"
#include "spec/gen2/platform.h"

namespace bygone::chipset {
namespace {

class FakeBackend final : public CharBackend {
 public:
  void write(std::span<const std::byte> data) override { output.append(reinterpret_cast<const char*>(data.data()), data.size()); }
  void set_input_handler(std::function<void(std::span<const std::byte>)> handler) override { input = std::move(handler); }
  void type(std::string_view text) { input(std::as_bytes(std::span(text))); }
  std::string output;
  std::function<void(std::span<const std::byte>)> input;
};

class SerialTest : public testing::Test {
 protected:
  std::uint8_t in(std::uint16_t offset) { return static_cast<std::uint8_t>(port_.read_port(static_cast<std::uint16_t>(0x3F8 + offset), 1)); }
  void out(std::uint16_t offset, std::uint8_t value) { port_.write_port(static_cast<std::uint16_t>(0x3F8 + offset), 1, value); }
  FakeBackend backend_;
  bool line_ = false;
  int edges_ = 0;
  FunctionLine sink_{[this](bool asserted) {
    edges_ += asserted && !line_;
    line_ = asserted;
  }};
  SerialPort port_{spec::gen2::kCom1Ports.first, sink_, &backend_};
};

TEST_F(SerialTest, characters_go_out_and_the_transmitter_stays_empty) {
  for (const char c : std::string_view("boot")) {
    EXPECT_EQ(in(5), 0x60);
    out(0, static_cast<std::uint8_t>(c));
  }
  EXPECT_EQ(backend_.output, "boot");
}

TEST_F(SerialTest, divisor_is_apart_from_data) {
  out(3, 0x83);
  out(0, 1);
  out(1, 2);
  EXPECT_EQ(in(0), 1);
  EXPECT_EQ(in(1), 2);
  out(3, 0x03);
  EXPECT_EQ(backend_.output, "");
  EXPECT_EQ(in(1), 0);
}

TEST_F(SerialTest, input_interrupts_until_it_is_read) {
  out(4, 0x0B);
  out(1, 0x01);
  EXPECT_EQ(in(2), 0x01);
  backend_.type("ab");
  EXPECT_TRUE(line_);
  EXPECT_EQ(in(2), 0x04);
  EXPECT_EQ(in(5), 0x61);
  EXPECT_EQ(in(0), 'a');
  EXPECT_TRUE(line_);
  EXPECT_EQ(in(0), 'b');
  EXPECT_FALSE(line_);
  EXPECT_EQ(in(5), 0x60);
}

TEST_F(SerialTest, few_characters_in_the_fifo_give_a_timeout) {
  out(4, 0x08);
  out(1, 0x01);
  out(2, 0xC1);
  backend_.type("x");
  EXPECT_EQ(in(2), 0xCC);
  backend_.type("0123456789abc");
  EXPECT_EQ(in(2), 0xC4);
}

TEST_F(SerialTest, transmitter_interrupt_has_an_edge_for_each_character) {
  out(4, 0x08);
  out(1, 0x02);
  EXPECT_TRUE(line_);
  EXPECT_EQ(in(2), 0x02);  // reading the cause ends it
  EXPECT_FALSE(line_);
  out(0, 'x');
  EXPECT_EQ(edges_, 2);
  out(0, 'y');
  EXPECT_EQ(edges_, 3);
}

TEST_F(SerialTest, out2_gates_the_line) {
  out(1, 0x01);
  backend_.type("x");
  EXPECT_FALSE(line_);
  out(4, 0x08);
  EXPECT_TRUE(line_);
}

TEST_F(SerialTest, loopback_turns_output_into_input_and_wires_the_modem_lines) {
  out(4, 0x1A);  // RTS, OUT2
  EXPECT_EQ(in(6) & 0xF0, 0x90);
  out(0, 'z');
  EXPECT_EQ(in(0), 'z');
  EXPECT_EQ(backend_.output, "");
  out(4, 0x00);
  in(6);
  EXPECT_EQ(in(6), 0xB0);
}

TEST_F(SerialTest, saved_input_is_read_after_a_restore) {
  backend_.type("later");
  const nlohmann::json state = port_.save();
  port_.reset();
  EXPECT_EQ(in(5), 0x60);
  ASSERT_TRUE(port_.restore(state));
  EXPECT_EQ(in(0), 'l');
  nlohmann::json broken = state;
  broken["scratch"] = 300;
  EXPECT_FALSE(port_.restore(broken));
}

}  // namespace
}  // namespace bygone::chipset
