// The seam between the synthetic interrupt controller and whoever sends messages and events through it (VMBus).
// TLFS chapter 11 (ports, messages, events).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "cpu/state.h"
#include "support/result.h"

namespace bygone {
class EventLoop;
}

namespace bygone::hyperv {

inline constexpr std::size_t kMaximumMessagePayload = 240;  ///< HV_MESSAGE_PAYLOAD_BYTE_COUNT

enum class PostOutcome {
  kDelivered,
  kSlotBusy,     ///< message-pending is set; the slot-free handler will be called
  kNotEnabled,   ///< SynIC, SIMP or the SINT is off; the message was dropped
};

/// Threading: all calls from any thread. Handlers are called on the thread of the vCPU that made the hypercall or wrote EOM, with
/// no lock of the SynIC held, so they may call back.
class SynicPort {
 public:
  virtual ~SynicPort() = default;

  /// Puts a message (type, at most 240 bytes) into slot `sint` of `vp`'s message page and raises its vector.
  [[nodiscard]] virtual PostOutcome post_message(cpu::VpIndex vp, std::uint8_t sint, std::uint32_t message_type,
                                                 std::span<const std::byte> payload) = 0;
  /// Sets flag `flag` (0-2047) of `sint` in `vp`'s event flags page; raises the vector if the flag was clear.
  virtual void signal_event(cpu::VpIndex vp, std::uint8_t sint, std::uint16_t flag) = 0;
  /// Called when a slot that was busy may be free again.
  virtual void set_slot_free_handler(std::function<void(cpu::VpIndex vp, std::uint8_t sint)> handler) = 0;

  /// HvCallPostMessage on `connection_id` calls `handler`. The handler returns a TLFS status code (0: success).
  using MessageHandler = std::function<std::uint16_t(cpu::VpIndex vp, std::uint32_t message_type, std::span<const std::byte> payload)>;
  virtual void connect_message_port(std::uint32_t connection_id, MessageHandler handler) = 0;
  virtual void disconnect_message_port(std::uint32_t connection_id) = 0;
  /// HvCallSignalEvent on `connection_id` calls `handler` with the flag number. Quick: it runs in the guest's hypercall or, when
  /// the engine takes such calls, on `loop` (null: a thread of the engine's); several signals may then be one call.
  /// disconnect returns only when no handler is running.
  using EventHandler = std::function<void(std::uint16_t flag)>;
  virtual void connect_event_port(std::uint32_t connection_id, EventHandler handler, EventLoop* loop) = 0;
  virtual void disconnect_event_port(std::uint32_t connection_id) = 0;
};

}  // namespace bygone::hyperv
