#include "disk/vhdx/vhdx_log.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "support/crc32c.h"

namespace bygone::disk {
namespace {

namespace vhdx = spec::vhdx;

constexpr std::uint32_t kSector = vhdx::kLogSectorBytes;

struct Entry {
  std::uint32_t offset = 0;  // in the log
  std::uint32_t length = 0;
  std::uint32_t tail = 0;
  std::uint64_t sequence = 0;
};

/// The log in memory, read as the ring that it is.
class LogImage {
 public:
  LogImage(std::vector<std::byte> bytes, const Guid& guid) : bytes_(std::move(bytes)), guid_(guid) {
    check_budget_ = 16 * static_cast<std::uint64_t>(bytes_.size());
    entries_.resize(bytes_.size() / kSector);
    is_known_.resize(entries_.size());
  }

  std::uint32_t size() const { return static_cast<std::uint32_t>(bytes_.size()); }

  template <typename T>
  T object(std::uint64_t offset) const {
    T result;
    std::memcpy(&result, bytes_.data() + offset % bytes_.size(), sizeof result);  // never crosses a sector
    return result;
  }

  const std::optional<Entry>& entry_at(std::uint32_t offset) {
    const std::size_t index = offset / kSector;
    if (!is_known_[index]) {
      is_known_[index] = true;
      entries_[index] = parse(offset);
    }
    return entries_[index];
  }

  /// More checksums than any honest log needs.
  bool is_over_budget() const { return is_over_budget_; }

 private:
  std::optional<Entry> parse(std::uint32_t offset) {
    const auto header = object<vhdx::LogEntryHeader>(offset);
    if (header.signature != vhdx::kLogEntrySignature || header.log_guid != guid_ || header.sequence_number == 0) return {};
    const std::uint32_t length = header.entry_length;
    if (length == 0 || length % kSector != 0 || length > size()) return {};
    if (header.tail % kSector != 0 || header.tail >= size()) return {};
    if (header.descriptor_count > (length - sizeof header) / sizeof(vhdx::LogDescriptor)) return {};
    if (length > check_budget_) {
      is_over_budget_ = true;
      return {};
    }
    check_budget_ -= length;
    if (checksum(offset, header) != header.checksum) return {};
    if (!are_parts_consistent(offset, header)) return {};
    return Entry{offset, length, header.tail, header.sequence_number};
  }

  std::uint32_t checksum(std::uint32_t offset, vhdx::LogEntryHeader header) const {
    const std::uint32_t length = header.entry_length;
    header.checksum = 0;
    std::uint32_t sum = crc32c(bytes_of(header));
    std::uint64_t position = offset + sizeof header;
    for (std::uint64_t left = length - sizeof header; left > 0;) {
      const std::uint64_t start = position % bytes_.size();
      const std::uint64_t part = std::min<std::uint64_t>(left, bytes_.size() - start);
      sum = crc32c(std::span(bytes_).subspan(start, part), sum);
      position += part;
      left -= part;
    }
    return sum;
  }

  bool are_parts_consistent(std::uint32_t offset, const vhdx::LogEntryHeader& header) const {
    std::uint64_t data = offset + descriptor_bytes(header.descriptor_count);
    const std::uint64_t end = std::uint64_t{offset} + header.entry_length;
    for (std::uint32_t i = 0; i < header.descriptor_count; ++i) {
      const auto descriptor = object<vhdx::LogDescriptor>(offset + sizeof header + i * sizeof(vhdx::LogDescriptor));
      if (descriptor.sequence_number != header.sequence_number || descriptor.file_offset % kSector != 0) return false;
      if (descriptor.signature == vhdx::kZeroDescriptorSignature) {
        le64 length;
        std::memcpy(&length, descriptor.leading_bytes.data(), sizeof length);
        if (length % kSector != 0) return false;
        continue;
      }
      if (descriptor.signature != vhdx::kDataDescriptorSignature || data + kSector > end) return false;
      const auto sector = object<vhdx::LogDataSector>(data);
      const std::uint64_t sequence = (std::uint64_t{sector.sequence_high} << 32) | sector.sequence_low;
      if (sector.signature != vhdx::kDataSectorSignature || sequence != header.sequence_number) return false;
      data += kSector;
    }
    return data <= end;
  }

 public:
  static std::uint32_t descriptor_bytes(std::uint32_t count) {
    const std::uint64_t bytes = sizeof(vhdx::LogEntryHeader) + std::uint64_t{count} * sizeof(vhdx::LogDescriptor);
    return static_cast<std::uint32_t>((bytes + kSector - 1) / kSector * kSector);
  }

 private:
  std::vector<std::byte> bytes_;
  Guid guid_;
  std::uint64_t check_budget_ = 0;
  bool is_over_budget_ = false;
  std::vector<std::optional<Entry>> entries_;
  std::vector<bool> is_known_;
};

/// The entries that follow one another from `start` (2.3.3: a sequence).
std::vector<Entry> sequence_from(LogImage& log, std::uint32_t start) {
  std::vector<Entry> sequence;
  std::uint64_t used = 0;
  for (std::uint32_t offset = start;;) {
    const std::optional<Entry>& entry = log.entry_at(offset);
    if (!entry || (!sequence.empty() && entry->sequence != sequence.back().sequence + 1)) break;
    used += entry->length;
    if (used > log.size()) break;
    sequence.push_back(*entry);
    offset = static_cast<std::uint32_t>((std::uint64_t{offset} + entry->length) % log.size());
  }
  return sequence;
}

/// The part of a sequence from its head's tail on; empty when the tail is not in it, and the sequence therefore not valid.
std::vector<Entry> active_part(const std::vector<Entry>& sequence) {
  if (sequence.empty()) return {};
  const auto tail = std::ranges::find(sequence, sequence.back().tail, &Entry::offset);
  return {tail, sequence.end()};
}

std::vector<Entry> find_active_sequence(LogImage& log) {
  std::vector<Entry> best;
  for (std::uint64_t start = 0; start < log.size();) {
    const std::vector<Entry> sequence = sequence_from(log, static_cast<std::uint32_t>(start));
    std::vector<Entry> active = active_part(sequence);
    if (active.empty()) {
      start += kSector;
      continue;
    }
    // Past the whole sequence; one that wraps ends the walk.
    start = std::uint64_t{sequence.back().offset} + sequence.back().length;
    if (sequence.back().offset < sequence.front().offset) start = log.size();
    if (best.empty() || active.back().sequence > best.back().sequence) best = std::move(active);
  }
  return best;
}

void collect_updates(const LogImage& log, const Entry& entry, LogContents& contents) {
  const auto header = log.object<vhdx::LogEntryHeader>(entry.offset);
  std::uint64_t data = entry.offset + LogImage::descriptor_bytes(header.descriptor_count);
  for (std::uint32_t i = 0; i < header.descriptor_count; ++i) {
    const auto descriptor = log.object<vhdx::LogDescriptor>(entry.offset + sizeof header + i * sizeof(vhdx::LogDescriptor));
    LogUpdate update;
    update.file_offset = descriptor.file_offset;
    if (descriptor.signature == vhdx::kZeroDescriptorSignature) {
      le64 length;
      std::memcpy(&length, descriptor.leading_bytes.data(), sizeof length);
      update.zero_length = length;
      if (update.zero_length == 0) continue;
    } else {
      const auto sector = log.object<vhdx::LogDataSector>(data);
      std::memcpy(update.page.data(), descriptor.leading_bytes.data(), 8);
      std::memcpy(update.page.data() + 8, sector.data.data(), sector.data.size());
      std::memcpy(update.page.data() + 8 + sector.data.size(), descriptor.trailing_bytes.data(), 4);
      data += kSector;
    }
    contents.updates.push_back(update);
  }
}

/// The log may change the file's tables, never the headers that name it, and nothing past the end that it states.
Result<void> check_updates(const LogContents& contents, const std::string& name) {
  for (const LogUpdate& update : contents.updates) {
    const std::uint64_t length = update.zero_length != 0 ? update.zero_length : kPageBytes;
    if (update.file_offset < vhdx::kRegionTableOffsets[0] || update.file_offset > contents.last_file_bytes ||
        length > contents.last_file_bytes - update.file_offset) {
      return fail(ErrorCode::kCorrupt, "{}: the log changes {:#x}+{:#x}, outside the file's tables", name, update.file_offset,
                  length);
    }
  }
  return {};
}

}  // namespace

Result<LogContents> read_vhdx_log(File& file, const VhdxHeader& header) {
  if (header.log_length > kMaximumLogBytes) {
    return fail(ErrorCode::kUnsupported, "{} has a log of {} MiB; logs over {} MiB are not read", file.name(),
                header.log_length >> 20, kMaximumLogBytes >> 20);
  }
  std::vector<std::byte> bytes(header.log_length);
  BYGONE_CHECK(file.read(header.log_offset, bytes));
  LogImage log(std::move(bytes), header.log_guid);
  const std::vector<Entry> active = find_active_sequence(log);
  if (active.empty() || log.is_over_budget()) {
    return std::unexpected(Error{ErrorCode::kCorrupt,
                                 fmt::format("{} was not closed in order, and its log holds no valid entries", file.name()),
                                 "\"bygone disk check --repair\" can drop the log; the last changes are lost then"});
  }
  LogContents contents;
  const auto head = log.object<vhdx::LogEntryHeader>(active.back().offset);
  contents.flushed_file_bytes = head.flushed_file_offset;
  contents.last_file_bytes = head.last_file_offset;
  BYGONE_ASSIGN(const std::uint64_t file_bytes, file.size());
  if (file_bytes < contents.flushed_file_bytes) {
    return fail(ErrorCode::kCorrupt, "{} has been cut off: its log knows {} bytes, it has {}", file.name(),
                contents.flushed_file_bytes, file_bytes);
  }
  contents.last_file_bytes = std::max(contents.last_file_bytes, file_bytes);
  for (const Entry& entry : active) collect_updates(log, entry, contents);
  BYGONE_CHECK(check_updates(contents, file.name()));
  return contents;
}

Result<void> replay_vhdx_log(File& file, const LogContents& contents) {
  BYGONE_ASSIGN(const std::uint64_t file_bytes, file.size());
  if (file_bytes < contents.last_file_bytes) BYGONE_CHECK(file.resize(contents.last_file_bytes));
  for (const LogUpdate& update : contents.updates) {
    BYGONE_CHECK(update.zero_length != 0 ? file.discard(update.file_offset, update.zero_length)
                                         : file.write(update.file_offset, update.page));
  }
  return file.flush();
}

LogOverlay::LogOverlay(const LogContents& contents) : updates_(contents.updates) {}

void LogOverlay::apply(std::uint64_t offset, std::span<std::byte> bytes) const {
  for (const LogUpdate& update : updates_) {
    const std::uint64_t length = update.zero_length != 0 ? update.zero_length : kPageBytes;
    const std::uint64_t start = std::max(offset, update.file_offset);
    const std::uint64_t end = std::min(offset + bytes.size(), update.file_offset + length);
    if (start >= end) continue;
    std::byte* into = bytes.data() + (start - offset);
    if (update.zero_length != 0) {
      std::memset(into, 0, end - start);
    } else {
      std::memcpy(into, update.page.data() + (start - update.file_offset), end - start);
    }
  }
}

Result<VhdxLogWriter> VhdxLogWriter::create(File& file, std::uint64_t offset, std::uint32_t length, const Guid& guid) {
  VhdxLogWriter writer(file, offset, length, guid);
  BYGONE_CHECK(writer.write_entry({}));
  BYGONE_CHECK(file.flush());
  return writer;
}

Result<void> VhdxLogWriter::commit(std::span<const PageImage> pages) {
  // An entry has one sector of descriptors, and two entries must fit into the smallest log (1 MiB).
  constexpr std::size_t kMaximumPages = (kSector - sizeof(vhdx::LogEntryHeader)) / sizeof(vhdx::LogDescriptor);
  static_assert(2 * (kMaximumPages + 1) * kSector <= vhdx::kAlignment);
  for (bool is_first = true; !pages.empty(); is_first = false) {
    if (!is_first) BYGONE_CHECK(file_->flush());  // the last entry's pages, before its place in the ring is given up
    const std::span<const PageImage> batch = pages.first(std::min(pages.size(), kMaximumPages));
    BYGONE_CHECK(write_entry(batch));
    BYGONE_CHECK(file_->flush());
    for (const PageImage& page : batch) BYGONE_CHECK(file_->write(page.file_offset, page.bytes));
    pages = pages.subspan(batch.size());
  }
  return {};
}

Result<void> VhdxLogWriter::write_entry(std::span<const PageImage> pages) {
  BYGONE_ASSIGN(const std::uint64_t file_bytes, file_->size());
  std::vector<std::byte> entry((1 + pages.size()) * kSector);
  vhdx::LogEntryHeader header = {};
  header.signature = vhdx::kLogEntrySignature;
  header.entry_length = static_cast<std::uint32_t>(entry.size());
  header.tail = head_;
  header.sequence_number = next_sequence_;
  header.descriptor_count = static_cast<std::uint32_t>(pages.size());
  header.log_guid = guid_;
  header.flushed_file_offset = file_bytes;
  header.last_file_offset = file_bytes;
  for (std::size_t i = 0; i < pages.size(); ++i) {
    const PageImage& page = pages[i];
    vhdx::LogDescriptor descriptor = {};
    descriptor.signature = vhdx::kDataDescriptorSignature;
    std::memcpy(descriptor.leading_bytes.data(), page.bytes.data(), 8);
    std::memcpy(descriptor.trailing_bytes.data(), page.bytes.data() + kPageBytes - 4, 4);
    descriptor.file_offset = page.file_offset;
    descriptor.sequence_number = next_sequence_;
    std::memcpy(entry.data() + sizeof header + i * sizeof descriptor, &descriptor, sizeof descriptor);
    vhdx::LogDataSector sector = {};
    sector.signature = vhdx::kDataSectorSignature;
    sector.sequence_high = static_cast<std::uint32_t>(next_sequence_ >> 32);
    sector.sequence_low = static_cast<std::uint32_t>(next_sequence_);
    std::memcpy(sector.data.data(), page.bytes.data() + 8, sector.data.size());
    std::memcpy(entry.data() + (1 + i) * kSector, &sector, sizeof sector);
  }
  std::memcpy(entry.data(), &header, sizeof header);
  header.checksum = crc32c(entry);
  std::memcpy(entry.data(), &header, sizeof header);

  const std::size_t until_end = std::min<std::size_t>(entry.size(), length_ - head_);
  BYGONE_CHECK(file_->write(offset_ + head_, std::span(entry).first(until_end)));
  if (until_end < entry.size()) BYGONE_CHECK(file_->write(offset_, std::span(entry).subspan(until_end)));
  head_ = static_cast<std::uint32_t>((head_ + entry.size()) % length_);
  ++next_sequence_;
  return {};
}

}  // namespace bygone::disk
