#include "disk/memory_block_device.h"

#include <algorithm>
#include <cstring>

namespace bygone::disk {
namespace {
BlockDeviceInfo plain_info(std::uint64_t size_bytes) {
  BlockDeviceInfo info;
  info.size_bytes = size_bytes;
  info.physical_sector_bytes = 512;
  info.optimal_unmap_bytes = 4096;
  info.reads_zero_after_unmap = true;
  return info;
}
}  // namespace

MemoryBlockDevice::MemoryBlockDevice(const BlockDeviceInfo& info) : info_(info), bytes_(info.size_bytes) {}
MemoryBlockDevice::MemoryBlockDevice(std::uint64_t size_bytes) : MemoryBlockDevice(plain_info(size_bytes)) {}

void MemoryBlockDevice::submit(BlockRequest request) {
  Result<void> result = check_request(info_, request);
  if (result) result = perform(request);
  if (request.done) request.done(std::move(result));
}

Result<void> MemoryBlockDevice::perform(const BlockRequest& request) {
  const std::lock_guard lock(mutex_);
  const bool is_failing = request.operation != BlockOperation::kFlush && failing_length_ != 0 &&
                          request.offset < failing_offset_ + failing_length_ &&
                          failing_offset_ < request.offset + request.length;
  if (is_failing) return fail(ErrorCode::kIo, "the disk fails at {:#x}, as it was told to", request.offset);
  if (request.operation == BlockOperation::kFlush || request.force_unit_access) ++flush_count_;
  std::byte* place = bytes_.data() + request.offset;
  switch (request.operation) {
    case BlockOperation::kRead:
      for (const iovec& buffer : request.buffers) {
        if (buffer.iov_len > 0) std::memcpy(buffer.iov_base, place, buffer.iov_len);
        place += buffer.iov_len;
      }
      break;
    case BlockOperation::kWrite:
      for (const iovec& buffer : request.buffers) {
        if (buffer.iov_len > 0) std::memcpy(place, buffer.iov_base, buffer.iov_len);
        place += buffer.iov_len;
      }
      break;
    case BlockOperation::kUnmap:
      if (info_.reads_zero_after_unmap) std::fill_n(place, request.length, std::byte{0});
      break;
    case BlockOperation::kWriteZeroes: std::fill_n(place, request.length, std::byte{0}); break;
    case BlockOperation::kFlush: break;
  }
  return {};
}

std::uint64_t MemoryBlockDevice::flush_count() const {
  const std::lock_guard lock(mutex_);
  return flush_count_;
}

void MemoryBlockDevice::fail_range(std::uint64_t offset, std::uint64_t length) {
  const std::lock_guard lock(mutex_);
  failing_offset_ = offset;
  failing_length_ = length;
}

}  // namespace bygone::disk
