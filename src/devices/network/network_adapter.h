// The synthetic network adapter (NetVSP): RNDIS messages in the rings and shared buffers of a VMBus device become Ethernet
// frames for a back end, and back.
//
//   guest sends:    ring ── packet ──> message, copied once ──> frame, checksums and segments made ──> Backend::send
//   guest receives: FrameSink::deliver ──> sections of its receive buffer … finish_delivery() ──> one packet, one signal
//
// Sections go to the guest and come back with its completions; when none is left, frames are lost, as on a wire.
// Protocol 1, 2, 4, 5, 6.0 and 6.1, see spec/netvsp/netvsp.h. One channel: no subchannels are offered, and a driver that asks is
// refused. From 6.1 on large TCP segments go to a driver that wants them in one piece (receive segment coalescing).
// Threading: as vmbus::Device; a loop of its own, which it shares with its back end.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/network/rndis_control.h"
#include "devices/network/shared_buffers.h"
#include "network/backend.h"
#include "spec/netvsp/netvsp.h"
#include "support/event_loop.h"
#include "support/guid.h"
#include "support/log.h"
#include "vmbus/device.h"

namespace bygone::devices::network {

struct SavedBuffers;

struct AdapterOptions {
  std::string name = "net0";  ///< for people and saved state
  Guid instance;              ///< stable over the machine's life; which adapter this is to the guest
  MacAddress address = {};    ///< unicast
  Log log;
};

class NetworkAdapter final : public vmbus::Device, private bygone::network::FrameSink {
 public:
  /// `loop` is the one that the device will be added to the bus with; `backend` lives on it and outlives this.
  NetworkAdapter(AdapterOptions options, EventLoop& loop, bygone::network::Backend& backend);
  ~NetworkAdapter() override;

  /// Plugs the back end in. Before the loop runs. Errors: the back end's.
  [[nodiscard]] Result<void> start();

  // vmbus::Device
  [[nodiscard]] const vmbus::Offer& offer() const override { return offer_; }
  [[nodiscard]] Result<void> open(vmbus::Channel& channel) override;
  void close(vmbus::Channel& channel, Closed done) override;
  [[nodiscard]] Result<void> on_signal(vmbus::Channel& channel) override;
  void on_gpadl_teardown(vmbus::Channel& channel, vmbus::GpadlId id) override;
  void reset() override;
  [[nodiscard]] Result<nlohmann::json> save() override;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override;
  [[nodiscard]] nlohmann::json inspect() const override;
  /// Frames that have come and gone. Any thread.
  [[nodiscard]] std::uint64_t frames() const { return counters_.frames_sent.get() + counters_.frames_received.get(); }

 private:
  /// Sections that go to the guest, or are there, under one transaction.
  struct Batch {
    bool in_use = false;
    std::uint32_t channel_type = 0;
    std::vector<vmbus::TransferRange> ranges;
  };
  struct Completion {
    std::uint64_t transaction_id = 0;
    std::vector<std::byte> message;
  };

  // network::FrameSink
  bool deliver(std::span<const std::byte> frame, const bygone::network::FrameNotes& notes) override;
  [[nodiscard]] bool has_room() const override;
  void finish_delivery() override;
  void set_link(bool is_up) override;

  // From the guest.
  [[nodiscard]] Result<void> drain();
  [[nodiscard]] Result<void> handle_packet();
  [[nodiscard]] Result<void> handle_protocol(std::uint32_t type, std::span<const std::byte> body);
  void initialize(const spec::netvsp::Initialize& request);
  void set_receive_buffer(const spec::netvsp::SendBuffer& request);
  void set_send_buffer(const spec::netvsp::SendBuffer& request);
  [[nodiscard]] Result<void> handle_rndis(const spec::netvsp::SendRndisPacket& request);
  [[nodiscard]] bool copy_message(const spec::netvsp::SendRndisPacket& request);
  [[nodiscard]] bool transmit(std::span<std::byte> message);
  [[nodiscard]] bool transmit_frame(std::span<std::byte> frame, std::uint32_t checksums, std::uint32_t segment_bytes);
  void send_frame(std::span<const std::byte> frame);
  void control(std::span<const std::byte> message);
  void complete_with(std::uint32_t type, std::span<const std::byte> body);
  template <typename T>
  void complete_with(spec::netvsp::MessageType type, const T& body) {
    complete_with(static_cast<std::uint32_t>(type), bytes_of(body));
  }

  // To the guest.
  bool put_frame(std::span<const std::byte> frame, const bygone::network::FrameNotes& notes);
  bool put_pieces(std::span<const std::byte> frame, std::uint32_t checksums, std::optional<std::uint32_t> vlan, std::size_t count);
  [[nodiscard]] std::size_t write_header(std::uint32_t checksums, std::optional<std::uint32_t> vlan, std::uint8_t piece_flags,
                                         std::size_t data_bytes);
  void put_control(std::span<const std::byte> message);
  void send_batch();
  [[nodiscard]] Result<void> send_waiting();
  [[nodiscard]] Result<bool> put_batch(std::uint32_t index);
  [[nodiscard]] Batch& open_batch(std::uint32_t channel_type);
  void finish_batch(std::uint64_t transaction_id);
  void drop_receive_buffer();
  void tell_link();
  void tell_backend();

  [[nodiscard]] std::size_t message_bytes() const;
  [[nodiscard]] std::size_t piece_capacity() const;
  [[nodiscard]] std::size_t most_ranges() const;
  [[nodiscard]] Result<void> adopt_restored(vmbus::Channel& channel);

  const AdapterOptions options_;
  EventLoop& loop_;
  bygone::network::Backend& backend_;
  vmbus::Offer offer_;
  AdapterCounters counters_;
  RndisControl rndis_;

  vmbus::Channel* channel_ = nullptr;
  std::uint32_t version_ = 0;  ///< of NVSP; 0: not agreed yet
  std::uint32_t guest_mtu_ = kUsualMtu;
  std::optional<ReceiveBuffer> receive_;
  std::optional<SendBuffer> send_;
  std::unique_ptr<SavedBuffers> restored_;

  vmbus::Packet packet_;
  std::unique_ptr<std::byte[]> message_;  ///< kMaximumMessageBytes: the private copy that is worked in
  std::size_t message_length_ = 0;
  std::vector<std::byte> scratch_;
  std::array<std::byte, 128> header_ = {};

  std::vector<Batch> batches_;             ///< a transaction's id is its generation and its index here
  std::vector<std::uint32_t> free_batches_;
  std::uint32_t batch_generation_ = 1;     ///< changes with the receive buffer: completions for an earlier one mean nothing
  std::optional<std::uint32_t> filling_;   ///< what deliver() adds to
  std::deque<std::uint32_t> waiting_batches_;    ///< found the ring full
  std::deque<Completion> waiting_completions_;
  bool draining_ = false;
  bool drain_posted_ = false;
  mutable bool starved_ = false;  ///< the back end has heard that there is no room, and waits to hear of some
  std::uint64_t batches_sent_ = 0;
  bool backend_knows_large_ = false;
  std::uint32_t backend_knows_mtu_ = 0;
};

}  // namespace bygone::devices::network
