#include "devices/sockets/sockets.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "devices/sockets/address.h"
#include "devices/sockets/unix_socket.h"
#include "spec/hvsocket/hvsocket.h"
#include "spec/vmbus/ring.h"
#include "vmbus/testing/fake_guest.h"

namespace bygone::devices::sockets {
namespace {

using namespace std::chrono_literals;
using spec::vmbus::PipeHeader;
using vmbus::testing::FakeGuest;
using vmbus::testing::GuestChannel;

constexpr Guid kEndpoint = spec::hvsocket::service_of_port(50000);

/// A machine's sockets in a folder of their own, with a guest that is played here.
class SocketsTest : public testing::Test {
 protected:
  SocketsTest() {
    std::string name = (std::filesystem::temp_directory_path() / "sockets.XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    make({1234});
  }
  ~SocketsTest() override {
    guest_channels_.clear();
    sockets_.reset();
    std::filesystem::remove_all(folder_);
  }

  void make(std::vector<std::uint32_t> ports, std::chrono::milliseconds open_limit = 60s) {
    sockets_.reset();
    SocketBus bus;
    bus.is_ready = [this] { return is_ready_; };
    bus.add = [this](vmbus::Device& device) -> Result<void> {
      offered_.push_back(&device);
      return {};
    };
    bus.remove = [this](vmbus::Device& device, std::move_only_function<void()> removed) {
      // As the bus does it: the channel is taken from the device, later, and then the device is free.
      guest_.loop().post([this, &device, removed = std::move(removed)]() mutable {
        if (const auto found = guest_channels_.find(&device); found != guest_channels_.end()) found->second->close();
        std::erase(offered_, &device);
        rescinded_.push_back(device.offer().instance);
        removed();
      });
    };
    bus.refuse = [this](const Guid& endpoint, const Guid&) { refused_.push_back(endpoint); };
    auto created = Sockets::create({.directory = folder_, .ports = std::move(ports), .open_limit = open_limit}, guest_.loop(),
                                   std::move(bus), Log());
    ASSERT_TRUE(created) << created.error().text();
    sockets_ = std::move(*created);
  }

  UniqueFd connect(const std::string& name) {
    auto socket = connect_to(folder_ / name);
    EXPECT_TRUE(socket) << socket.error().text();
    run();
    return socket ? std::move(*socket) : UniqueFd();
  }
  /// Turns of the loop until nothing moves; several, because sockets wake it again.
  void run() {
    for (int turn = 0; turn < 20; ++turn) guest_.run();
  }
  GuestChannel& open(std::size_t which = 0, std::uint32_t ring_pages = 5) {
    vmbus::Device& device = *offered_.at(which);
    auto& channel = guest_channels_[&device];
    channel = guest_.open(device, {.ring_pages = ring_pages});
    run();
    return *channel;
  }
  static bool send(GuestChannel& channel, std::string_view text) {
    PipeHeader header;
    header.type = spec::vmbus::kPipeData;
    header.length = static_cast<std::uint32_t>(text.size());
    std::vector<std::byte> packet(sizeof header + text.size());
    std::memcpy(packet.data(), &header, sizeof header);
    std::memcpy(packet.data() + sizeof header, text.data(), text.size());
    return channel.send(packet);
  }
  /// What the guest can read now. `ended`: an end of file was among it.
  std::string receive(GuestChannel& channel, bool* ended = nullptr) {
    std::string text;
    while (const auto packet = channel.receive()) {
      const auto header = packet->payload_as<PipeHeader>();
      EXPECT_LE(header->length, spec::hvsocket::kMaximumData);
      if (header->length == 0U && ended != nullptr) *ended = true;
      const auto data = packet->payload().subspan(sizeof(PipeHeader), header->length);
      text.append(reinterpret_cast<const char*>(data.data()), data.size());
    }
    return text;
  }
  static std::string read(const UniqueFd& socket) {
    std::string text(1 << 20, '\0');
    const ssize_t got = ::recv(socket.get(), text.data(), text.size(), MSG_DONTWAIT);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return got == 0 ? "<end>" : text;
  }
  static void write(const UniqueFd& socket, std::string_view text) {
    ASSERT_EQ(::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT), static_cast<ssize_t>(text.size()));
  }

  FakeGuest guest_;
  std::filesystem::path folder_;
  bool is_ready_ = true;
  std::vector<vmbus::Device*> offered_;
  std::vector<Guid> refused_, rescinded_;
  std::map<vmbus::Device*, std::unique_ptr<GuestChannel>> guest_channels_;
  std::unique_ptr<Sockets> sockets_;
};

TEST_F(SocketsTest, host_program_and_guest_listener_talk) {
  const UniqueFd program = connect("guest-1234");
  ASSERT_EQ(offered_.size(), 1U);
  const vmbus::Offer& offer = offered_[0]->offer();
  EXPECT_EQ(offer.interface_type, spec::hvsocket::service_of_port(1234));
  EXPECT_NE(offer.flags & spec::vmbus::kOfferSocket, 0);
  EXPECT_EQ(offer.user_data[4], 1) << "for the guest to accept";
  GuestChannel& channel = open();
  write(program, "question");
  run();
  EXPECT_EQ(receive(channel), "question");
  ASSERT_TRUE(send(channel, "answer"));
  run();
  EXPECT_EQ(read(program), "answer");
}

TEST_F(SocketsTest, a_written_connect_line_chooses_the_port_and_later_bytes_are_the_guests) {
  const UniqueFd program = connect("connect");
  write(program, "CONN");
  run();
  EXPECT_TRUE(offered_.empty());
  write(program, "ECT 0x10\nfirst words");
  run();
  ASSERT_EQ(offered_.size(), 1U);
  EXPECT_EQ(offered_[0]->offer().interface_type, spec::hvsocket::service_of_port(16));
  EXPECT_EQ(read(program), "");
  GuestChannel& channel = open();
  EXPECT_EQ(read(program), "OK 0x10\n");
  EXPECT_EQ(receive(channel), "first words");
}

TEST_F(SocketsTest, nonsense_lines_are_answered_and_closed) {
  for (const std::string line : {"HELLO 1\n", "CONNECT \n", "CONNECT 4294967296\n", "CONNECT 12x\n", "CONNECT -1\n", "\n"}) {
    const UniqueFd program = connect("connect");
    write(program, line);
    run();
    EXPECT_TRUE(read(program).starts_with("ERROR ")) << line;
    EXPECT_EQ(read(program), "<end>");
  }
  const UniqueFd endless = connect("connect");
  write(endless, std::string(1000, 'x'));
  run();
  EXPECT_TRUE(read(endless).starts_with("ERROR "));
  EXPECT_TRUE(offered_.empty());
}

TEST_F(SocketsTest, without_a_guest_or_a_listener_the_program_is_told) {
  is_ready_ = false;
  const UniqueFd early = connect("connect");
  write(early, "CONNECT 7\n");
  run();
  EXPECT_EQ(read(early), "ERROR the guest has no sockets (yet)\n");
  const UniqueFd direct = connect("guest-1234");
  EXPECT_EQ(read(direct), "<end>");
  is_ready_ = true;
  make({1234}, 1ms);
  const UniqueFd late = connect("connect");
  write(late, "CONNECT 7\n");
  for (int i = 0; i < 200 && rescinded_.empty(); ++i) guest_.run(10ms);
  run();
  EXPECT_EQ(read(late), "ERROR nothing in the guest listens on 7\n");
  EXPECT_EQ(read(late), "<end>");
  EXPECT_EQ(rescinded_.size(), 1U);
}

TEST_F(SocketsTest, guest_program_reaches_a_host_listener) {
  auto listener = listen_at(folder_ / "host-777");
  ASSERT_TRUE(listener);
  sockets_->connect_from_guest(kEndpoint, spec::hvsocket::service_of_port(777));
  run();
  const UniqueFd program(::accept(listener->get(), nullptr, nullptr));
  ASSERT_TRUE(program);
  ASSERT_EQ(offered_.size(), 1U);
  EXPECT_EQ(offered_[0]->offer().instance, kEndpoint);
  EXPECT_EQ(offered_[0]->offer().user_data[4], 0) << "the guest's own connect";
  GuestChannel& channel = open();
  ASSERT_TRUE(send(channel, "hello"));
  run();
  EXPECT_EQ(read(program), "hello");
}

TEST_F(SocketsTest, guest_is_refused_what_nobody_listens_on) {
  sockets_->connect_from_guest(kEndpoint, spec::hvsocket::service_of_port(778));
  sockets_->connect_from_guest(kEndpoint, Guid::random());
  run();
  EXPECT_EQ(refused_.size(), 2U);
  EXPECT_TRUE(offered_.empty());
}

TEST_F(SocketsTest, service_guids_reach_their_listener) {
  const Guid service = Guid::random();
  auto listener = listen_at(folder_ / ("host-" + service.text()));
  sockets_->connect_from_guest(kEndpoint, service);
  run();
  ASSERT_EQ(offered_.size(), 1U);
  EXPECT_EQ(offered_[0]->offer().interface_type, service);
}

TEST_F(SocketsTest, each_direction_ends_by_itself) {
  const UniqueFd program = connect("guest-1234");
  GuestChannel& channel = open();
  write(program, "all of it");
  ::shutdown(program.get(), SHUT_WR);
  run();
  bool ended = false;
  EXPECT_EQ(receive(channel, &ended), "all of it");
  EXPECT_TRUE(ended);
  ASSERT_TRUE(send(channel, "still here"));
  run();
  EXPECT_EQ(read(program), "still here");
  EXPECT_TRUE(rescinded_.empty());
  ASSERT_TRUE(send(channel, ""));
  run();
  EXPECT_EQ(read(program), "<end>");
  EXPECT_EQ(rescinded_.size(), 1U) << "both have ended: the offer is taken back";
  EXPECT_TRUE(offered_.empty());
}

TEST_F(SocketsTest, what_a_program_wrote_before_it_closed_arrives) {
  UniqueFd program = connect("guest-1234");
  GuestChannel& channel = open();
  const std::string much(60000, 'm');  // more than the ring
  write(program, much);
  program.reset();
  run();
  EXPECT_TRUE(rescinded_.empty());
  std::string got;
  bool ended = false;
  for (int i = 0; i < 20 && !ended; ++i) got += receive(channel, &ended);
  EXPECT_EQ(got, much);
  EXPECT_TRUE(ended);
  run();
  EXPECT_EQ(rescinded_.size(), 1U);
}

TEST_F(SocketsTest, last_words_of_a_guest_that_closes_its_channel_arrive) {
  const UniqueFd program = connect("guest-1234");
  GuestChannel& channel = open();
  ASSERT_TRUE(send(channel, "last words"));
  channel.close();
  run();
  EXPECT_EQ(read(program), "last words");
  EXPECT_EQ(read(program), "<end>");
}

TEST_F(SocketsTest, last_words_of_many_packets_arrive_too) {
  const UniqueFd program = connect("guest-1234");
  GuestChannel& channel = open(0, 40);
  constexpr std::size_t kPackets = 3 * vmbus::kPacketsATurn;
  for (std::size_t i = 0; i < kPackets; ++i) ASSERT_TRUE(send(channel, "w"));
  channel.close();  // before the loop has had a turn
  run();
  std::string got;
  for (std::string part = read(program); part != "<end>"; part = read(program)) {
    ASSERT_FALSE(part.empty()) << got.size();
    got += part;
  }
  EXPECT_EQ(got, std::string(kPackets, 'w'));
}

TEST_F(SocketsTest, a_slow_program_holds_the_guest_and_a_slow_guest_the_program) {
  const UniqueFd program = connect("guest-1234");
  GuestChannel& channel = open();
  std::size_t sent = 0;
  while (sent < 100'000'000 && send(channel, std::string(4000, static_cast<char>('a' + sent / 4000 % 26)))) {
    sent += 4000;
    run();
  }
  ASSERT_LT(sent, 100'000'000U) << "the ring never fills";
  std::string got;
  for (std::string part = read(program); !part.empty(); part = read(program)) {
    got += part;
    run();
  }
  ASSERT_EQ(got.size(), sent);
  for (std::size_t i = 0; i < sent; i += 4000) ASSERT_EQ(got[i], static_cast<char>('a' + i / 4000 % 26));

  std::string pattern;
  for (int i = 0; i < 50000; ++i) pattern += static_cast<char>('A' + i % 51);
  std::string written, received;
  for (int round = 0; round < 100; ++round) {
    const ssize_t took = ::send(program.get(), pattern.data(), pattern.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (took > 0) written.append(pattern, 0, static_cast<std::size_t>(took));
    if (took < 0) break;
    run();
  }
  EXPECT_LT(written.size(), 100 * pattern.size()) << "the program's socket never fills";
  for (int round = 0; round < 200 && received.size() < written.size(); ++round) received += receive(channel);
  EXPECT_TRUE(received == written);
}

TEST_F(SocketsTest, broken_packets_cost_their_connection_only) {
  const UniqueFd good = connect("guest-1234");
  const UniqueFd bad = connect("guest-1234");
  GuestChannel& good_channel = open(0);
  GuestChannel& bad_channel = open(1);
  PipeHeader header;
  header.type = spec::vmbus::kPipeData;
  header.length = 1U << 30;
  bad_channel.send(bytes_of(header));
  run();
  EXPECT_TRUE(bad_channel.failure());
  ASSERT_TRUE(send(good_channel, "unharmed"));
  run();
  EXPECT_EQ(read(good), "unharmed");
}

TEST_F(SocketsTest, connections_are_bounded) {
  std::vector<UniqueFd> programs;
  programs.reserve(kMaximumConnections);
  for (std::size_t i = 0; i < kMaximumConnections; ++i) programs.push_back(connect("guest-1234"));
  EXPECT_EQ(offered_.size(), kMaximumConnections);
  const UniqueFd more = connect("connect");
  EXPECT_EQ(read(more), "ERROR there are too many connections\n");
  auto listener = listen_at(folder_ / "host-777");
  sockets_->connect_from_guest(kEndpoint, spec::hvsocket::service_of_port(777));
  run();
  EXPECT_EQ(refused_.size(), 1U);
}

TEST_F(SocketsTest, a_directory_in_use_is_not_taken_over_and_a_stale_socket_is) {
  auto second = Sockets::create({.directory = folder_, .ports = {}}, guest_.loop(), {}, Log());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kAlreadyExists);
  (void)listen_at(folder_ / "stale");  // closed at once, its file stays
  EXPECT_TRUE(listen_at(folder_ / "stale"));
}

TEST_F(SocketsTest, a_restored_guest_is_told_that_its_connections_are_gone) {
  const UniqueFd program = connect("guest-1234");
  const Guid instance = offered_.at(0)->offer().instance;
  const std::string name = offered_.at(0)->offer().name;
  // save() and restore() wait for the loop, so it needs a thread here.
  const auto with_loop = [&](auto work) {
    std::jthread loop([&] { guest_.loop().run(); });
    work();
    guest_.loop().stop();
  };
  nlohmann::json state;
  with_loop([&] { state = sockets_->save(); });
  offered_.clear();
  make({1234});
  with_loop([&] { ASSERT_TRUE(sockets_->restore(state)); });
  ASSERT_EQ(offered_.size(), 1U);
  EXPECT_EQ(offered_[0]->offer().instance, instance);
  EXPECT_EQ(offered_[0]->offer().name, name) << "the bus finds saved devices by name";
  open();
  EXPECT_EQ(rescinded_, std::vector{instance});
  with_loop([&] { EXPECT_FALSE(sockets_->restore({{"version", 1}, {"next_number", 2}, {"connections", {{{"number", 5}}}}})); });
}

TEST_F(SocketsTest, inspection_tells_of_each_connection) {
  const UniqueFd program = connect("guest-1234");
  open();
  write(program, "12345");
  run();
  std::jthread loop([&] { guest_.loop().run(); });
  const auto tree = sockets_->inspect();
  guest_.loop().stop();
  EXPECT_EQ(tree["connections"][0]["service"], "1234");
  EXPECT_EQ(tree["connections"][0]["bytes_to_guest"], 5);
  EXPECT_EQ(tree["connected_to_guest"], 1);
}

TEST(SocketAddress, ports_and_guids_are_read_and_told) {
  EXPECT_EQ(spec::hvsocket::service_of_port(0x4247).text(), "00004247-facb-11e6-bd58-64006a7986d3");
  EXPECT_EQ(parse_service("16967"), spec::hvsocket::service_of_port(0x4247));
  EXPECT_EQ(parse_service("0x4247"), spec::hvsocket::service_of_port(0x4247));
  EXPECT_EQ(parse_service("00004247-facb-11e6-bd58-64006a7986d3"), spec::hvsocket::service_of_port(0x4247));
  EXPECT_EQ(service_text(spec::hvsocket::service_of_port(80)), "80");
  const Guid other = Guid::random();
  EXPECT_EQ(service_text(other), other.text());
  for (const char* bad : {"", "0x", "a", "4294967295", "-1", "1-2"}) EXPECT_FALSE(parse_service(bad)) << bad;
}

}  // namespace
}  // namespace bygone::devices::sockets
