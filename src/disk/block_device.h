// What the machine sees of a disk: blocks that are read and written asynchronously, wherever they are kept.
//
// Threading: submit() from any thread, any number of requests in flight. A request's completion runs on a thread of the
// device's (or inside submit() when the answer is known at once) and must not block; the iovecs and what they point at stay
// valid until then. Requests that overlap in flight have no order; a flush covers the writes that completed before it was
// submitted. Destroying the device waits for all requests.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "support/guid.h"
#include "support/result.h"

namespace bygone::disk {

struct BlockDeviceInfo {
  std::uint64_t size_bytes = 0;             ///< a multiple of logical_sector_bytes
  std::uint32_t logical_sector_bytes = 512;  ///< the unit of addressing: 512, 2048 (DVD) or 4096
  std::uint32_t physical_sector_bytes = 4096;
  std::uint32_t optimal_unmap_bytes = 0;    ///< granularity at which kUnmap frees space; 0: it never does
  bool is_read_only = false;
  bool reads_zero_after_unmap = false;
  Guid identity;  ///< stable over the disk's life: VHDX page 83 data, VHD unique id; zero when it has none
};

enum class BlockOperation {
  kRead,
  kWrite,
  kFlush,      ///< offset, length and buffers unused
  kUnmap,      ///< a hint; contents become undefined unless reads_zero_after_unmap
  kWriteZeroes,
};

struct BlockRequest {
  BlockOperation operation = BlockOperation::kRead;
  bool force_unit_access = false;  ///< kWrite, kWriteZeroes: durable before completion
  std::uint64_t offset = 0;        ///< bytes, a multiple of the logical sector
  std::uint64_t length = 0;        ///< bytes, a multiple of the logical sector; kRead and kWrite: the buffers' total
  std::vector<iovec> buffers;
  /// Called exactly once. Errors: kOutOfRange, kInvalidArgument (alignment), kPermissionDenied (read only), kNoSpace, kIo, kCorrupt.
  std::move_only_function<void(Result<void>)> done;
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;
  /// May change only by a resize, which the device announces to its owner out of band.
  [[nodiscard]] virtual BlockDeviceInfo info() const = 0;
  virtual void submit(BlockRequest request) = 0;
  /// Names the content that a flushed disk has: another after any write, the same after closing and opening. Empty: unknown.
  [[nodiscard]] virtual std::string content_stamp() { return {}; }
};

/// The synchronous form, for tools and tests. Threading: not from a completion.
[[nodiscard]] Result<void> read_blocks(BlockDevice& device, std::uint64_t offset, std::span<std::byte> into);
[[nodiscard]] Result<void> write_blocks(BlockDevice& device, std::uint64_t offset, std::span<const std::byte> from);
[[nodiscard]] Result<void> flush_blocks(BlockDevice& device);
[[nodiscard]] Result<void> zero_blocks(BlockDevice& device, std::uint64_t offset, std::uint64_t length);
[[nodiscard]] Result<void> unmap_blocks(BlockDevice& device, std::uint64_t offset, std::uint64_t length);

/// The error a request earns by its shape alone (range, alignment, buffers' total, read only), or nothing.
[[nodiscard]] Result<void> check_request(const BlockDeviceInfo& info, const BlockRequest& request);

}  // namespace bygone::disk
