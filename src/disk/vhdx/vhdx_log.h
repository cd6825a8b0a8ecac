// The log of a VHDX file ([MS-VHDX] 2.3): a ring of entries that each carry whole 4 KiB pages of the file's tables, so that a
// table is either as it was or as it will be, whatever happens to the power.
//
//   commit: pages → entry in the log → flush → pages in their places.
// The places become durable with the next flush, and every commit starts with one; an entry's tail is therefore itself, and the
// one before it stays whole in the ring until the new one is durable.
//
// Threading: one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "disk/file.h"
#include "disk/vhdx/vhdx_header.h"

namespace bygone::disk {

constexpr std::size_t kPageBytes = 4096;
/// What we read into memory at once; Hyper-V's logs are 1 MiB.
constexpr std::uint32_t kMaximumLogBytes = 64U << 20;

struct PageImage {
  std::uint64_t file_offset = 0;  ///< a multiple of kPageBytes
  std::array<std::byte, kPageBytes> bytes;
};

/// One change that a log asks for: a page, or a run of zeros.
struct LogUpdate {
  std::uint64_t file_offset = 0;
  std::uint64_t zero_length = 0;  ///< 0: `page` holds the bytes
  std::array<std::byte, kPageBytes> page = {};
};

struct LogContents {
  std::vector<LogUpdate> updates;  ///< in the order in which they apply
  std::uint64_t flushed_file_bytes = 0;
  std::uint64_t last_file_bytes = 0;
};

/// The active sequence of entries of the log that `header` names (2.3.3). Errors: kCorrupt, kUnsupported (a log over the bound).
[[nodiscard]] Result<LogContents> read_vhdx_log(File& file, const VhdxHeader& header);
/// Puts the updates into their places and flushes.
[[nodiscard]] Result<void> replay_vhdx_log(File& file, const LogContents& contents);

/// The updates of a log laid over a file that must not be changed.
class LogOverlay {
 public:
  explicit LogOverlay(const LogContents& contents);
  void apply(std::uint64_t offset, std::span<std::byte> bytes) const;

 private:
  std::vector<LogUpdate> updates_;
};

class VhdxLogWriter {
 public:
  /// Starts an empty log at `offset` under `guid`: its first entry changes nothing, so that a log that the header names is never
  /// without a valid one. Flushes.
  [[nodiscard]] static Result<VhdxLogWriter> create(File& file, std::uint64_t offset, std::uint32_t length, const Guid& guid);

  /// Makes the pages durable through the log and writes them to their places. What was written before must be flushed.
  [[nodiscard]] Result<void> commit(std::span<const PageImage> pages);

 private:
  VhdxLogWriter(File& file, std::uint64_t offset, std::uint32_t length, const Guid& guid)
      : file_(&file), offset_(offset), length_(length), guid_(guid) {}
  Result<void> write_entry(std::span<const PageImage> pages);

  File* file_;
  std::uint64_t offset_;
  std::uint32_t length_;
  Guid guid_;
  std::uint32_t head_ = 0;
  std::uint64_t next_sequence_ = 1;
};

}  // namespace bygone::disk
