// A SCSI disk over a BlockDevice (SBC-3).
//
// Reads and writes go straight between the image and guest memory: the command's buffer becomes the request's iovecs.
// Threading: as ScsiTarget; completions come on the block device's threads.
#pragma once

#include <memory>
#include <optional>

#include "devices/storage/inquiry.h"
#include "devices/storage/scsi_target.h"
#include "disk/block_device.h"

namespace bygone::devices::storage {

/// Blocks: the first one and how many.
struct BlockRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

/// A pattern is written out of a buffer that repeats it, a multiple of every sector.
inline constexpr std::size_t kRepeatedBytes = 64U << 10;
/// What a WRITE SAME of a pattern may hold of the host's memory until it is done: that buffer, and how often it is written.
inline constexpr std::size_t kWriteSameBytes = kRepeatedBytes + kMaximumSameBytes / kRepeatedBytes * sizeof(iovec);

class ScsiDisk final : public ScsiTarget {
 public:
  explicit ScsiDisk(std::shared_ptr<disk::BlockDevice> device) : device_(std::move(device)) {}

  void execute(const ScsiCommand& command, Done done) override;
  void raise_attention(spec::scsi::AdditionalSense what) override { attention_ = what; }
  void reset() override { attention_.reset(); }
  [[nodiscard]] nlohmann::json save() const override;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override;
  [[nodiscard]] nlohmann::json inspect() const override;

 private:
  /// Commands that are answered at once; nullopt: it is one of the others, or unknown.
  [[nodiscard]] std::optional<ScsiOutcome> answer(const ScsiCommand& command, const disk::BlockDeviceInfo& info);
  void transfer(const ScsiCommand& command, const disk::BlockDeviceInfo& info, Done done);
  void flush(Done done);
  void write_same(const ScsiCommand& command, const disk::BlockDeviceInfo& info, Done done);
  /// One sector's bytes, again and again.
  void write_pattern(const BlockRange& range, const disk::BlockDeviceInfo& info, std::span<const std::byte> pattern, Done done);
  void unmap(const ScsiCommand& command, const disk::BlockDeviceInfo& info, Done done);

  std::shared_ptr<disk::BlockDevice> device_;
  std::optional<spec::scsi::AdditionalSense> attention_;
};

/// The range that a READ, WRITE, VERIFY, WRITE SAME or SYNCHRONIZE CACHE command of any length names.
[[nodiscard]] BlockRange block_range(const ScsiCommand& command);

}  // namespace bygone::devices::storage
