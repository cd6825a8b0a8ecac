#include "machine/gdb/stub.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <cstring>

#include "machine/gdb/registers.h"
#include "machine/gdb/server.h"

namespace bygone::machine::gdb {
namespace {

/// Two processors and a page of memory at 0x1000.
class FakeTarget final : public Target {
 public:
  std::uint32_t processor_count() const override { return 2; }
  void stop() override { running = false; }
  void go_on() override {
    running = true;
    ++resumed;
  }
  void step(cpu::VpIndex vp) override {
    running = true;
    stepped = vp.value;
  }
  Result<cpu::VcpuState> read_state(cpu::VpIndex vp) override { return states[vp.value]; }
  Result<void> write_state(cpu::VpIndex vp, const cpu::VcpuState& state) override {
    states[vp.value] = state;
    return {};
  }
  Result<std::string> read_memory(cpu::VpIndex, std::uint64_t address, std::size_t length) override {
    if (address < 0x1000 || address >= 0x2000) return fail(ErrorCode::kNotFound, "not mapped");
    return memory.substr(address - 0x1000, length);
  }
  Result<void> write_memory(cpu::VpIndex, std::uint64_t address, std::string_view bytes) override {
    if (address < 0x1000 || address + bytes.size() > 0x2000) return fail(ErrorCode::kNotFound, "not mapped");
    memory.replace(address - 0x1000, bytes.size(), bytes);
    return {};
  }
  Result<void> set_breakpoints(const std::set<std::uint64_t>& addresses) override {
    if (addresses.size() > 4) return fail(ErrorCode::kExhausted, "too many");
    breakpoints = addresses;
    return {};
  }
  void kill() override { killed = true; }

  std::array<cpu::VcpuState, 2> states;
  std::string memory = std::string(0x1000, 'x');
  std::set<std::uint64_t> breakpoints;
  std::atomic<bool> running = true;
  int resumed = 0;
  std::uint32_t stepped = 99;
  bool killed = false;
};

class GdbStub : public testing::Test {
 protected:
  void SetUp() override {
    target_.states[0].general.rip = 0x1122;
    target_.states[1].general.rip = 0x3344;
    stub_.connected();
    EXPECT_EQ(ask("QStartNoAckMode"), "OK");
  }
  /// The payload of the answer; empty: none, or an empty one.
  std::string ask(std::string_view payload) {
    std::string out;
    stub_.receive(make_packet(payload), out);
    PacketReader reader;
    const auto events = reader.feed(out);
    return events.empty() ? "" : events.back().payload;
  }

  FakeTarget target_;
  Stub stub_{target_};
};

TEST_F(GdbStub, connecting_stops_the_machine_and_leaving_lets_it_run) {
  EXPECT_FALSE(target_.running);
  EXPECT_EQ(ask("?"), "T05thread:1;");
  EXPECT_EQ(ask("Z0,1234,1"), "OK");
  stub_.disconnected();
  EXPECT_TRUE(target_.running);
  EXPECT_TRUE(target_.breakpoints.empty());
}

TEST_F(GdbStub, registers_of_each_thread_are_read_and_written) {
  const std::string all = ask("g");
  EXPECT_EQ(all.size(), read_all_registers(target_.states[0]).size() * 2);
  EXPECT_EQ(all.substr(16 * 16, 16), "2211000000000000");  // rip comes after sixteen of eight bytes
  EXPECT_EQ(ask("Hg2"), "OK");
  EXPECT_EQ(ask("p10"), "4433000000000000");
  EXPECT_EQ(ask("P10=efbe000000000000"), "OK");
  EXPECT_EQ(target_.states[1].general.rip, 0xBEEFU);
  EXPECT_EQ(ask("P10=ef"), "E16");
  EXPECT_EQ(ask("pfff"), "E16");
  EXPECT_EQ(ask("Hg3"), "E16");
  EXPECT_EQ(ask("Hg1"), "OK");
  EXPECT_EQ(ask("G" + all), "OK");
  EXPECT_EQ(target_.states[0].general.rip, 0x1122U);
  EXPECT_EQ(ask("G00"), "E16");
}

TEST_F(GdbStub, memory_is_read_and_written_where_it_is_mapped) {
  EXPECT_EQ(ask("M1000,3:616263"), "OK");
  EXPECT_EQ(ask("m1000,4"), "61626378");
  EXPECT_EQ(ask("X1000,2:#z"), "OK");  // which make_packet() escapes
  EXPECT_EQ(ask("m1000,2"), "237a");
  EXPECT_EQ(ask("m5000,4"), "E0e");
  EXPECT_EQ(ask("M5000,1:00"), "E0e");
  EXPECT_EQ(ask("M1000,2:00"), "E16");
  EXPECT_EQ(ask("mzz"), "E16");
}

TEST_F(GdbStub, breakpoints_and_steps_stop_with_their_thread) {
  EXPECT_EQ(ask("Z1,ffffffff81000000,1"), "OK");
  EXPECT_EQ(target_.breakpoints, (std::set<std::uint64_t>{0xFFFFFFFF81000000}));
  EXPECT_EQ(ask("Z2,1000,1"), "");  // watchpoints are not known
  EXPECT_EQ(ask("vCont?"), "vCont;c;C;s;S");
  EXPECT_EQ(ask("vCont;c"), "");
  EXPECT_TRUE(target_.running);
  std::string out;
  target_.stop();
  stub_.stopped({1}, out);
  EXPECT_NE(out.find("T05thread:2;"), std::string::npos);
  EXPECT_EQ(ask("qC"), "QC2");
  EXPECT_EQ(ask("vCont;s:2;c"), "");
  EXPECT_EQ(target_.stepped, 1U);
  out.clear();
  stub_.stopped({1}, out);
  EXPECT_EQ(ask("z1,ffffffff81000000,1"), "OK");
  for (int i = 0; i < 4; ++i) EXPECT_EQ(ask(fmt::format("Z0,{:x},1", i)), "OK");
  EXPECT_EQ(ask("Z0,9,1"), "E1c");
}

TEST_F(GdbStub, interrupt_stops_a_running_machine) {
  EXPECT_EQ(ask("c"), "");
  std::string out;
  stub_.receive("\x03", out);
  EXPECT_FALSE(target_.running);
  EXPECT_NE(out.find("T02thread:1;"), std::string::npos);
}

TEST_F(GdbStub, tells_what_it_is) {
  EXPECT_NE(ask("qSupported:multiprocess+").find("qXfer:features:read+"), std::string::npos);
  std::string xml;
  for (std::size_t at = 0;; at += 0x100) {
    const std::string piece = ask(fmt::format("qXfer:features:read:target.xml:{:x},100", at));
    ASSERT_FALSE(piece.empty());
    xml += piece.substr(1);
    if (piece[0] == 'l') break;
  }
  EXPECT_EQ(xml, target_description());
  EXPECT_EQ(ask("qfThreadInfo"), "m1,2");
  EXPECT_EQ(from_hex(ask("qThreadExtraInfo,2")), "processor 1, running");
  EXPECT_EQ(ask("vMustReplyEmpty"), "");
  EXPECT_EQ(ask("k"), "");
  EXPECT_TRUE(target_.killed);
}

TEST_F(GdbStub, nonsense_is_survived) {
  std::string out;
  stub_.receive("$g#00", out);
  stub_.receive(std::string(100'000, 'a'), out);
  stub_.receive("$" + std::string(100'000, 'a'), out);
  for (const char* packet : {"", "P", "X", "M:", "Z", "Z0", "Z0,", "H", "vCont;", "vCont;s:9", "qXfer:features:read:target.xml:ffffff,1",
                             "qXfer:features:read:other:0,1", "G", "p", "m,", "T", "Tzz", "D;1x"}) {
    if (stub_.is_running()) stub_.stopped({0}, out);
    ask(packet);
  }
}

TEST(GdbPackets, bad_checksum_is_asked_for_again) {
  FakeTarget target;
  Stub stub(target);
  stub.connected();
  std::string out;
  stub.receive("$?#00", out);
  EXPECT_EQ(out, "-");
  out.clear();
  stub.receive("$?#3f", out);
  EXPECT_EQ(out, "+" + make_packet("T05thread:1;"));
  out.clear();
  stub.receive("-", out);
  EXPECT_EQ(out, make_packet("T05thread:1;"));
}

TEST(GdbServer, serves_a_connection) {
  FakeTarget target;
  std::string folder = (std::filesystem::temp_directory_path() / "bygone-gdb-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/gdb";
  {
    auto server = Server::create(path, target, Log{});
    ASSERT_TRUE(server) << server.error().text();
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    ASSERT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    const std::string question = make_packet("c");
    ASSERT_EQ(::send(fd.get(), question.data(), question.size(), 0), static_cast<ssize_t>(question.size()));
    char acknowledgement = 0;
    ASSERT_EQ(::recv(fd.get(), &acknowledgement, 1, 0), 1);
    (*server)->report_stop({1});
    std::string answer(make_packet("T05thread:2;").size(), '\0');
    ASSERT_EQ(::recv(fd.get(), answer.data(), answer.size(), MSG_WAITALL), static_cast<ssize_t>(answer.size()));
    EXPECT_EQ(answer, make_packet("T05thread:2;"));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  std::filesystem::remove_all(folder);
  EXPECT_FALSE(Server::create("300.1.1.1:1234", target, Log{}));
}

}  // namespace
}  // namespace bygone::machine::gdb
