// What a network adapter is plugged into, as the adapter sees it: frames go out, frames come in, the cable is in or not.
//
//   adapter ── send(frame) … finish_burst() ──> Backend        (NAT, a TAP interface, nothing)
//   adapter <── deliver(frame) … finish_delivery(), set_link() ── FrameSink
//
// Threading: both sides live on one event loop, the adapter's; everything here is called on it, or before it runs. send() may
// call deliver() before it returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>

#include "spec/internet/headers.h"
#include "support/result.h"

namespace bygone::network {

using spec::internet::MacAddress;

/// An Ethernet frame with a VLAN tag and the largest IP packet behind it.
inline constexpr std::size_t kMaximumFrameBytes = sizeof(spec::internet::EthernetHeader) + sizeof(spec::internet::VlanTag) + 65575;

/// What is known of a frame besides its bytes.
struct FrameNotes {
  bool checksums_are_valid = false;  ///< IP, TCP and UDP checksums have been seen to be right (or made here)
  /// Nonzero: the frame is several TCP segments of this many payload bytes each in one, as large as the sender found handy.
  std::uint16_t segment_bytes = 0;
};

/// Takes what comes from the network.
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  /// False: there was no room and the frame is lost.
  virtual bool deliver(std::span<const std::byte> frame, const FrameNotes& notes) = 0;
  /// Whether deliver() has room now; a back end that can leave frames where they are asks first.
  [[nodiscard]] virtual bool has_room() const = 0;
  /// What was delivered since the last call may go to the guest now.
  virtual void finish_delivery() = 0;
  virtual void set_link(bool is_up) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  /// Begins to deliver into `sink`, which outlives this. Called once, before the loop runs.
  [[nodiscard]] virtual Result<void> start(FrameSink& sink) = 0;
  /// A frame with right checksums. What cannot be sent is dropped and counted.
  virtual void send(std::span<const std::byte> frame) = 0;
  /// The frames of one burst have been sent.
  virtual void finish_burst() = 0;
  /// The sink has room again after has_room() was false.
  virtual void has_room_again() {}
  /// Whether send() takes TCP segments larger than the wire's, up to kMaximumFrameBytes.
  [[nodiscard]] virtual bool takes_large_segments() const { return false; }
  /// The guest's driver has said how large its IP packets may be, and whether frames with segment_bytes are welcome.
  virtual void set_guest_limits(std::uint32_t /*mtu*/, bool /*takes_large_segments*/) {}
  /// For people: kind, state and statistics.
  [[nodiscard]] virtual nlohmann::json inspect() const = 0;
};

}  // namespace bygone::network
