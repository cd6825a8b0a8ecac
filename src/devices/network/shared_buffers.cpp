#include "devices/network/shared_buffers.h"

#include <algorithm>

namespace bygone::devices::network {

namespace {
/// More lie idle: 64 MiB in sections of 1 KiB.
constexpr std::uint64_t kMostSections = 65536;
}  // namespace

Result<ReceiveBuffer> ReceiveBuffer::create(std::shared_ptr<const vmbus::Gpadl> gpadl, vmbus::GpadlId id, std::uint16_t page_set,
                                            std::uint32_t section_bytes) {
  const std::uint64_t count = std::min(gpadl->total_bytes() / section_bytes, kMostSections);
  if (count == 0) {
    return fail(ErrorCode::kInvalidArgument, "a receive buffer of {} bytes; a section takes {}", gpadl->total_bytes(), section_bytes);
  }
  ReceiveBuffer buffer;
  buffer.gpadl_ = std::move(gpadl);
  buffer.id_ = id;
  buffer.page_set_ = page_set;
  buffer.section_bytes_ = section_bytes;
  for (std::uint64_t i = count; i-- > 0;) buffer.free_.push_back(static_cast<std::uint32_t>(i));
  buffer.is_free_.assign(count, true);
  return buffer;
}

std::uint32_t ReceiveBuffer::take() {
  const std::uint32_t section = free_.back();
  free_.pop_back();
  is_free_[section] = false;
  return section;
}

void ReceiveBuffer::give_back(std::uint32_t section) {
  if (section >= is_free_.size() || is_free_[section]) return;
  is_free_[section] = true;
  free_.push_back(section);
}

bool ReceiveBuffer::take_again(std::uint32_t section) {
  if (section >= is_free_.size() || !is_free_[section]) return false;
  is_free_[section] = false;
  std::erase(free_, section);
  return true;
}

Result<void> ReceiveBuffer::write(memory::GuestMemory& memory, std::uint32_t section, std::uint32_t offset,
                                  std::span<const std::byte> bytes) const {
  return gpadl_->write(memory, std::uint64_t{section} * section_bytes_ + offset, bytes);
}

Result<SendBuffer> SendBuffer::create(std::shared_ptr<const vmbus::Gpadl> gpadl, vmbus::GpadlId id, std::uint32_t section_bytes) {
  if (gpadl->total_bytes() < section_bytes) {
    return fail(ErrorCode::kInvalidArgument, "a send buffer of {} bytes; a section takes {}", gpadl->total_bytes(), section_bytes);
  }
  SendBuffer buffer;
  buffer.gpadl_ = std::move(gpadl);
  buffer.id_ = id;
  buffer.section_bytes_ = section_bytes;
  return buffer;
}

Result<void> SendBuffer::read(const memory::GuestMemory& memory, std::uint32_t section, std::span<std::byte> into) const {
  if (into.size() > section_bytes_) {
    return fail(ErrorCode::kOutOfRange, "{} bytes in a send section of {}", into.size(), section_bytes_);
  }
  return gpadl_->read(memory, std::uint64_t{section} * section_bytes_, into);
}

}  // namespace bygone::devices::network
