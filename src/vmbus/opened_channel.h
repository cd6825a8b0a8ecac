// One open channel as the server keeps it: the way from and to the guest's interrupts, and the order of open, signal and close
// on the device's loop.
//
// Threading: guest_signalled(), signal_guest() and set_target_vp() from any thread; start() and stop() post to the device's loop.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "hyperv/synic_port.h"
#include "support/log.h"
#include "vmbus/channel.h"
#include "vmbus/device.h"

namespace bygone::vmbus {

class OpenedChannel final : public ChannelBus, public std::enable_shared_from_this<OpenedChannel> {
 public:
  struct Services {
    std::function<std::shared_ptr<const Gpadl>(GpadlId)> find_gpadl;
    std::function<void(std::uint16_t count)> offer_subchannels;
  };
  OpenedChannel(Device& device, EventLoop& loop, hyperv::SynicPort& synic, memory::GuestMemory& memory, Log log,
                RateLimit& complaints, std::uint32_t target_vp, std::optional<std::uint64_t> interrupt_page, Services services);

  void attach(std::unique_ptr<Channel> channel) { channel_ = std::move(channel); }
  [[nodiscard]] EventLoop& loop() { return loop_; }
  [[nodiscard]] std::uint32_t channel_id() const { return channel_->parameters().channel_id; }

  /// Opens the device; `done` runs on the device's loop.
  void start(std::move_only_function<void(bool accepted)> done);
  /// Takes the channel from the device, unless it has lost it already; `done` runs on the device's loop.
  void stop(std::move_only_function<void()> done);
  void tear_down_gpadl(GpadlId id, std::move_only_function<void()> done);

  /// The guest's side of the event port. Quick.
  void guest_signalled();
  void set_target_vp(std::uint32_t target_vp);
  void interrupt();
  /// Device's loop.
  [[nodiscard]] ChannelStatistics statistics() const { return channel_->statistics(); }

  // ChannelBus
  void signal_guest(Channel& channel) override;
  std::shared_ptr<const Gpadl> find_gpadl(Channel& channel, GpadlId id) override;
  void offer_subchannels(Channel& channel, std::uint16_t count) override;
  void channel_failed(Channel& channel, Error error) override;
  void retry_later(Channel& channel) override;
  void call_again(Channel& channel) override;

 private:
  enum class State { kNew, kOpen, kClosing, kClosed };
  void run_signal();
  void take_turn();
  void give_up(const Error& error);
  void close_device();
  void device_closed();

  Device& device_;
  EventLoop& loop_;
  hyperv::SynicPort& synic_;
  memory::GuestMemory& memory_;
  Log log_;
  RateLimit& complaints_;  ///< the bus's: a guest that breaks channels in a loop does not fill the log
  std::atomic<std::uint32_t> target_vp_;
  std::optional<std::uint64_t> interrupt_page_;
  Services services_;
  std::unique_ptr<Channel> channel_;
  std::atomic<bool> signal_posted_ = false;
  // Device's loop only:
  State state_ = State::kNew;
  bool retry_armed_ = false;
  bool turn_posted_ = false;
  std::move_only_function<void()> stopped_;
  std::vector<std::move_only_function<void()>> torn_down_;  ///< kClosing: memory that the guest wants back
};

}  // namespace bygone::vmbus
