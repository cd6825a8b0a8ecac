// One stream between a guest program and a host program: a VMBus channel of its own on the one side, a Unix socket on the other.
//
//   offered ── guest opens ──> open ── both directions ended, or a side is gone ──> leaving ── off the bus ──> over
//      └── not opened in time ──────────────────────────────────────────────────────┘
//
// Each direction is held by the slower side: what the socket does not take stays in the ring, what the ring does not take stays in
// the socket. An end of file is passed on by itself (half close). When the host program closes, what it has written still goes to
// the guest, then the offer is taken back; when the guest closes its channel, what it has sent still goes to the host program.
//
// Threading: everything on the loop that the device is added to the bus with.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "support/event_loop.h"
#include "support/unique_fd.h"
#include "vmbus/device.h"

namespace bygone::devices::sockets {

enum class Direction { kToGuest, kToHost };  ///< who connects to whom

struct ConnectionOptions {
  std::uint64_t number = 0;  ///< distinguishes the machine's connections
  Direction direction = Direction::kToGuest;
  Guid service = {};         ///< what the connecting side asks for
  Guid instance = {};        ///< the channel's; the guest's own endpoint when it connects
  /// The host's program. Without one (a restored machine's lost connections) the guest is told that it is gone.
  UniqueFd socket;
  std::chrono::milliseconds open_limit = std::chrono::seconds(5);  ///< how long a guest has to open the channel
};

class Connection final : public vmbus::Device {
 public:
  struct Events {
    std::function<void()> opened;  ///< the guest has taken it; may be empty. Data follows when it returns
    std::function<void()> leave;   ///< take it off the bus, then call left()
    std::function<void()> over;    ///< nothing more to do; destroy it, but not from within
  };
  Connection(ConnectionOptions options, EventLoop& loop, Events events);
  ~Connection() override;

  /// It is off the bus.
  void left();
  /// The host wants no more of it.
  void abandon();

  [[nodiscard]] Direction direction() const { return options_.direction; }
  [[nodiscard]] const Guid& service() const { return options_.service; }
  [[nodiscard]] bool was_opened() const { return was_opened_; }
  /// Hands the host's end out, before leave(): to tell the program what went wrong.
  [[nodiscard]] int socket() const { return options_.socket.get(); }

  // vmbus::Device
  [[nodiscard]] const vmbus::Offer& offer() const override { return offer_; }
  [[nodiscard]] Result<void> open(vmbus::Channel& channel) override;
  void close(vmbus::Channel& channel, Closed done) override;
  [[nodiscard]] Result<void> on_signal(vmbus::Channel& channel) override;
  [[nodiscard]] nlohmann::json inspect() const override;

 private:
  enum class State { kOffered, kOpen, kLeaving, kOver };

  void on_socket(std::uint32_t events);
  [[nodiscard]] Result<void> pump();
  [[nodiscard]] Result<bool> receive_batch(std::size_t limit);
  [[nodiscard]] Result<void> take_packet();
  /// False: the program's socket is full.
  bool write_to_socket();
  [[nodiscard]] Result<bool> pump_to_host();
  [[nodiscard]] Result<bool> pump_to_guest();
  [[nodiscard]] Result<bool> send_to_guest(std::span<const std::byte> data);
  void read_socket();
  void pump_again();
  void program_is_gone();
  void watch();
  void unwatch();
  void finish_if_done();
  void begin_leave();
  void finish_flush();

  ConnectionOptions options_;
  EventLoop& loop_;
  Events events_;
  vmbus::Offer offer_;
  State state_ = State::kOffered;
  bool was_opened_ = false;
  bool is_off_bus_ = false;
  std::optional<EventLoop::TimerId> timer_;
  vmbus::Channel* channel_ = nullptr;
  vmbus::Packet packet_;
  std::uint32_t watched_ = 0;
  bool is_watching_ = false;
  bool again_posted_ = false;

  std::vector<std::byte> to_host_;  ///< taken from the ring, not yet by the socket
  std::size_t to_host_done_ = 0;
  bool guest_ended_ = false;        ///< it sends no more
  bool end_told_to_host_ = false;
  std::vector<std::byte> to_guest_;  ///< taken from the socket, not yet by the ring
  bool host_ended_ = false;          ///< the program writes no more
  bool end_told_to_guest_ = false;
  bool program_gone_ = false;        ///< nor reads
  std::uint64_t bytes_to_host_ = 0;
  std::uint64_t bytes_to_guest_ = 0;
};

}  // namespace bygone::devices::sockets
