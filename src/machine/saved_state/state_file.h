// The file of a machine's saved state: sections one after the other, each with its name, length and checksum. docs/saved-state.md
// is the format's description.
//
//   StateWriter::create → append()… → commit()      a temporary file beside the target; the target changes at once or not at all
//   StateReader::open → sections() → read()         every header is checked by open(), every payload by read()
//
// Threading: append() and read() from any thread, several at once; the rest from one.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::machine::saved_state {

inline constexpr std::uint32_t kFormatVersion = 1;
/// What a section of memory or of descriptions may take.
inline constexpr std::uint64_t kMaximumSectionBytes = 64ULL << 20;

enum class SectionKind : std::uint32_t {
  kManifest = 1,   ///< CBOR: what machine this is; always the first
  kProcessors = 2, ///< CBOR: the processors' registers
  kParts = 3,      ///< CBOR: chipset, hypervisor, bus and devices
  kMemory = 4,     ///< pages of guest memory from `address` on
  kEnd = 5,        ///< nothing: the file is whole
};
[[nodiscard]] std::string_view to_string(SectionKind kind);

struct Section {
  SectionKind kind = SectionKind::kEnd;
  std::uint64_t address = 0;      ///< kMemory: guest physical
  std::uint64_t offset = 0;       ///< of the payload in the file
  std::uint64_t length = 0;       ///< of the payload
  std::uint32_t checksum = 0;     ///< CRC-32C of the payload
};

class StateWriter {
 public:
  /// Errors: the host's.
  [[nodiscard]] static Result<StateWriter> create(const std::filesystem::path& path);
  StateWriter(StateWriter&& other) noexcept;
  StateWriter& operator=(StateWriter&&) = delete;
  /// Without commit(): nothing is left behind.
  ~StateWriter();

  [[nodiscard]] Result<void> append(SectionKind kind, std::uint64_t address, std::span<const std::byte> payload);
  /// Ends the file, makes it durable and puts it in place.
  [[nodiscard]] Result<void> commit();
  [[nodiscard]] std::uint64_t bytes() const { return offset_; }

 private:
  StateWriter(std::filesystem::path path, std::string temporary, UniqueFd fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(std::move(fd)) {}
  [[nodiscard]] Result<void> write_at(std::uint64_t offset, std::span<const std::byte> bytes);

  std::filesystem::path path_;
  std::string temporary_;  // empty: in place, or given up
  UniqueFd fd_;
  std::mutex mutex_;
  std::uint64_t offset_ = 0;  // guarded by mutex_
};

class StateReader {
 public:
  /// Errors: kNotFound…, kCorrupt (not such a file, cut off, a header damaged), kUnsupported (another format version).
  [[nodiscard]] static Result<StateReader> open(const std::filesystem::path& path);
  /// From a descriptor, for tests.
  [[nodiscard]] static Result<StateReader> open(UniqueFd fd, std::string name);

  [[nodiscard]] const std::vector<Section>& sections() const { return sections_; }
  /// The payload. Errors: kCorrupt, kIo.
  [[nodiscard]] Result<std::vector<std::byte>> read(const Section& section) const;
  /// The only section of that kind. Errors: kCorrupt.
  [[nodiscard]] Result<std::vector<std::byte>> read_only(SectionKind kind) const;
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  StateReader(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> into) const;
  [[nodiscard]] Result<void> read_headers();

  UniqueFd fd_;
  std::string name_;
  std::vector<Section> sections_;
};

}  // namespace bygone::machine::saved_state
