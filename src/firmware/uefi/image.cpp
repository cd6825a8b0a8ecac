#include "firmware/uefi/image.h"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "cpu/entry_state.h"
#include "spec/uefi/handover.h"

namespace bygone::firmware {
namespace {

namespace uefi = spec::uefi;

// UEFI PI 1.7 volume 3: firmware volume and file headers, section types.
constexpr std::size_t kVolumeHeaderLengthOffset = 48, kFileHeaderBytes = 24, kSectionHeaderBytes = 4;
constexpr std::uint8_t kFileTypeSecurityCore = 3, kSectionPe32 = 0x10, kSectionTe = 0x12;

// Reads little-endian numbers inside bounds; 0 outside, which no caller takes for a valid size.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  [[nodiscard]] std::uint32_t number(std::size_t offset, unsigned size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) return 0;
    std::uint32_t value = 0;
    for (unsigned i = size; i-- > 0;) value = (value << 8) | std::to_integer<std::uint32_t>(bytes_[offset + i]);
    return value;
  }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
};

std::optional<std::uint64_t> executable_entry(const Reader& image, std::size_t at) {
  if (image.number(at, 2) == 0x5A56) {  // "VZ", a TE image: headers were stripped
    return at + image.number(at + 8, 4) + 40 - image.number(at + 6, 2);
  }
  std::size_t header = at;
  if (image.number(at, 2) == 0x5A4D) header = at + image.number(at + 0x3C, 4);  // "MZ"
  if (image.number(header, 4) != 0x00004550) return std::nullopt;               // "PE\0\0"
  return at + image.number(header + 24 + 16, 4);                                // AddressOfEntryPoint
}

std::optional<std::uint64_t> entry_of_file(const Reader& image, std::size_t begin, std::size_t end) {
  for (std::size_t at = begin; at + kSectionHeaderBytes <= end;) {
    const std::uint32_t size = image.number(at, 3);
    const std::uint32_t type = image.number(at + 3, 1);
    if (size < kSectionHeaderBytes || size > end - at) return std::nullopt;
    if (type == kSectionPe32 || type == kSectionTe) return executable_entry(image, at + kSectionHeaderBytes);
    at += (size + std::size_t{3}) / 4 * 4;
  }
  return std::nullopt;
}

}  // namespace

Result<void> check_image_size(std::uint64_t bytes) {
  if (bytes == uefi::kImageSize) return {};
  return fail(ErrorCode::kUnsupported, "the firmware image has {} bytes; a Generation 2 image has exactly {}", bytes, uefi::kImageSize);
}

Result<std::uint64_t> find_sec_entry(std::span<const std::byte> bytes) {
  BYGONE_CHECK(check_image_size(bytes.size()));
  const Reader image(bytes);
  std::size_t at = uefi::kSecVolumeOffset + image.number(uefi::kSecVolumeOffset + kVolumeHeaderLengthOffset, 2);
  while (at + kFileHeaderBytes <= image.size()) {
    const std::uint32_t size = image.number(at + 20, 3);
    if (size < kFileHeaderBytes || size > image.size() - at) break;
    if (image.number(at + 18, 1) == kFileTypeSecurityCore) {
      const auto entry = entry_of_file(image, at + kFileHeaderBytes, at + size);
      if (entry && *entry < image.size()) return *entry;
      break;
    }
    at += (size + std::size_t{7}) / 8 * 8;
  }
  return fail(ErrorCode::kCorrupt, "the firmware image has no security core in its volume at {:#x}", uefi::kSecVolumeOffset);
}

Result<EntryState> load_uefi(memory::GuestMemory& memory, const PlaceImage& place_image, std::span<const std::byte> blob) {
  const std::span<std::byte> image = memory.host_span({uefi::kImageBase}, uefi::kImageSize);
  if (image.empty()) return fail(ErrorCode::kOutOfRange, "the machine has no memory where firmware goes, at {:#x}", uefi::kImageBase);
  BYGONE_CHECK(place_image(image));
  memory.mark_dirty({uefi::kImageBase}, image.size());
  BYGONE_ASSIGN(const std::uint64_t entry_offset, find_sec_entry(image));
  BYGONE_CHECK(memory.write({uefi::kConfigurationBlob}, blob));
  EntryState entry;
  BYGONE_ASSIGN(entry.system, cpu::prepare_long_mode(memory, {uefi::kPageTables}, {uefi::kGdt}));
  entry.system.cr0 = 0x80000023 | 0x10;  // ET reads as one on every processor
  entry.system.cr4 = 0x640 | 0x20;       // PAE cannot be off in long mode
  entry.general.rip = uefi::kImageBase + entry_offset;
  entry.general[cpu::Gpr::kRbp] = uefi::kImageBase + uefi::kSecVolumeOffset;
  return entry;
}

// Intel SDM volume 3, 12.11: fixed ranges, then pairs of base and mask for powers of two, then the type of everything else.
std::vector<cpu::MsrValue> memory_types(std::span<const AddressRange> windows, unsigned address_bits) {
  constexpr std::uint64_t kUncached = 0, kWriteBack = 6, kWriteBackEverywhere = 0x0606060606060606ULL;
  constexpr std::uint64_t kRangeValid = 1 << 11, kEnabled = 1 << 11, kFixedEnabled = 1 << 10;
  constexpr std::array<std::uint32_t, 11> kFixedRanges{0x250, 0x258, 0x259, 0x268, 0x269, 0x26A, 0x26B, 0x26C, 0x26D, 0x26E, 0x26F};
  constexpr std::uint32_t kFirstBase = 0x200, kDefaultType = 0x2FF;
  constexpr std::size_t kRanges = 8;

  std::vector<cpu::MsrValue> msrs;
  msrs.reserve(std::size(kFixedRanges));
  for (const std::uint32_t fixed : kFixedRanges) msrs.push_back({fixed, kWriteBackEverywhere});
  std::vector<cpu::MsrValue> pairs;
  const std::uint64_t address_mask = (std::uint64_t{1} << address_bits) - 1;
  const auto next_register = [&] { return kFirstBase + static_cast<std::uint32_t>(pairs.size()); };
  for (const AddressRange& window : windows) {
    for (std::uint64_t at = window.base, left = window.size; left != 0 && pairs.size() < 2 * kRanges;) {
      const std::uint64_t alignment = at == 0 ? left : std::uint64_t{1} << std::countr_zero(at);
      const std::uint64_t size = std::min(alignment, std::bit_floor(left));
      pairs.push_back({next_register(), at | kUncached});
      pairs.push_back({next_register(), (~(size - 1) & address_mask) | kRangeValid});
      at += size;
      left -= size;
    }
  }
  while (pairs.size() < 2 * kRanges) pairs.push_back({next_register(), 0});
  msrs.insert(msrs.end(), pairs.begin(), pairs.end());
  msrs.push_back({kDefaultType, kEnabled | kFixedEnabled | kWriteBack});
  return msrs;
}

}  // namespace bygone::firmware
