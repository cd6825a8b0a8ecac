#include "vmbus/opened_channel.h"

#include <algorithm>
#include <chrono>

#include "spec/vmbus/messages.h"

namespace bygone::vmbus {

namespace {
/// How soon a full ring is looked at again when the guest will not tell of room.
constexpr auto kRetry = std::chrono::milliseconds(10);
}  // namespace

OpenedChannel::OpenedChannel(Device& device, EventLoop& loop, hyperv::SynicPort& synic, memory::GuestMemory& memory, Log log,
                             RateLimit& complaints, std::uint32_t target_vp, std::optional<std::uint64_t> interrupt_page, Services services)
    : device_(device),
      loop_(loop),
      synic_(synic),
      memory_(memory),
      log_(std::move(log)),
      complaints_(complaints),
      target_vp_(target_vp),
      interrupt_page_(interrupt_page),
      services_(std::move(services)) {}

void OpenedChannel::start(std::move_only_function<void(bool accepted)> done) {
  loop_.post([self = shared_from_this(), done = std::move(done)]() mutable {
    auto opened = self->device_.open(*self->channel_);
    if (!opened) {
      if (self->complaints_.allow()) {
        self->log_.warning("{}: the guest's channel is refused: {}", self->device_.offer().name, opened.error().text());
      }
      self->state_ = State::kClosed;
      done(false);
      return;
    }
    self->state_ = State::kOpen;
    self->channel_->flush();
    done(true);
    // A restored guest may have signalled into the void; a new one may have been quick.
    self->guest_signalled();
  });
}

void OpenedChannel::stop(std::move_only_function<void()> done) {
  loop_.post([self = shared_from_this(), done = std::move(done)]() mutable {
    self->stopped_ = std::move(done);
    if (self->state_ == State::kOpen) {
      self->close_device();
    } else if (self->state_ != State::kClosing) {
      std::exchange(self->stopped_, nullptr)();
    }
  });
}

void OpenedChannel::close_device() {
  state_ = State::kClosing;
  device_.close(*channel_, [self = shared_from_this()] {
    self->loop_.post([self] { self->device_closed(); });
  });
}

void OpenedChannel::device_closed() {
  state_ = State::kClosed;
  for (auto& done : std::exchange(torn_down_, {})) done();
  if (stopped_) std::exchange(stopped_, nullptr)();
}

void OpenedChannel::tear_down_gpadl(GpadlId id, std::move_only_function<void()> done) {
  loop_.post([self = shared_from_this(), id, done = std::move(done)]() mutable {
    if (self->state_ == State::kOpen) self->device_.on_gpadl_teardown(*self->channel_, id);
    // A channel that broke is closed without the guest's asking, and what is on its way may still use the memory.
    if (self->state_ == State::kClosing) {
      self->torn_down_.push_back(std::move(done));
    } else {
      done();
    }
  });
}

void OpenedChannel::guest_signalled() {
  if (signal_posted_.exchange(true)) return;
  loop_.post([self = shared_from_this()] { self->run_signal(); });
}

void OpenedChannel::run_signal() {
  signal_posted_.store(false);
  if (state_ != State::kOpen) return;
  channel_->count_signal();
  loop_.pace().woken();
  const ChannelStatistics before = channel_->statistics();
  take_turn();
  if (state_ != State::kOpen) return;
  const ChannelStatistics& now = channel_->statistics();
  const std::uint64_t packets = now.packets_received - before.packets_received;
  const std::uint64_t at_hand = packets == 0 ? 0 : std::max<std::uint64_t>(packets, device_.requests_in_flight(*channel_));
  loop_.pace().found(at_hand, now.completions_received - before.completions_received);
}

void OpenedChannel::take_turn() {
  if (state_ != State::kOpen) return;
  if (auto done = device_.on_signal(*channel_); !done) {
    give_up(done.error());
    return;
  }
  if (state_ == State::kOpen) channel_->flush();
}

void OpenedChannel::give_up(const Error& error) {
  if (state_ != State::kOpen) return;
  if (complaints_.allow()) {
    log_.warning("{}: the guest broke the protocol on channel {} and loses it until it opens it anew: {}", device_.offer().name,
                 channel_id(), error.text());
  }
  close_device();
}

void OpenedChannel::channel_failed(Channel&, Error error) {
  loop_.post([self = shared_from_this(), error = std::move(error)] { self->give_up(error); });
}

void OpenedChannel::retry_later(Channel&) {
  if (retry_armed_) return;
  retry_armed_ = true;
  loop_.add_timer(std::chrono::steady_clock::now() + kRetry, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      self->retry_armed_ = false;
      self->take_turn();
    }
  });
}

void OpenedChannel::call_again(Channel&) {
  if (std::exchange(turn_posted_, true)) return;
  loop_.post([self = shared_from_this()] {
    self->turn_posted_ = false;
    self->take_turn();
  });
}

void OpenedChannel::set_target_vp(std::uint32_t target_vp) {
  target_vp_.store(target_vp);
  // An interrupt may have gone to the old processor, which does not look for this channel any more.
  interrupt();
}

void OpenedChannel::interrupt() {
  const std::uint32_t target = target_vp_.load();
  if (target == spec::vmbus::kNoInterrupts) return;
  std::uint16_t flag = static_cast<std::uint16_t>(channel_id());
  if (interrupt_page_) {
    const memory::Gpa place{*interrupt_page_ + channel_id() / 32 * std::uint64_t{4}};
    const std::span<std::byte> word = memory_.host_span(place, sizeof(std::uint32_t));
    if (word.empty() || *interrupt_page_ % memory::kPageSize != 0) return;
    std::atomic_ref(*reinterpret_cast<std::uint32_t*>(word.data())).fetch_or(1U << channel_id() % 32);
    memory_.mark_dirty(place, sizeof(std::uint32_t));
    flag = 0;
  }
  synic_.signal_event(cpu::VpIndex{target}, spec::vmbus::kMessageSint, flag);
}

void OpenedChannel::signal_guest(Channel&) { interrupt(); }

std::shared_ptr<const Gpadl> OpenedChannel::find_gpadl(Channel&, GpadlId id) { return services_.find_gpadl(id); }

void OpenedChannel::offer_subchannels(Channel&, std::uint16_t count) { services_.offer_subchannels(count); }

}  // namespace bygone::vmbus
