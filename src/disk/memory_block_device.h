// A disk in memory, for tests and for devices that need one without a file. Every request completes inside submit().
// Threading: as BlockDevice.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "disk/block_device.h"

namespace bygone::disk {

class MemoryBlockDevice final : public BlockDevice {
 public:
  /// A zeroed disk. `info.size_bytes` must be a multiple of the logical sector.
  explicit MemoryBlockDevice(const BlockDeviceInfo& info);
  /// A zeroed disk of that size with 512-byte sectors, writable, that forgets what is unmapped.
  explicit MemoryBlockDevice(std::uint64_t size_bytes);

  [[nodiscard]] BlockDeviceInfo info() const override { return info_; }
  void submit(BlockRequest request) override;

  /// How many flushes (forced ones included) have been asked for.
  [[nodiscard]] std::uint64_t flush_count() const;
  /// Makes every later request that touches [offset, offset + length) fail with kIo; length 0 ends it.
  void fail_range(std::uint64_t offset, std::uint64_t length);

 private:
  Result<void> perform(const BlockRequest& request);

  const BlockDeviceInfo info_;
  mutable std::mutex mutex_;
  std::vector<std::byte> bytes_;
  std::uint64_t flush_count_ = 0;
  std::uint64_t failing_offset_ = 0;
  std::uint64_t failing_length_ = 0;
};

}  // namespace bygone::disk
