// An open channel as its device sees it: two rings, the guest's shared buffers, and the way to signal.
//
// Threading: a channel belongs to its device's event loop. Everything here is called on that loop, except fail() and the
// observers marked "any thread".
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>

#include "memory/guest_memory.h"
#include "spec/vmbus/messages.h"
#include "support/event_loop.h"
#include "support/result.h"
#include "vmbus/packet.h"
#include "vmbus/page_ranges.h"
#include "vmbus/ring.h"

namespace bygone::vmbus {

using spec::vmbus::Version;

/// Guest memory that the guest has registered under a number, for as long as its channel lives or until it tears it down.
struct GpadlId {
  std::uint32_t value = 0;
  friend constexpr auto operator<=>(GpadlId, GpadlId) = default;
};
using Gpadl = PageRanges;

struct ChannelParameters {
  std::uint32_t channel_id = 0;           ///< unique on the bus while the offer stands
  std::uint16_t subchannel_index = 0;     ///< 0: the primary channel
  spec::vmbus::UserData user_data = {};   ///< what the guest said when it opened the channel
  Version version = Version::kNone;       ///< of the bus
  bool is_restored = false;               ///< from saved state: the guest has not opened it anew
};

/// What one turn takes out of a ring: a guest that sends without end leaves the loop to others all the same.
inline constexpr std::uint32_t kPacketsATurn = 1024;

struct ChannelStatistics {
  std::uint64_t completions_received = 0;  ///< of packets_received
  std::uint64_t packets_received = 0;
  std::uint64_t packets_sent = 0;
  std::uint64_t signals_sent = 0;
  std::uint64_t signals_received = 0;
  std::uint64_t ring_full = 0;
};

class Channel;

/// What a channel asks of the bus that carries it: the server, or a test's stand-in.
class ChannelBus {
 public:
  virtual ~ChannelBus() = default;
  /// Raises the channel's interrupt in the guest. Any thread.
  virtual void signal_guest(Channel& channel) = 0;
  /// Null when the guest has not registered it for this channel's offer. Any thread.
  [[nodiscard]] virtual std::shared_ptr<const Gpadl> find_gpadl(Channel& channel, GpadlId id) = 0;
  /// Offers subchannels 1 … count of a primary channel to the guest. On the loop.
  virtual void offer_subchannels(Channel& channel, std::uint16_t count) = 0;
  /// Takes the channel from the device (close() follows); the guest may close and reopen it. Any thread.
  virtual void channel_failed(Channel& channel, Error error) = 0;
  /// Calls the device's on_signal() again after a short while: the guest will not signal room. On the loop.
  virtual void retry_later(Channel& channel) = 0;
  /// Calls the device's on_signal() again when the loop's others have had their turn. On the loop.
  virtual void call_again(Channel& channel) = 0;
};

class Channel {
 public:
  /// `memory`, `loop` and `bus` outlive the channel.
  Channel(memory::GuestMemory& memory, EventLoop& loop, ChannelBus& bus, ChannelParameters parameters, IncomingRing incoming,
          OutgoingRing outgoing);
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  [[nodiscard]] const ChannelParameters& parameters() const { return parameters_; }  ///< any thread
  [[nodiscard]] memory::GuestMemory& memory() const { return memory_; }              ///< any thread
  [[nodiscard]] EventLoop& loop() const { return loop_; }                            ///< any thread
  [[nodiscard]] std::shared_ptr<const Gpadl> gpadl(GpadlId id) { return bus_.find_gpadl(*this, id); }

  /// The next packet, or false when there is none, or when this turn has had kPacketsATurn: then on_signal() is called again. A
  /// device that has been signalled must call it until it is false, or use receive_again(): the guest does not signal in between.
  /// Errors: kCorrupt; return them from on_signal().
  [[nodiscard]] Result<bool> receive(Packet& into);
  /// The device stopped before receive() was false: calls on_signal() again after the next flush().
  void receive_again() { call_again_ = true; }
  /// For close(), where no other turn follows: receive() has a whole turn again.
  void start_turn() { left_this_turn_ = kPacketsATurn; }
  /// Puts a packet into the ring. False: no room; on_signal() is called when there may be. Signals go out with flush().
  /// Errors: kInvalidArgument (larger than the ring), kCorrupt.
  [[nodiscard]] Result<bool> send(const OutgoingPacket& packet);
  /// In-band data.
  [[nodiscard]] Result<bool> send(std::initializer_list<std::span<const std::byte>> payload, std::uint64_t transaction_id = 0,
                                  bool wants_completion = false);
  /// The answer to a packet that wants one.
  [[nodiscard]] Result<bool> complete(std::uint64_t transaction_id, std::span<const std::byte> payload = {});
  /// Data that lies in pieces of a transfer page set.
  [[nodiscard]] Result<bool> send_transfer_pages(std::uint16_t page_set, std::span<const TransferRange> ranges,
                                                 std::span<const std::byte> payload, std::uint64_t transaction_id,
                                                 bool wants_completion = true);
  /// Ends a turn. Signals the guest, at most once, for everything received and sent since the last flush. Called by the bus after
  /// on_signal(); a device that sends at other times calls it itself, once a batch.
  void flush();
  [[nodiscard]] std::uint32_t maximum_payload(std::uint32_t header_bytes = 0) const {
    return outgoing_.maximum_payload(header_bytes);
  }

  /// Primary channels: offers subchannels 1 … count, each to be opened like this one.
  void offer_subchannels(std::uint16_t count) { bus_.offer_subchannels(*this, count); }
  /// The guest broke the protocol outside on_signal(): gives the channel up. Any thread.
  void fail(Error error) { bus_.channel_failed(*this, std::move(error)); }

  [[nodiscard]] const ChannelStatistics& statistics() const { return statistics_; }
  void count_signal() { ++statistics_.signals_received; }

 private:
  memory::GuestMemory& memory_;
  EventLoop& loop_;
  ChannelBus& bus_;
  ChannelParameters parameters_;
  IncomingRing incoming_;
  OutgoingRing outgoing_;
  ChannelStatistics statistics_;
  std::uint32_t left_this_turn_ = kPacketsATurn;
  bool call_again_ = false;
  bool hands_over_ = false;  ///< the guest will complete what was sent since the last signal
};

}  // namespace bygone::vmbus
