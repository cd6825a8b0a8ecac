#include "disk/block_device.h"

#include <condition_variable>
#include <mutex>
#include <optional>

namespace bygone::disk {
namespace {

Result<void> submit_and_wait(BlockDevice& device, BlockRequest request) {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Result<void>> outcome;
  request.done = [&](Result<void> result) {
    const std::lock_guard lock(mutex);
    outcome = std::move(result);
    changed.notify_one();  // under the lock: the waiter destroys the condition variable next
  };
  device.submit(std::move(request));
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return outcome.has_value(); });
  return *std::move(outcome);
}

BlockRequest make_request(BlockOperation operation, std::uint64_t offset, std::uint64_t length) {
  BlockRequest request;
  request.operation = operation;
  request.offset = offset;
  request.length = length;
  return request;
}

}  // namespace

Result<void> read_blocks(BlockDevice& device, std::uint64_t offset, std::span<std::byte> into) {
  BlockRequest request = make_request(BlockOperation::kRead, offset, into.size());
  request.buffers = {{into.data(), into.size()}};
  return submit_and_wait(device, std::move(request));
}

Result<void> write_blocks(BlockDevice& device, std::uint64_t offset, std::span<const std::byte> from) {
  BlockRequest request = make_request(BlockOperation::kWrite, offset, from.size());
  // iovec has no const form; a device never writes to a write's buffers.
  request.buffers = {{const_cast<std::byte*>(from.data()), from.size()}};
  return submit_and_wait(device, std::move(request));
}

Result<void> flush_blocks(BlockDevice& device) { return submit_and_wait(device, make_request(BlockOperation::kFlush, 0, 0)); }

Result<void> zero_blocks(BlockDevice& device, std::uint64_t offset, std::uint64_t length) {
  return submit_and_wait(device, make_request(BlockOperation::kWriteZeroes, offset, length));
}

Result<void> unmap_blocks(BlockDevice& device, std::uint64_t offset, std::uint64_t length) {
  return submit_and_wait(device, make_request(BlockOperation::kUnmap, offset, length));
}

Result<void> check_request(const BlockDeviceInfo& info, const BlockRequest& request) {
  if (request.operation == BlockOperation::kFlush) return {};
  if (request.operation != BlockOperation::kRead && info.is_read_only) {
    return fail(ErrorCode::kPermissionDenied, "the disk is read-only");
  }
  if (request.offset % info.logical_sector_bytes != 0 || request.length % info.logical_sector_bytes != 0) {
    return fail(ErrorCode::kInvalidArgument, "{:#x}+{:#x} is not a run of whole {}-byte sectors", request.offset,
                request.length, info.logical_sector_bytes);
  }
  if (request.offset > info.size_bytes || request.length > info.size_bytes - request.offset) {
    return fail(ErrorCode::kOutOfRange, "{:#x}+{:#x} lies past the end of the disk ({:#x})", request.offset, request.length,
                info.size_bytes);
  }
  if (request.operation == BlockOperation::kRead || request.operation == BlockOperation::kWrite) {
    std::uint64_t total = 0;
    for (const iovec& buffer : request.buffers) total += buffer.iov_len;
    if (total != request.length) {
      return fail(ErrorCode::kInvalidArgument, "buffers of {:#x} bytes for a transfer of {:#x}", total, request.length);
    }
  }
  return {};
}

}  // namespace bygone::disk
