// The bus's control plane: what the guest's control messages mean, as a state machine without I/O.
//
// Messages and the devices' answers go in; actions come out and are carried out by the server (server.h). So every order of
// events can be played in a test, and the whole state can be saved.
//
//   INITIATE_CONTACT ── resets everything ──> VERSION_RESPONSE
//   REQUEST_OFFERS ────────────────────────> OFFER_CHANNEL …, ALL_OFFERS_DELIVERED
//   GPADL_HEADER, GPADL_BODY … ────────────> GPADL_CREATED
//   OPEN_CHANNEL ── device opens ──────────> OPEN_CHANNEL_RESULT
//   CLOSE_CHANNEL, GPADL_TEARDOWN ── device has let go ──> GPADL_TORNDOWN
//   UNLOAD ── all devices have let go ─────> UNLOAD_COMPLETE
//
// A message that makes no sense is dropped and counted, or earns the failure status that its answer has room for.
// Bounded: a guest makes this class hold at most kMaximumGpadlPages page numbers and kMaximumGpadls descriptions.
// Source: the interface that Hyper-V's guests implement, as Linux's drivers/hv and Microsoft's openvmm describe it; versions 0.13
// to 6.0. Monitor pages are not offered: no channel has one allocated.
// Threading: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "spec/vmbus/messages.h"
#include "support/result.h"
#include "vmbus/channel.h"
#include "vmbus/device.h"

namespace bygone::vmbus {

inline constexpr std::size_t kMaximumGpadlPages = 1U << 19;  ///< 4 MiB of page numbers for 2 GiB of guest memory
inline constexpr std::size_t kMaximumGpadls = 8192;

/// The host's own name for an offer; never used again.
struct OfferId {
  std::uint32_t value = 0;
  friend constexpr auto operator<=>(OfferId, OfferId) = default;
};

/// The connection id on which the guest signals a channel: as Hyper-V builds it, from channel and SINT.
[[nodiscard]] constexpr std::uint32_t event_connection_id(std::uint32_t channel_id) {
  return channel_id | std::uint32_t{spec::vmbus::kMessageSint} << 12;
}

struct SendMessage {
  std::uint32_t target_vp = 0;
  std::vector<std::byte> bytes;
};
/// Open the channel to its device; answer with opened().
struct OpenChannel {
  OfferId offer;
  ChannelParameters parameters;
  std::shared_ptr<const Gpadl> ring;
  std::uint32_t downstream_page_offset = 0;
  std::uint32_t target_vp = 0;
};
/// Take the channel from its device; answer with closed().
struct CloseChannel {
  OfferId offer;
};
struct SetTargetVp {
  OfferId offer;
  std::uint32_t target_vp = 0;
};
/// The guest wants this memory back; answer with gpadl_released().
struct TearDownGpadl {
  OfferId offer;
  GpadlId gpadl;
};
/// The offer is gone for good: nothing will name it again.
struct OfferRemoved {
  OfferId offer;
};
/// The guest connects to a service of the host's (hvsocket).
struct ConnectSocket {
  Guid endpoint;
  Guid service;
};
using Action = std::variant<SendMessage, OpenChannel, CloseChannel, SetTargetVp, TearDownGpadl, OfferRemoved, ConnectSocket>;

class Control {
 public:
  Control();
  ~Control();

  // Inputs. Each may add actions; take them afterwards.

  /// A message on a message port. Errors say what was wrong with a message that was dropped (kCorrupt, kUnsupported).
  [[nodiscard]] Result<void> handle_message(std::span<const std::byte> message);
  /// Offers a device's channel; the guest hears of it when it has asked for offers. Errors: kExhausted (channel ids),
  /// kAlreadyExists (the same instance and subchannel).
  [[nodiscard]] Result<OfferId> add_offer(const Offer& offer);
  /// Offers subchannels 1 … count of an open primary channel. Errors: kOutOfRange, kExhausted, kNotFound.
  [[nodiscard]] Result<std::vector<OfferId>> add_subchannels(OfferId primary, std::uint16_t count);
  /// Takes an offer back, with its subchannels; OfferRemoved follows when device and guest have let go.
  void revoke(OfferId offer);
  void opened(OfferId offer, bool accepted);
  void closed(OfferId offer);
  void gpadl_released(OfferId offer, GpadlId gpadl);
  /// The guest cannot connect to the socket it asked for.
  void refuse_socket(const Guid& endpoint, const Guid& service);
  /// The machine was reset: as if the guest had never been here. Quiet when is_quiet().
  void reset();

  [[nodiscard]] std::vector<Action> take_actions();

  // State.

  [[nodiscard]] bool is_connected() const { return connection_.has_value(); }
  /// The guest has asked for offers, in a version that has sockets.
  [[nodiscard]] bool takes_sockets() const { return connection_ && connection_->offers_sent && connection_->version >= Version::k4_0; }
  [[nodiscard]] Version version() const { return connection_ ? connection_->version : Version::kNone; }
  /// The page through which guests before 2.4 pass interrupts; its second half is the guest's.
  [[nodiscard]] std::optional<std::uint64_t> interrupt_page() const;
  /// Nothing waits for a device.
  [[nodiscard]] bool is_quiet() const;
  [[nodiscard]] std::shared_ptr<const Gpadl> find_gpadl(OfferId offer, GpadlId gpadl) const;
  [[nodiscard]] std::uint32_t channel_id(OfferId offer) const;
  [[nodiscard]] std::optional<OfferId> find_channel(std::uint32_t channel_id) const;

  /// Errors: kBusy unless is_quiet().
  [[nodiscard]] Result<nlohmann::json> save() const;
  /// On a fresh object to which the same primary offers were added. Returns the subchannels that were offered; OpenChannel
  /// actions with is_restored come for channels that were open. Errors: kCorrupt, kNotFound; nothing has changed then.
  struct RestoredSubchannel {
    OfferId offer;
    OfferId primary;
    std::uint16_t index = 0;
  };
  [[nodiscard]] Result<std::vector<RestoredSubchannel>> restore(const nlohmann::json& state);
  [[nodiscard]] nlohmann::json inspect() const;

 private:
  struct Connection {
    Version version = Version::kNone;
    std::uint32_t target_message_vp = 0;
    std::uint64_t interrupt_page = 0;
    bool offers_sent = false;
  };
  struct OpenRequest {
    std::uint32_t open_id = 0;
    GpadlId ring;
    std::uint32_t target_vp = 0;
    std::uint32_t downstream_page_offset = 0;
    spec::vmbus::UserData user_data = {};
  };
  enum class State { kClosed, kOpening, kOpen, kClosing };
  struct Entry {
    Offer offer;
    std::optional<OfferId> primary;  ///< of a subchannel
    std::uint16_t subchannel_index = 0;
    std::uint32_t channel_id = 0;
    State state = State::kClosed;
    bool known_to_guest = false;  ///< offered in this connection and not released
    bool revoked = false;
    bool restoring = false;  ///< kOpening: from saved state, so the guest has its answer already
    OpenRequest open;                     ///< unless kClosed
    std::optional<OpenRequest> reopen;    ///< kClosing: the guest has opened it again
  };
  struct GpadlEntry {
    std::shared_ptr<const Gpadl> gpadl;
    bool tearing_down = false;
  };
  struct PartialGpadl {
    OfferId offer;
    std::vector<std::byte> bytes;
    std::size_t expected = 0;
    std::uint16_t range_count = 0;
  };
  using GpadlKey = std::pair<OfferId, GpadlId>;
  struct Contact {
    std::uint32_t requested = 0;
    std::uint32_t target_message_vp = 0;
    std::uint64_t interrupt_page_or_target = 0;
  };
  struct Unload {
    std::uint32_t target_message_vp = 0;
    bool answer = false;
  };

  // control.cpp: connection and offers
  Result<void> handle_initiate_contact(std::span<const std::byte> message);
  Result<void> handle_request_offers();
  Result<void> handle_unload();
  Result<void> handle_tl_connect(std::span<const std::byte> message);
  void disconnect();
  void continue_if_quiet();
  void answer_contact(const Contact& contact);
  void send_offer(Entry& entry);
  void release_from_guest(OfferId id);
  void remove_if_done(OfferId id);
  Result<std::uint32_t> allocate_channel_id() const;
  template <typename Message>
  void send(Message message, spec::vmbus::MessageType type, std::size_t size = sizeof(Message));

  // control_channel.cpp: channels and GPADLs
  Result<OfferId> find_offered(std::uint32_t channel_id) const;
  Result<void> handle_open(std::span<const std::byte> message);
  Result<void> handle_close(std::span<const std::byte> message);
  Result<void> handle_modify(std::span<const std::byte> message);
  Result<void> handle_relid_released(std::span<const std::byte> message);
  Result<void> handle_gpadl_header(std::span<const std::byte> message);
  Result<void> handle_gpadl_body(std::span<const std::byte> message);
  Result<void> handle_gpadl_teardown(std::span<const std::byte> message);
  Result<void> finish_gpadl(GpadlId id);
  void send_gpadl_created(OfferId offer, GpadlId id, std::uint32_t status);
  void send_gpadl_torndown(OfferId offer, GpadlId id);
  void request_open(OfferId id, const OpenRequest& request);
  void send_open_result(const Entry& entry, const OpenRequest& request, std::uint32_t status);
  void drop_gpadls(OfferId offer);
  void finish_teardowns(OfferId offer);

  std::map<OfferId, Entry> offers_;
  std::map<GpadlKey, GpadlEntry> gpadls_;
  std::map<GpadlId, PartialGpadl> partial_gpadls_;
  std::size_t gpadl_pages_ = 0;
  std::uint32_t next_offer_ = 1;
  std::optional<Connection> connection_;
  /// What to do when all devices have let go of their channels; set while disconnecting.
  std::optional<std::variant<std::monostate, Contact, Unload>> after_disconnect_;
  std::uint32_t last_message_vp_ = 0;
  std::vector<Action> actions_;
};

}  // namespace bygone::vmbus
