// One direction of a channel.
// SPDX-License-Identifier: Apache-2.0
#include "Vmbus.h"

namespace bygone::vmbus {
namespace {

constexpr UINT32 kTrailerBytes = 8;
constexpr UINT32 kUsesPendingSendSize = BIT0;
constexpr UINTN kMaximumPacketBytes = 8 * MAX_UINT16;

}  // namespace

void Ring::format(UINT8* pages, UINTN page_count) {
  control_ = reinterpret_cast<volatile RingControl*>(pages);
  data_ = pages + EFI_PAGE_SIZE;
  size_ = static_cast<UINT32>(EFI_PAGES_TO_SIZE(page_count - 1));
  // We signal the host when we have made the room that it waits for.
  control_->feature_bits = kUsesPendingSendSize;
}

/// Returns the index behind it. `index` is in the ring, and the part is no longer than it.
UINT32 Ring::copy_in(UINT32 index, Part part) {
  const UINTN first = MIN(part.count, size_ - index);
  CopyMem(data_ + index, part.bytes, first);
  CopyMem(data_, static_cast<const UINT8*>(part.bytes) + first, part.count - first);
  index += static_cast<UINT32>(part.count);
  return index >= size_ ? index - size_ : index;
}

/// `index` is less than twice the ring's size.
void Ring::copy_out(UINT32 index, void* to, UINTN count) const {
  if (index >= size_) index -= size_;
  const UINTN first = MIN(count, size_ - index);
  CopyMem(to, data_ + index, first);
  CopyMem(static_cast<UINT8*>(to) + first, data_, count - first);
}

EFI_STATUS Ring::send(PacketHeader header, Part range, Part pages, Part payload, bool& signal) {
  signal = false;
  const UINT32 read = control_->read_index;
  const UINT32 start = control_->write_index;
  if (read >= size_ || start >= size_) return EFI_DEVICE_ERROR;
  const UINT32 room = start >= read ? size_ - (start - read) : read - start;

  const UINTN payload_offset = sizeof header + range.count + pages.count;
  if (payload.count > kMaximumPacketBytes - payload_offset) return EFI_BAD_BUFFER_SIZE;
  const UINTN bytes = payload_offset + payload.count;
  const UINTN padded = ALIGN_VALUE(bytes, 8);
  if (padded + kTrailerBytes >= room) return EFI_NOT_READY;
  header.data_offset8 = static_cast<UINT16>(payload_offset / 8);
  header.length8 = static_cast<UINT16>(padded / 8);

  const UINT64 zero = 0;
  const UINT64 trailer = static_cast<UINT64>(start) << 32;
  const Part parts[] = {{&header, sizeof header}, range, pages, payload, {&zero, padded - bytes}, {&trailer, sizeof trailer}};
  UINT32 write = start;
  for (const Part& part : parts) write = copy_in(write, part);

  MemoryFence();
  control_->write_index = write;
  full_fence();
  // The host drains until it sees the ring empty: only a ring that was empty needs a signal.
  signal = control_->interrupt_mask == 0 && control_->read_index == start;
  return EFI_SUCCESS;
}

EFI_STATUS Ring::receive(PacketHeader& header, void* payload, UINTN& bytes, bool& signal) {
  signal = false;
  const UINT32 read = control_->read_index;
  const UINT32 write = control_->write_index;
  if (read == write) return EFI_NOT_READY;
  if (read >= size_ || write >= size_) return EFI_DEVICE_ERROR;

  MemoryFence();
  const UINT32 used = write >= read ? write - read : size_ - (read - write);
  if (used < sizeof header + kTrailerBytes) return EFI_DEVICE_ERROR;
  copy_out(read, &header, sizeof header);
  const UINT32 length = header.length8 * 8U;
  const UINT32 offset = header.data_offset8 * 8U;
  if (offset < sizeof header || length < offset || length + kTrailerBytes > used) return EFI_DEVICE_ERROR;
  bytes = MIN(bytes, length - offset);
  copy_out(read + offset, payload, bytes);

  const UINT32 next = read + length + kTrailerBytes;
  MemoryFence();
  control_->read_index = next >= size_ ? next - size_ : next;
  // The host signals a ring that it finds empty after writing; we look again after reading.
  full_fence();
  const UINT32 room_before = size_ - used;
  const UINT32 pending = control_->pending_send_size;
  signal = pending != 0 && room_before <= pending && room_before + length + kTrailerBytes > pending;
  return EFI_SUCCESS;
}

}  // namespace bygone::vmbus
