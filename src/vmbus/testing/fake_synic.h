// A synthetic interrupt controller for tests: it keeps messages and counts events.
// Threading: any thread.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "hyperv/synic_port.h"

namespace bygone::vmbus::testing {

class FakeSynic : public hyperv::SynicPort {
 public:
  hyperv::PostOutcome post_message(cpu::VpIndex, std::uint8_t, std::uint32_t, std::span<const std::byte> payload) override {
    const std::lock_guard lock(mutex_);
    if (slot_) return hyperv::PostOutcome::kSlotBusy;
    slot_.emplace(payload.begin(), payload.end());
    return hyperv::PostOutcome::kDelivered;
  }
  void signal_event(cpu::VpIndex vp, std::uint8_t, std::uint16_t flag) override {
    const std::lock_guard lock(mutex_);
    ++events_[{vp.value, flag}];
  }
  void set_slot_free_handler(std::function<void(cpu::VpIndex, std::uint8_t)> handler) override { slot_free_ = std::move(handler); }
  void connect_message_port(std::uint32_t id, MessageHandler handler) override {
    const std::lock_guard lock(mutex_);
    message_ports_[id] = std::move(handler);
  }
  void disconnect_message_port(std::uint32_t id) override {
    const std::lock_guard lock(mutex_);
    message_ports_.erase(id);
  }
  void connect_event_port(std::uint32_t id, EventHandler handler, EventLoop*) override {
    const std::lock_guard lock(mutex_);
    event_ports_[id] = std::move(handler);
  }
  void disconnect_event_port(std::uint32_t id) override {
    const std::lock_guard lock(mutex_);
    event_ports_.erase(id);
  }

  // The guest's side.

  [[nodiscard]] std::uint16_t guest_posts(std::uint32_t connection_id, std::span<const std::byte> payload) {
    MessageHandler handler;
    {
      const std::lock_guard lock(mutex_);
      const auto found = message_ports_.find(connection_id);
      if (found == message_ports_.end()) return 0x12;  // HV_STATUS_INVALID_CONNECTION_ID
      handler = found->second;
    }
    return handler(cpu::VpIndex{0}, 1, payload);
  }
  /// False: no such port.
  bool guest_signals(std::uint32_t connection_id) {
    EventHandler handler;
    {
      const std::lock_guard lock(mutex_);
      const auto found = event_ports_.find(connection_id);
      if (found == event_ports_.end()) return false;
      handler = found->second;
    }
    handler(0);
    return true;
  }
  /// Takes the message out of the slot and tells the host that it is free.
  [[nodiscard]] std::optional<std::vector<std::byte>> take_message() {
    std::optional<std::vector<std::byte>> message;
    {
      const std::lock_guard lock(mutex_);
      message = std::exchange(slot_, std::nullopt);
    }
    if (message && slot_free_) slot_free_(cpu::VpIndex{0}, 2);
    return message;
  }
  [[nodiscard]] int events(std::uint32_t vp, std::uint16_t flag) {
    const std::lock_guard lock(mutex_);
    return events_[{vp, flag}];
  }

 private:
  std::mutex mutex_;
  std::optional<std::vector<std::byte>> slot_;
  std::map<std::pair<std::uint32_t, std::uint16_t>, int> events_;
  std::map<std::uint32_t, MessageHandler> message_ports_;
  std::map<std::uint32_t, EventHandler> event_ports_;
  std::function<void(cpu::VpIndex, std::uint8_t)> slot_free_;
};

}  // namespace bygone::vmbus::testing
