// A guest for device tests: memory, an event loop, and channels whose far ends the test drives as a driver would, through real
// rings in guest memory, without a bus or a SynIC.
//
//   FakeGuest guest;
//   MyDevice device(…);
//   auto channel = guest.open(device);          // the device's open() has run
//   channel->send(bytes_of(request));           // the ring and, if due, the signal
//   guest.run();                                // the device's loop, until it is idle
//   auto reply = channel->receive();            // std::optional<Packet>
//
// Threading: one thread; the device's loop runs inside run().
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "support/event_loop.h"
#include "vmbus/channel.h"
#include "vmbus/device.h"

namespace bygone::vmbus::testing {

class FakeGuest;

struct GuestChannelOptions {
  std::uint32_t ring_pages = 5;  ///< each direction, with its control page
  std::uint16_t subchannel_index = 0;
  Version version = Version::k5_3;
  bool flow_control = true;  ///< the guest honours pending_send_size (Windows 8 and later, Linux)
  bool is_restored = false;
  spec::vmbus::UserData user_data = {};
};

/// The guest's end of one channel. Destroying it closes it.
class GuestChannel {
 public:
  ~GuestChannel();
  GuestChannel(const GuestChannel&) = delete;
  GuestChannel& operator=(const GuestChannel&) = delete;

  /// In-band data; false when the ring is full.
  bool send(std::span<const std::byte> payload, std::uint64_t transaction_id = 0, bool wants_completion = false);
  /// Data with a GPA-direct buffer of one range: `length` bytes at `offset` into `pages`.
  bool send_gpa_direct(std::span<const std::byte> payload, std::span<const std::uint64_t> pages, std::uint32_t offset,
                       std::uint32_t length, std::uint64_t transaction_id = 0, bool wants_completion = true);
  /// Any packet at all, `header` included.
  bool send_packet(const OutgoingPacket& packet);
  bool complete(std::uint64_t transaction_id, std::span<const std::byte> payload = {});
  /// The next packet from the device. Runs the loop first when the ring is empty.
  [[nodiscard]] std::optional<Packet> receive();
  /// The same without running the loop.
  [[nodiscard]] std::optional<Packet> try_receive();
  /// Sets the guest's indexes and control words directly, as a hostile guest would.
  [[nodiscard]] RingPages& to_host_pages() { return to_host_pages_; }
  [[nodiscard]] RingPages& to_guest_pages() { return to_guest_pages_; }
  /// Signals the device whether or not it is due.
  void signal();

  /// Signals that the device has sent.
  [[nodiscard]] std::uint64_t interrupts() const { return interrupts_; }
  [[nodiscard]] bool is_open() const { return host_ != nullptr; }
  /// What the device (or its open()) failed with, if it did; the channel is closed then.
  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }
  void close();
  [[nodiscard]] Channel& host() { return *host_; }
  /// How many subchannels the device has offered through this channel.
  [[nodiscard]] std::uint16_t offered_subchannels() const { return offered_subchannels_; }

 private:
  friend class FakeGuest;
  GuestChannel(FakeGuest& guest, Device& device, RingPages to_host, RingPages to_guest);
  void run_signal();
  void take_turn();

  FakeGuest& guest_;
  Device& device_;
  RingPages to_host_pages_;
  RingPages to_guest_pages_;
  std::optional<OutgoingRing> outgoing_;
  std::optional<IncomingRing> incoming_;
  std::unique_ptr<Channel> host_;
  std::optional<Error> failure_;
  std::uint64_t interrupts_ = 0;
  std::uint16_t offered_subchannels_ = 0;
  bool signal_posted_ = false;
};

class FakeGuest : private ChannelBus {
 public:
  /// RAM of `megabytes` from address 0 on.
  explicit FakeGuest(std::uint64_t megabytes = 32);
  ~FakeGuest() override;

  [[nodiscard]] memory::GuestMemory& memory() { return memory_; }
  [[nodiscard]] EventLoop& loop() { return *loop_; }

  /// Opens a channel; look at failure() when the device may refuse it.
  [[nodiscard]] std::unique_ptr<GuestChannel> open(Device& device, GuestChannelOptions options = {});
  /// Takes `count` zeroed pages that nothing else uses, in descending order, so that nothing is contiguous by luck.
  [[nodiscard]] std::vector<std::uint64_t> allocate_pages(std::size_t count);
  /// Registers pages under a new number.
  [[nodiscard]] GpadlId create_gpadl(std::vector<std::uint64_t> pages);
  /// Takes a GPADL back, telling the device as the bus would.
  void tear_down_gpadl(GuestChannel& channel, GpadlId id);
  void write(std::span<const std::uint64_t> pages, std::uint64_t offset, std::span<const std::byte> bytes);
  [[nodiscard]] std::vector<std::byte> read(std::span<const std::uint64_t> pages, std::uint64_t offset, std::size_t length);

  /// Runs the loop until nothing is ready. Work that other threads will post is waited for at most `limit` when given.
  void run(std::chrono::milliseconds limit = std::chrono::milliseconds(0));

 private:
  friend class GuestChannel;
  void signal_guest(Channel& channel) override;
  std::shared_ptr<const Gpadl> find_gpadl(Channel& channel, GpadlId id) override;
  void offer_subchannels(Channel& channel, std::uint16_t count) override;
  void channel_failed(Channel& channel, Error error) override;
  void retry_later(Channel& channel) override;
  void call_again(Channel& channel) override;
  [[nodiscard]] GuestChannel* find(const Channel& channel);

  memory::GuestMemory memory_;
  std::unique_ptr<EventLoop> loop_;
  std::map<const Channel*, GuestChannel*> channels_;
  std::map<GpadlId, std::shared_ptr<const Gpadl>> gpadls_;
  std::uint64_t next_page_ = 0;
  std::uint32_t next_gpadl_ = 1;
  std::uint32_t next_channel_ = 1;
};

}  // namespace bygone::vmbus::testing
