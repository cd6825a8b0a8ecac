// The base of devices whose whole protocol is small in-band messages over one channel: keyboard, mouse, video, integration.
//
// It drains the ring, checks sizes, answers packets that want a completion, takes pipe headers off and puts them on, and keeps
// messages that find the ring full, up to a bound, in order.
// Threading: as Device; send() on the device's loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <span>
#include <vector>

#include "vmbus/device.h"

namespace bygone::vmbus {

/// What lies between descriptor and message.
enum class Framing {
  kRaw,   ///< nothing: the packet's data is the message
  kPipe,  ///< spec::vmbus::PipeHeader with the message's exact length
};

struct PacketDeviceLimits {
  std::size_t message_bytes = 16384;  ///< longer messages from the guest break the protocol
  std::size_t queued_bytes = 65536;   ///< what may wait for room in the ring
};

class PacketDevice : public Device {
 public:
  [[nodiscard]] const Offer& offer() const final { return offer_; }
  [[nodiscard]] Result<void> open(Channel& channel) final;
  void close(Channel& channel, Closed done) final;
  [[nodiscard]] Result<void> on_signal(Channel& channel) final;
  /// save_state() and the messages that wait for room.
  [[nodiscard]] Result<nlohmann::json> save() final;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) final;

 protected:
  PacketDevice(Offer offer, Framing framing, PacketDeviceLimits limits = {});

  /// The channel is open: send() works.
  [[nodiscard]] virtual Result<void> on_open(const ChannelParameters& parameters);
  virtual void on_close();
  /// A message; with Framing::kRaw padded to a multiple of 8 bytes. An error takes the channel from the guest.
  [[nodiscard]] virtual Result<void> on_message(std::span<const std::byte> message) = 0;

  /// As Device::save() and restore(), of what the subclass keeps: an object.
  [[nodiscard]] virtual Result<nlohmann::json> save_state();
  [[nodiscard]] virtual Result<void> restore_state(const nlohmann::json& state);

  [[nodiscard]] bool is_open() const { return channel_ != nullptr; }
  /// Valid while is_open().
  [[nodiscard]] Channel& channel() const { return *channel_; }
  /// Sends the concatenation of `pieces`, now or when the guest makes room. False: not open, or too much waits already; the
  /// message is dropped then (state that matters must be sent again by the caller).
  bool send(std::initializer_list<std::span<const std::byte>> pieces);
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  bool send_object(const T& message) {
    return send({bytes_of(message)});
  }

 private:
  [[nodiscard]] Result<void> deliver(const Packet& packet);
  [[nodiscard]] Result<bool> put(std::span<const std::byte> message);
  [[nodiscard]] Result<void> send_queued();
  void forget_queued();

  Offer offer_;
  Framing framing_;
  PacketDeviceLimits limits_;
  Channel* channel_ = nullptr;
  bool in_signal_ = false;
  Packet packet_;
  std::deque<std::vector<std::byte>> queue_;
  std::size_t queued_bytes_ = 0;
};

}  // namespace bygone::vmbus
