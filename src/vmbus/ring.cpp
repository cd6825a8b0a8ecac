#include "vmbus/ring.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "spec/vmbus/ring.h"

namespace bygone::vmbus {

using memory::Gpa;
using memory::kPageSize;
using spec::vmbus::PacketDescriptor;
using spec::vmbus::PacketTrailer;
using Field = RingPages::Field;

namespace {

/// A ring larger than this serves nobody (Linux uses up to 2 MiB a direction).
constexpr std::size_t kMaximumRingPages = 16384;

std::uint32_t used_bytes(std::uint32_t write, std::uint32_t read, std::uint32_t size) {
  return write >= read ? write - read : size - read + write;
}

bool is_index(std::uint32_t index, std::uint32_t size) { return index < size && index % 8 == 0; }

}  // namespace

Result<RingPages> RingPages::create(memory::GuestMemory& memory, std::span<const std::uint64_t> pages) {
  if (pages.size() < 2 || pages.size() > kMaximumRingPages) {
    return fail(ErrorCode::kInvalidArgument, "a ring of {} pages", pages.size());
  }
  RingPages ring;
  ring.memory_ = &memory;
  ring.pages_.assign(pages.begin(), pages.end());
  for (const std::uint64_t page : pages) {
    const std::span<std::byte> host = memory.host_span(Gpa::from_page(page), kPageSize);
    if (host.empty()) return fail(ErrorCode::kOutOfRange, "ring page {:#x} is not RAM", page);
    ring.host_.push_back(host.data());
  }
  ring.size_ = static_cast<std::uint32_t>((pages.size() - 1) * kPageSize);
  return ring;
}

std::uint32_t* RingPages::word(Field field) const {
  return reinterpret_cast<std::uint32_t*>(host_.front() + static_cast<std::uint32_t>(field));
}

std::uint32_t RingPages::load(Field field) const {
  return std::atomic_ref(*word(field)).load(std::memory_order_acquire);
}

void RingPages::store(Field field, std::uint32_t value) {
  std::atomic_ref(*word(field)).store(value, std::memory_order_release);
  memory_->mark_dirty(Gpa::from_page(pages_.front()) + static_cast<std::uint32_t>(field), sizeof value);
}

void RingPages::read(std::uint32_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const std::size_t in_page = offset % kPageSize;
    const std::size_t piece = std::min<std::size_t>(into.size(), kPageSize - in_page);
    std::memcpy(into.data(), host_[1 + offset / kPageSize] + in_page, piece);
    into = into.subspan(piece);
    offset = static_cast<std::uint32_t>((offset + piece) % size_);
  }
}

void RingPages::write(std::uint32_t offset, std::span<const std::byte> from) {
  while (!from.empty()) {
    const std::size_t page = 1 + offset / kPageSize;
    const std::size_t in_page = offset % kPageSize;
    const std::size_t piece = std::min<std::size_t>(from.size(), kPageSize - in_page);
    std::memcpy(host_[page] + in_page, from.data(), piece);
    memory_->mark_dirty(Gpa::from_page(pages_[page]) + in_page, piece);
    from = from.subspan(piece);
    offset = static_cast<std::uint32_t>((offset + piece) % size_);
  }
}

Result<IncomingRing> IncomingRing::create(RingPages pages) {
  IncomingRing ring(std::move(pages));
  ring.read_ = ring.published_ = ring.pages_.load(Field::kReadIndex);
  if (!is_index(ring.read_, ring.pages_.size())) {
    return fail(ErrorCode::kCorrupt, "read index {} in a ring of {} bytes", ring.read_, ring.pages_.size());
  }
  BYGONE_CHECK(ring.available());
  return ring;
}

Result<std::uint32_t> IncomingRing::available() const {
  const std::uint32_t write = pages_.load(Field::kWriteIndex);
  if (!is_index(write, pages_.size())) {
    return fail(ErrorCode::kCorrupt, "write index {} in a ring of {} bytes", write, pages_.size());
  }
  return used_bytes(write, read_, pages_.size());
}

Result<bool> IncomingRing::receive(Packet& into) {
  if (!masked_) {
    pages_.store(Field::kInterruptMask, 1);
    masked_ = true;
  }
  BYGONE_ASSIGN(std::uint32_t bytes, available());
  if (bytes == 0) {
    publish();
    pages_.store(Field::kInterruptMask, 0);
    masked_ = false;
    // A packet that came before the sender could see the mask go is not signalled: look again.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    BYGONE_ASSIGN(bytes, available());
    if (bytes == 0) return false;
    pages_.store(Field::kInterruptMask, 1);
    masked_ = true;
  }
  PacketDescriptor descriptor;
  if (bytes < sizeof descriptor + sizeof(PacketTrailer)) {
    return fail(ErrorCode::kCorrupt, "{} bytes in the ring are less than a packet", bytes);
  }
  pages_.read(read_, writable_bytes_of(descriptor));
  const std::uint32_t length = std::uint32_t{descriptor.length8} * 8;
  const std::uint32_t data_offset = std::uint32_t{descriptor.data_offset8} * 8;
  if (length < sizeof descriptor || length > bytes - sizeof(PacketTrailer)) {
    return fail(ErrorCode::kCorrupt, "a packet of {} bytes among {} in the ring", length, bytes);
  }
  if (data_offset < sizeof descriptor || data_offset > length) {
    return fail(ErrorCode::kCorrupt, "data at {} in a packet of {} bytes", data_offset, length);
  }
  into.bytes_.resize(length);
  pages_.read(read_, into.bytes_);
  read_ = (read_ + length + static_cast<std::uint32_t>(sizeof(PacketTrailer))) % pages_.size();
  BYGONE_CHECK(into.parse(descriptor));
  return true;
}

void IncomingRing::publish() {
  if (read_ == published_) return;
  const std::uint32_t size = pages_.size();
  const std::uint32_t freed = used_bytes(read_, published_, size);
  pages_.store(Field::kReadIndex, read_);
  published_ = read_;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint32_t pending = pages_.load(Field::kPendingSendSize);
  if (pending == 0) return;
  const std::uint32_t write = pages_.load(Field::kWriteIndex);
  if (!is_index(write, size)) return;  // the next receive() says so
  const std::uint32_t room_now = size - used_bytes(write, read_, size);
  // Only the step that makes enough room signals: before it the sender waited, after it the sender fits.
  if (room_now > pending && room_now - std::min(room_now, freed) <= pending) signal_ = true;
}

bool IncomingRing::sender_has_flow_control() const {
  return (pages_.load(Field::kFeatureBits) & spec::vmbus::kFeaturePendingSendSize) != 0;
}

Result<OutgoingRing> OutgoingRing::create(RingPages pages) {
  OutgoingRing ring(std::move(pages));
  ring.write_ = ring.pages_.load(Field::kWriteIndex);
  if (!is_index(ring.write_, ring.pages_.size())) {
    return fail(ErrorCode::kCorrupt, "write index {} in a ring of {} bytes", ring.write_, ring.pages_.size());
  }
  BYGONE_CHECK(ring.room());
  return ring;
}

void OutgoingRing::announce_flow_control() {
  pages_.store(Field::kFeatureBits, pages_.load(Field::kFeatureBits) | spec::vmbus::kFeaturePendingSendSize);
}

Result<std::uint32_t> OutgoingRing::room() const {
  const std::uint32_t read = pages_.load(Field::kReadIndex);
  if (!is_index(read, pages_.size())) {
    return fail(ErrorCode::kCorrupt, "read index {} in a ring of {} bytes", read, pages_.size());
  }
  return pages_.size() - used_bytes(write_, read, pages_.size());
}

std::uint32_t OutgoingRing::maximum_payload(std::uint32_t header_bytes) const {
  constexpr std::uint32_t kFrame = sizeof(PacketDescriptor) + sizeof(PacketTrailer);
  // Never completely full: a full ring would look empty. length8 counts to 65535.
  const std::uint32_t most = std::min(pages_.size() - 8 - kFrame, std::uint32_t{0xFFFF} * 8 - kFrame);
  return most > header_bytes ? most - header_bytes : 0;
}

Result<bool> OutgoingRing::send(const OutgoingPacket& packet) {
  std::size_t payload_bytes = 0;
  for (const auto piece : packet.payload) payload_bytes += piece.size();
  if (packet.header.size() % 8 != 0 || packet.header.size() > pages_.size() ||
      payload_bytes > maximum_payload(static_cast<std::uint32_t>(packet.header.size()))) {
    return fail(ErrorCode::kInvalidArgument, "a packet of {} bytes does not fit a ring of {}", payload_bytes, pages_.size());
  }
  const auto data_offset = static_cast<std::uint32_t>(sizeof(PacketDescriptor) + packet.header.size());
  const auto length = static_cast<std::uint32_t>((data_offset + payload_bytes + 7) / 8 * 8);
  const std::uint32_t total = length + static_cast<std::uint32_t>(sizeof(PacketTrailer));

  BYGONE_ASSIGN(std::uint32_t free_bytes, room());
  if (free_bytes <= total) {
    pages_.store(Field::kPendingSendSize, total);
    pending_ = true;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    BYGONE_ASSIGN(free_bytes, room());
    if (free_bytes <= total) return false;
  }
  if (pending_) {
    pages_.store(Field::kPendingSendSize, 0);
    pending_ = false;
  }
  copy_in(packet, data_offset, length);
  const std::uint32_t before = write_;
  write_ = (write_ + total) % pages_.size();
  pages_.store(Field::kWriteIndex, write_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (pages_.load(Field::kInterruptMask) == 0 && pages_.load(Field::kReadIndex) == before) signal_ = true;
  return true;
}

void OutgoingRing::copy_in(const OutgoingPacket& packet, std::uint32_t data_offset, std::uint32_t length) {
  const std::uint32_t size = pages_.size();
  std::uint32_t at = write_;
  const auto put = [&](std::span<const std::byte> bytes) {
    pages_.write(at, bytes);
    at = static_cast<std::uint32_t>((at + bytes.size()) % size);
  };
  PacketDescriptor descriptor;
  descriptor.type = static_cast<std::uint16_t>(packet.type);
  descriptor.data_offset8 = static_cast<std::uint16_t>(data_offset / 8);
  descriptor.length8 = static_cast<std::uint16_t>(length / 8);
  descriptor.flags = packet.wants_completion ? spec::vmbus::kPacketFlagCompletionRequested : std::uint16_t{0};
  descriptor.transaction_id = packet.transaction_id;
  put(bytes_of(descriptor));
  put(packet.header);
  std::size_t payload_bytes = 0;
  for (const auto piece : packet.payload) {
    put(piece);
    payload_bytes += piece.size();
  }
  static constexpr std::array<std::byte, 8> kPadding = {};
  put(std::span(kPadding).first(length - data_offset - payload_bytes));
  PacketTrailer trailer;
  trailer.packet_offset = write_;
  put(bytes_of(trailer));
}

}  // namespace bygone::vmbus
