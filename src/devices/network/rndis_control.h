// The control half of RNDIS: a guest driver asks, sets and is answered. Without I/O: a request in, an answer out.
// Specification: MS-RNDIS 2.2; the OIDs of NDIS 6.30 that Linux's hv_netvsc and Windows' netvsc use.
//
// Threading: none; the adapter's loop.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <vector>

#include "spec/internet/headers.h"
#include "spec/rndis/oids.h"
#include "spec/rndis/rndis.h"
#include "support/relaxed_counter.h"
#include "support/result.h"

namespace bygone::devices::network {

using spec::internet::MacAddress;

inline constexpr std::uint32_t kUsualMtu = 1500;
/// What a guest may put into one message: the largest TCP segment with its headers.
inline constexpr std::size_t kMaximumMessageBytes = 128 << 10;
/// Frames that a guest may put into one message, each starting at a multiple of 8.
inline constexpr std::uint32_t kMaximumPacketsAMessage = 8;
inline constexpr std::uint32_t kPacketAlignmentShift = 3;

/// Raised by the adapter's loop, read by any thread.
struct AdapterCounters {
  RelaxedCounter frames_sent, bytes_sent;
  RelaxedCounter frames_received, bytes_received;
  RelaxedCounter frames_filtered;      ///< the guest did not ask for them
  RelaxedCounter frames_without_room;  ///< lost: the guest gave no buffer
  RelaxedCounter bad_messages;         ///< of the guest
};

class RndisControl {
 public:
  /// `counters` and what it belongs to outlive this.
  RndisControl(const MacAddress& permanent, const AdapterCounters& counters);

  /// Back to a driver's first message; `offload_revision` is 1 to 3, the newest that its NVSP version knows.
  void reset();
  /// What the bus below has agreed on: asked for in answers.
  void set_link_terms(std::uint32_t mtu, std::uint8_t offload_revision, bool can_coalesce);
  void set_link(bool is_up) { link_is_up_ = is_up; }

  /// A whole control message; the answer, header included, or nothing where none is due. Errors: kCorrupt (not a message).
  [[nodiscard]] Result<std::optional<std::vector<std::byte>>> handle(std::span<const std::byte> message);
  /// A message that tells of the link, when the driver has not been told yet.
  [[nodiscard]] std::optional<std::vector<std::byte>> take_link_change();

  [[nodiscard]] bool is_initialized() const { return initialized_; }
  /// Whether the driver wants a frame with this destination.
  [[nodiscard]] bool accepts(const MacAddress& destination) const;
  [[nodiscard]] bool coalesces_ipv4() const { return coalesce_ipv4_ && can_coalesce_; }
  [[nodiscard]] bool coalesces_ipv6() const { return coalesce_ipv6_ && can_coalesce_; }
  [[nodiscard]] std::uint32_t mtu() const { return mtu_; }
  [[nodiscard]] const MacAddress& address() const { return address_; }

  [[nodiscard]] nlohmann::json save() const;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state);
  [[nodiscard]] nlohmann::json inspect() const;

 private:
  using Status = spec::rndis::Status;
  [[nodiscard]] std::vector<std::byte> query(const spec::rndis::OidRequest& request, std::span<const std::byte> information) const;
  [[nodiscard]] std::optional<std::vector<std::byte>> answer(spec::rndis::Oid oid, std::span<const std::byte> information) const;
  [[nodiscard]] std::vector<std::byte> offload_capabilities(std::span<const std::byte> information) const;
  [[nodiscard]] Status set(spec::rndis::Oid oid, std::span<const std::byte> information);
  [[nodiscard]] Status set_multicast_list(std::span<const std::byte> information);
  [[nodiscard]] Status set_offload_parameters(std::span<const std::byte> information);
  [[nodiscard]] Status set_config_parameter(std::span<const std::byte> information);

  const MacAddress permanent_address_;
  const AdapterCounters& counters_;
  bool initialized_ = false;
  bool link_is_up_ = false;
  std::optional<bool> told_link_;
  std::uint32_t mtu_ = kUsualMtu;
  std::uint8_t offload_revision_ = 1;
  bool can_coalesce_ = false;
  bool coalesce_ipv4_ = false, coalesce_ipv6_ = false;
  std::uint32_t packet_filter_ = 0;
  MacAddress address_;
  std::vector<MacAddress> multicast_;
};

}  // namespace bygone::devices::network
