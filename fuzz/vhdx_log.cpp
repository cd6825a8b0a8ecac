// Links: bygone_disk
// Replays bytes as the log of a VHDX file. Wherever an entry starts its checksum is put right and its GUID made the header's.
#include <algorithm>
#include <cstring>

#include "disk/fault_file.h"
#include "disk/vhdx/vhdx_log.h"
#include "support/crc32c.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bygone;
  namespace vhdx = spec::vhdx;
  constexpr std::uint64_t kLogOffset = 1U << 20;
  constexpr std::size_t kLogBytes = 1U << 20;
  const Guid guid = make_guid(1, 2, 3, {4, 5, 6, 7, 8, 9, 10, 11});
  std::vector<std::byte> log(kLogBytes);
  // The input in sectors of up to 512 bytes: the rest of each log sector stays zero.
  for (std::size_t sector = 0; size > 0 && sector < kLogBytes / vhdx::kLogSectorBytes; ++sector) {
    const std::size_t part = std::min<std::size_t>(size, 512);
    std::memcpy(log.data() + sector * vhdx::kLogSectorBytes, data, part);
    data += part;
    size -= part;
  }
  for (std::size_t offset = 0; offset < kLogBytes; offset += vhdx::kLogSectorBytes) {
    vhdx::LogEntryHeader header;
    std::memcpy(&header, log.data() + offset, sizeof header);
    // A sector's last four bytes are past what an input gives: they are taken from its front.
    if (header.signature == vhdx::kDataSectorSignature) {
      std::memcpy(log.data() + offset + vhdx::kLogSectorBytes - 4, log.data() + offset + 8, 4);
    }
  }
  for (std::size_t offset = 0; offset < kLogBytes; offset += vhdx::kLogSectorBytes) {
    vhdx::LogEntryHeader header;
    std::memcpy(&header, log.data() + offset, sizeof header);
    if (header.signature != vhdx::kLogEntrySignature || header.entry_length > kLogBytes - offset || header.entry_length < sizeof header) {
      continue;
    }
    header.log_guid = guid;
    header.checksum = 0;
    std::memcpy(log.data() + offset, &header, sizeof header);
    header.checksum = crc32c(std::span(log).subspan(offset, header.entry_length));
    std::memcpy(log.data() + offset, &header, sizeof header);
  }
  disk::SparseBytes bytes;
  bytes.write(kLogOffset, log);
  bytes.resize(4U << 20);
  auto history = disk::FaultFile::history_of(std::move(bytes));
  history->capacity = std::uint64_t{256} << 20;
  disk::FaultFile file(history);
  disk::VhdxHeader header;
  header.log_guid = guid;
  header.log_offset = kLogOffset;
  header.log_length = kLogBytes;
  const auto contents = disk::read_vhdx_log(file, header);
  if (!contents) return 0;
  const disk::LogOverlay overlay(*contents);
  std::vector<std::byte> page(4096);
  overlay.apply(192U << 10, page);
  (void)disk::replay_vhdx_log(file, *contents);
  return 0;
}
