// What a device on the bus implements.
//
//   guest opens the channel   → open()       rings are ready; refuse with an error
//   guest signals             → on_signal()  receive() until there is nothing more, send answers
//   guest closes, bus resets  → close()      nothing touches guest memory after done()
//
// Threading: the bus calls everything here on the event loop that the device was added with, one call at a time, so a device
// needs no locks. Slow devices (keyboard, integration…) share one loop's thread; storage and network have their own. Guest
// signals arrive on a vCPU's thread and are handed over to the loop at once, several as one. A device that gets work from
// elsewhere (a window, a completed disk request) posts it to the loop first.
// Lifetime: a Channel lives from open() until close()'s done() has been called.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "spec/vmbus/messages.h"
#include "support/guid.h"
#include "support/result.h"
#include "vmbus/channel.h"

namespace bygone::vmbus {

/// How the guest learns of a device.
struct Offer {
  std::string name;                      ///< for people: logs, inspection, saved state; unique on the bus
  Guid interface_type = {};              ///< the class: decides which driver the guest loads
  Guid instance = {};                    ///< this one; stable over the machine's life
  std::uint16_t flags = 0;               ///< spec::vmbus::kOffer…
  std::uint16_t mmio_megabytes = 0;      ///< address space that the guest shall set aside
  spec::vmbus::UserData user_data = {};  ///< pipe offers: starts with the pipe type
  std::uint16_t maximum_subchannels = 0;
};

/// Makes `offer` a pipe of messages (keyboard, mouse, integration…): flag and pipe type.
inline void set_message_pipe(Offer& offer) {
  offer.flags = static_cast<std::uint16_t>(offer.flags | spec::vmbus::kOfferNamedPipeMode);
  offer.user_data[0] = static_cast<std::uint8_t>(spec::vmbus::kPipeTypeMessage);
}

class Device {
 public:
  /// Call it exactly once, from any thread, when the channel is no longer used and no guest memory will be touched for it.
  using Closed = std::move_only_function<void()>;

  virtual ~Device() = default;

  /// Constant over the device's life. Any thread.
  [[nodiscard]] virtual const Offer& offer() const = 0;
  /// The guest opens a channel: the primary, or a subchannel that the device has offered through it. An error refuses it.
  /// A channel whose parameters say is_restored continues where restore() left the device.
  [[nodiscard]] virtual Result<void> open(Channel& channel) = 0;
  virtual void close(Channel& channel, Closed done) = 0;
  /// The guest has sent something or made room. An error means that the guest broke the protocol: the channel is taken away
  /// (close() follows), and nothing else happens to the machine.
  [[nodiscard]] virtual Result<void> on_signal(Channel& channel) = 0;
  /// Requests of this channel that others still work on: a guest with several is not worth interrupting for one (support/pace.h).
  [[nodiscard]] virtual std::size_t requests_in_flight(const Channel& channel) const;
  /// The guest wants its memory back: drop every reference to this GPADL before returning. Not called for rings.
  virtual void on_gpadl_teardown(Channel& channel, GpadlId id);
  /// The machine resets; all channels are closed by now.
  virtual void reset();

  /// The device's own state, without rings; called while no vCPU runs. Wait for work in flight first.
  [[nodiscard]] virtual Result<nlohmann::json> save();
  /// Takes over what save() gave, all of it or nothing; open() with is_restored follows for channels that were open.
  [[nodiscard]] virtual Result<void> restore(const nlohmann::json& state);
  /// For people: state and statistics.
  [[nodiscard]] virtual nlohmann::json inspect() const;
};

}  // namespace bygone::vmbus
