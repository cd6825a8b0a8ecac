#include "vmbus/testing/fake_guest.h"

#include <cstring>

#include "spec/vmbus/ring.h"

namespace bygone::vmbus::testing {

using memory::Gpa;
using memory::kPageSize;

namespace {

/// Test set-up that fails is the test's defect: stop there, with the reason.
template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "fake guest: %s\n", result.error().text().c_str());
    std::abort();
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace

GuestChannel::GuestChannel(FakeGuest& guest, Device& device, RingPages to_host, RingPages to_guest)
    : guest_(guest), device_(device), to_host_pages_(to_host), to_guest_pages_(to_guest) {
  outgoing_ = must(OutgoingRing::create(std::move(to_host)));
  incoming_ = must(IncomingRing::create(std::move(to_guest)));
}

GuestChannel::~GuestChannel() { close(); }

bool GuestChannel::send_packet(const OutgoingPacket& packet) {
  const bool sent = must(outgoing_->send(packet));
  if (outgoing_->take_signal()) signal();
  return sent;
}

bool GuestChannel::send(std::span<const std::byte> payload, std::uint64_t transaction_id, bool wants_completion) {
  return send_packet({PacketType::kInBand, transaction_id, wants_completion, {}, {&payload, 1}});
}

bool GuestChannel::complete(std::uint64_t transaction_id, std::span<const std::byte> payload) {
  return send_packet({PacketType::kCompletion, transaction_id, false, {}, {&payload, 1}});
}

bool GuestChannel::send_gpa_direct(std::span<const std::byte> payload, std::span<const std::uint64_t> pages,
                                   std::uint32_t offset, std::uint32_t length, std::uint64_t transaction_id,
                                   bool wants_completion) {
  spec::vmbus::GpaDirectHeader header = {};
  header.range_count = 1;
  const spec::vmbus::GpaRangeHeader range = {length, offset};
  std::vector<std::byte> bytes(sizeof header + sizeof range + pages.size_bytes());
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &range, sizeof range);
  std::memcpy(bytes.data() + sizeof header + sizeof range, pages.data(), pages.size_bytes());
  return send_packet({PacketType::kGpaDirect, transaction_id, wants_completion, bytes, {&payload, 1}});
}

std::optional<Packet> GuestChannel::try_receive() {
  Packet packet;
  const bool got = must(incoming_->receive(packet));
  if (incoming_->take_signal()) signal();
  if (!got) return std::nullopt;
  return packet;
}

std::optional<Packet> GuestChannel::receive() {
  if (auto packet = try_receive()) return packet;
  guest_.run();
  return try_receive();
}

void GuestChannel::signal() {
  if (!host_ || signal_posted_) return;
  signal_posted_ = true;
  guest_.loop().post([&guest = guest_, host = host_.get()] {
    if (GuestChannel* self = guest.find(*host)) self->run_signal();
  });
}

void GuestChannel::run_signal() {
  signal_posted_ = false;
  host_->count_signal();
  take_turn();
}

void GuestChannel::take_turn() {
  if (auto done = device_.on_signal(*host_); !done) {
    guest_.channel_failed(*host_, std::move(done).error());
  } else {
    host_->flush();
  }
}

void GuestChannel::close() {
  if (!host_) return;
  bool closed = false;
  device_.close(*host_, [&] { closed = true; });
  while (!closed) guest_.loop().run_once(std::chrono::milliseconds(10));
  guest_.channels_.erase(host_.get());
  host_.reset();
}

FakeGuest::FakeGuest(std::uint64_t megabytes) : loop_(must(EventLoop::create())) {
  must(memory_.add_ram(Gpa{0}, megabytes << 20));
  next_page_ = (megabytes << 20) / kPageSize;
}

FakeGuest::~FakeGuest() = default;

std::vector<std::uint64_t> FakeGuest::allocate_pages(std::size_t count) {
  std::vector<std::uint64_t> pages;
  for (std::size_t i = 0; i < count && next_page_ > 1; ++i) pages.push_back(--next_page_);
  if (pages.size() != count) must(Result<void>(fail(ErrorCode::kExhausted, "no pages left; give the fake guest more memory")));
  return pages;
}

std::unique_ptr<GuestChannel> FakeGuest::open(Device& device, GuestChannelOptions options) {
  RingPages to_host = must(RingPages::create(memory_, allocate_pages(options.ring_pages)));
  RingPages to_guest = must(RingPages::create(memory_, allocate_pages(options.ring_pages)));
  std::unique_ptr<GuestChannel> channel(new GuestChannel(*this, device, to_host, to_guest));
  if (options.flow_control) channel->outgoing_->announce_flow_control();
  ChannelParameters parameters;
  parameters.channel_id = next_channel_++;
  parameters.subchannel_index = options.subchannel_index;
  parameters.version = options.version;
  parameters.user_data = options.user_data;
  parameters.is_restored = options.is_restored;
  ChannelBus& bus = *this;
  channel->host_ = std::make_unique<Channel>(memory_, *loop_, bus, parameters, must(IncomingRing::create(to_host)),
                                             must(OutgoingRing::create(to_guest)));
  channels_[channel->host_.get()] = channel.get();
  if (auto opened = device.open(*channel->host_); !opened) {
    channel->failure_ = std::move(opened).error();
    channels_.erase(channel->host_.get());
    channel->host_.reset();
    return channel;
  }
  channel->host_->flush();
  return channel;
}

GpadlId FakeGuest::create_gpadl(std::vector<std::uint64_t> pages) {
  const GpadlId id{next_gpadl_++};
  gpadls_[id] = std::make_shared<const Gpadl>(Gpadl::of_pages(std::move(pages)));
  return id;
}

void FakeGuest::tear_down_gpadl(GuestChannel& channel, GpadlId id) {
  gpadls_.erase(id);
  if (channel.host_) channel.device_.on_gpadl_teardown(*channel.host_, id);
}

void FakeGuest::write(std::span<const std::uint64_t> pages, std::uint64_t offset, std::span<const std::byte> bytes) {
  must(PageRanges::of_pages({pages.begin(), pages.end()}).write(memory_, offset, bytes));
}

std::vector<std::byte> FakeGuest::read(std::span<const std::uint64_t> pages, std::uint64_t offset, std::size_t length) {
  std::vector<std::byte> bytes(length);
  must(PageRanges::of_pages({pages.begin(), pages.end()}).read(memory_, offset, bytes));
  return bytes;
}

void FakeGuest::run(std::chrono::milliseconds limit) {
  loop_->run_once(limit);
  // What one round posts runs in the next; a few rounds settle any exchange that does not wait for the guest.
  for (int round = 0; round < 8; ++round) loop_->run_once(std::chrono::milliseconds(0));
}

GuestChannel* FakeGuest::find(const Channel& channel) {
  const auto found = channels_.find(&channel);
  return found == channels_.end() ? nullptr : found->second;
}

void FakeGuest::signal_guest(Channel& channel) {
  if (GuestChannel* end = find(channel)) ++end->interrupts_;
}

std::shared_ptr<const Gpadl> FakeGuest::find_gpadl(Channel&, GpadlId id) {
  const auto found = gpadls_.find(id);
  return found == gpadls_.end() ? nullptr : found->second;
}

void FakeGuest::offer_subchannels(Channel& channel, std::uint16_t count) {
  if (GuestChannel* end = find(channel)) end->offered_subchannels_ = count;
}

void FakeGuest::channel_failed(Channel& channel, Error error) {
  loop_->post([this, host = &channel, error = std::move(error)] {
    GuestChannel* end = find(*host);
    if (end == nullptr || end->failure_) return;
    end->failure_ = error;
    end->close();
  });
}

void FakeGuest::retry_later(Channel& channel) {
  loop_->add_timer(std::chrono::steady_clock::now(), [this, host = &channel] {
    if (GuestChannel* end = find(*host)) end->take_turn();
  });
}

void FakeGuest::call_again(Channel& channel) {
  loop_->post([this, host = &channel] {
    if (GuestChannel* end = find(*host)) end->take_turn();
  });
}

}  // namespace bygone::vmbus::testing
