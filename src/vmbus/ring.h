// The two halves of a channel: rings in guest memory, one for each direction, shared with a guest that may write anything
// into them at any time.
//
//   sender                              receiver
//   write packet behind write_index     mask signals
//   publish write_index                 read packets up to write_index
//   ring was empty and not masked?      publish read_index; sender waits for room and now has it? signal
//     signal                            unmask, look again
//
// Each side keeps its own index here and only publishes it; the other side's index is checked on every look. The classes are
// the same for host and guest: tests play the guest with them on the opposite rings.
//
// Threading: one thread at a time each. The index words are atomics shared with the guest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "memory/guest_memory.h"
#include "support/result.h"
#include "vmbus/packet.h"

namespace bygone::vmbus {

/// The pages of one ring: control page and data. The pages need not be contiguous.
class RingPages {
 public:
  enum class Field : std::uint32_t { kWriteIndex = 0, kReadIndex = 4, kInterruptMask = 8, kPendingSendSize = 12, kFeatureBits = 64 };

  /// Errors: kInvalidArgument (fewer than two pages), kOutOfRange (not RAM). `memory` outlives the ring.
  [[nodiscard]] static Result<RingPages> create(memory::GuestMemory& memory, std::span<const std::uint64_t> pages);

  /// Bytes of the data part.
  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] std::uint32_t load(Field field) const;
  void store(Field field, std::uint32_t value);
  /// Copy with wrap-around; offset < size(), at most size() bytes.
  void read(std::uint32_t offset, std::span<std::byte> into) const;
  void write(std::uint32_t offset, std::span<const std::byte> from);

 private:
  RingPages() = default;
  [[nodiscard]] std::uint32_t* word(Field field) const;

  memory::GuestMemory* memory_ = nullptr;
  std::vector<std::uint64_t> pages_;
  std::vector<std::byte*> host_;
  std::uint32_t size_ = 0;
};

/// The receiving end.
class IncomingRing {
 public:
  /// Takes over at the published read index. Errors: kCorrupt (indexes that no ring has).
  [[nodiscard]] static Result<IncomingRing> create(RingPages pages);

  /// Copies the next packet out. False: there is none; the read index is published and signals are on again. While it returns
  /// true signals stay off and the room that was read is not yet given back: publish() does that early.
  /// Errors: kCorrupt; the ring is then not to be used again.
  [[nodiscard]] Result<bool> receive(Packet& into);
  /// Gives back the room of what was received.
  void publish();
  /// Whether the sender waits for room that it got since the last call: signal it.
  [[nodiscard]] bool take_signal() { return std::exchange(signal_, false); }
  /// Whether the sender honours and sets pending_send_size.
  [[nodiscard]] bool sender_has_flow_control() const;

 private:
  explicit IncomingRing(RingPages pages) : pages_(std::move(pages)) {}
  [[nodiscard]] Result<std::uint32_t> available() const;

  RingPages pages_;
  std::uint32_t read_ = 0;
  std::uint32_t published_ = 0;
  bool masked_ = false;
  bool signal_ = false;
};

/// What to send. The payload is the concatenation of its pieces.
struct OutgoingPacket {
  PacketType type = PacketType::kInBand;
  std::uint64_t transaction_id = 0;
  bool wants_completion = false;
  std::span<const std::byte> header = {};  ///< between descriptor and data, a multiple of 8 bytes (transfer pages, GPA direct)
  std::span<const std::span<const std::byte>> payload = {};
};

/// The sending end.
class OutgoingRing {
 public:
  /// Takes over at the published write index. Errors: kCorrupt.
  [[nodiscard]] static Result<OutgoingRing> create(RingPages pages);

  /// Sets this side's feature bit.
  void announce_flow_control();
  /// Writes and publishes a packet. False: it does not fit now; the receiver is asked to signal when it does.
  /// Errors: kInvalidArgument (it can never fit), kCorrupt (the receiver's index).
  [[nodiscard]] Result<bool> send(const OutgoingPacket& packet);
  /// Whether the receiver must be told of what was sent since the last call.
  [[nodiscard]] bool take_signal() { return std::exchange(signal_, false); }
  /// The largest payload that the empty ring holds behind `header_bytes`.
  [[nodiscard]] std::uint32_t maximum_payload(std::uint32_t header_bytes = 0) const;

 private:
  explicit OutgoingRing(RingPages pages) : pages_(std::move(pages)) {}
  [[nodiscard]] Result<std::uint32_t> room() const;
  void copy_in(const OutgoingPacket& packet, std::uint32_t data_offset, std::uint32_t length);

  RingPages pages_;
  std::uint32_t write_ = 0;
  bool pending_ = false;
  bool signal_ = false;
};

}  // namespace bygone::vmbus
