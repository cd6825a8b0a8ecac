#include "machine/saved_state/state_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "support/byte_order.h"
#include "support/crc32c.h"

namespace bygone::machine::saved_state {
namespace {

constexpr std::array<char, 8> kMagic = {'B', 'Y', 'G', 'S', 'A', 'V', 'E', '\x1A'};
// A section takes at least its header; this many headers of 1 MiB of memory each are the largest machine's and plenty more.
constexpr std::size_t kMaximumSections = 4 << 20;

struct FileHeader {
  std::array<char, 8> magic;
  le32 version;
  le32 checksum;  // CRC-32C of what comes before it
};
static_assert(sizeof(FileHeader) == 16 && alignof(FileHeader) == 1);

struct SectionHeader {
  le32 kind;
  le32 payload_checksum;
  le64 address;
  le64 length;
  le32 reserved;
  le32 checksum;  // CRC-32C of what comes before it
};
static_assert(sizeof(SectionHeader) == 32 && alignof(SectionHeader) == 1);

template <typename Header>
std::uint32_t header_checksum(const Header& header) {
  return crc32c(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, checksum)));
}

}  // namespace

std::string_view to_string(SectionKind kind) {
  switch (kind) {
    case SectionKind::kManifest: return "manifest";
    case SectionKind::kProcessors: return "processors";
    case SectionKind::kParts: return "parts";
    case SectionKind::kMemory: return "memory";
    case SectionKind::kEnd: return "end";
  }
  return "unknown";
}

Result<StateWriter> StateWriter::create(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::string temporary = (folder / (".bygone-" + path.filename().string() + "-XXXXXX")).string();
  UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));  // mode 0600: it holds all that the guest has in memory
  if (!fd) return fail_errno(errno, "creating a file in " + folder.string());
  StateWriter writer(path, std::move(temporary), std::move(fd));
  FileHeader header = {kMagic, kFormatVersion, 0};
  header.checksum = header_checksum(header);
  BYGONE_CHECK(writer.write_at(0, std::as_bytes(std::span(&header, 1))));
  writer.offset_ = sizeof header;
  return writer;
}

StateWriter::StateWriter(StateWriter&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, {})), fd_(std::move(other.fd_)), offset_(other.offset_) {}

StateWriter::~StateWriter() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<void> StateWriter::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return fail_errno(errno, "writing " + path_.string());
    bytes = bytes.subspan(static_cast<std::size_t>(wrote));
    offset += static_cast<std::uint64_t>(wrote);
  }
  return {};
}

Result<void> StateWriter::append(SectionKind kind, std::uint64_t address, std::span<const std::byte> payload) {
  if (payload.size() > kMaximumSectionBytes) {
    return fail(ErrorCode::kExhausted, "saved state: the section {} has {} bytes, more than {}", to_string(kind), payload.size(), kMaximumSectionBytes);
  }
  SectionHeader header = {static_cast<std::uint32_t>(kind), crc32c(payload), address, payload.size(), 0, 0};
  header.checksum = header_checksum(header);
  std::uint64_t at = 0;
  {
    const std::lock_guard lock(mutex_);
    at = std::exchange(offset_, offset_ + sizeof header + payload.size());
  }
  BYGONE_CHECK(write_at(at, std::as_bytes(std::span(&header, 1))));
  return write_at(at + sizeof header, payload);
}

Result<void> StateWriter::commit() {
  BYGONE_CHECK(append(SectionKind::kEnd, 0, {}));
  if (::fsync(fd_.get()) != 0) return fail_errno(errno, "syncing " + path_.string());
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return fail_errno(errno, "replacing " + path_.string());
  temporary_.clear();
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
  const UniqueFd folder_fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder_fd) ::fsync(folder_fd.get());
  return {};
}

Result<StateReader> StateReader::open(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "opening " + path.string());
  return open(std::move(fd), path.string());
}

Result<StateReader> StateReader::open(UniqueFd fd, std::string name) {
  StateReader reader(std::move(fd), std::move(name));
  if (auto outcome = reader.read_headers(); !outcome) return std::unexpected(std::move(outcome).error().within(reader.name_));
  return reader;
}

Result<void> StateReader::read_at(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t got = ::pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading " + name_);
    if (got == 0) return fail(ErrorCode::kCorrupt, "the file ends too early");
    into = into.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return {};
}

Result<void> StateReader::read_headers() {
  struct stat status = {};
  if (::fstat(fd_.get(), &status) != 0) return fail_errno(errno, "looking at the file");
  const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
  FileHeader file = {};
  if (file_bytes < sizeof file || !read_at(0, std::as_writable_bytes(std::span(&file, 1))) || file.magic != kMagic) {
    return fail(ErrorCode::kCorrupt, "this is not a saved state of a machine");
  }
  if (file.checksum != header_checksum(file)) return fail(ErrorCode::kCorrupt, "the header is damaged");
  if (file.version != kFormatVersion) {
    return std::unexpected(Error{ErrorCode::kUnsupported,
                                 fmt::format("the saved state is of format {}, this build reads {}", file.version.value(), kFormatVersion),
                                 "Resume it with the version of Bygone that saved it"});
  }
  std::uint64_t at = sizeof file;
  for (;;) {
    SectionHeader header = {};
    if (file_bytes - at < sizeof header) return fail(ErrorCode::kCorrupt, "the file is cut off at {} bytes", file_bytes);
    BYGONE_CHECK(read_at(at, std::as_writable_bytes(std::span(&header, 1))));
    if (header.checksum != header_checksum(header)) return fail(ErrorCode::kCorrupt, "the section header at {} is damaged", at);
    at += sizeof header;
    if (header.length > file_bytes - at) return fail(ErrorCode::kCorrupt, "the file is cut off at {} bytes", file_bytes);
    const std::uint32_t kind = header.kind;
    if (header.length > kMaximumSectionBytes || kind == 0 || kind > static_cast<std::uint32_t>(SectionKind::kEnd)) {
      return fail(ErrorCode::kCorrupt, "a section at {} of kind {} and {} bytes is none that this build writes", at, kind, header.length.value());
    }
    const auto known = static_cast<SectionKind>(kind);
    if (sections_.empty() && known != SectionKind::kManifest) return fail(ErrorCode::kCorrupt, "the first section is not the manifest");
    if (known == SectionKind::kEnd) break;
    if (sections_.size() >= kMaximumSections) return fail(ErrorCode::kCorrupt, "there are too many sections");
    sections_.push_back({known, header.address, at, header.length, header.payload_checksum});
    at += header.length;
  }
  return {};
}

Result<std::vector<std::byte>> StateReader::read(const Section& section) const {
  std::vector<std::byte> payload(section.length);
  BYGONE_CHECK(read_at(section.offset, payload));
  if (crc32c(payload) != section.checksum) {
    return fail(ErrorCode::kCorrupt, "{}: the {} section at {} is damaged", name_, to_string(section.kind), section.offset);
  }
  return payload;
}

Result<std::vector<std::byte>> StateReader::read_only(SectionKind kind) const {
  const Section* found = nullptr;
  for (const Section& section : sections_) {
    if (section.kind != kind) continue;
    if (found != nullptr) return fail(ErrorCode::kCorrupt, "{}: there are two {} sections", name_, to_string(kind));
    found = &section;
  }
  if (found == nullptr) return fail(ErrorCode::kCorrupt, "{}: there is no {} section", name_, to_string(kind));
  return read(*found);
}

}  // namespace bygone::machine::saved_state
