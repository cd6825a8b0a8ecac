#include "disk/vhd/vhd_format.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <ctime>

#include "disk/utf16.h"

namespace bygone::disk {
namespace {

namespace vhd = spec::vhd;

template <typename T>
std::uint32_t checksum_of(T object) {
  object.checksum = 0;
  std::uint32_t sum = 0;
  for (const std::byte byte : bytes_of(object)) sum += std::to_integer<std::uint32_t>(byte);
  return ~sum;
}

bool is_intact(const vhd::Footer& footer) {
  return footer.cookie == vhd::kFooterCookie && footer.checksum == checksum_of(footer);
}

Result<std::optional<vhd::Footer>> footer_at(File& file, std::uint64_t offset, std::size_t length) {
  vhd::Footer footer = {};
  BYGONE_CHECK(file.read(offset, writable_bytes_of(footer).first(length)));
  return is_intact(footer) ? std::optional(footer) : std::nullopt;
}

Result<void> check_footer(const vhd::Footer& footer, const std::string& name) {
  if (footer.file_format_version >> 16 != vhd::kFileFormatVersion >> 16) {
    return fail(ErrorCode::kUnsupported, "{} is a VHD file of version {:#x}; only {:#x} is known", name,
                footer.file_format_version.value(), vhd::kFileFormatVersion);
  }
  const std::uint32_t type = footer.disk_type;
  if (type < static_cast<std::uint32_t>(vhd::DiskType::kFixed) || type > static_cast<std::uint32_t>(vhd::DiskType::kDifferencing)) {
    return fail(ErrorCode::kUnsupported, "{} is a VHD file of the unknown kind {}", name, type);
  }
  if (footer.current_size == 0 || footer.current_size > vhd::kMaximumDiskBytes) {
    return fail(ErrorCode::kCorrupt, "{} says that its disk has {} bytes; up to 2040 GiB are possible", name,
                footer.current_size.value());
  }
  return {};
}

std::vector<std::byte> utf16_bytes(const std::string& text) {
  std::vector<std::byte> bytes;
  for (const char16_t unit : to_utf16(text)) {
    bytes.push_back(static_cast<std::byte>(unit & 0xFF));
    bytes.push_back(static_cast<std::byte>(unit >> 8));
  }
  return bytes;
}

}  // namespace

std::uint32_t vhd_checksum(vhd::Footer footer) { return checksum_of(footer); }
std::uint32_t vhd_checksum(vhd::DynamicHeader header) { return checksum_of(header); }

// Specification, appendix "CHS calculation"
vhd::Geometry vhd_geometry(std::uint64_t sectors) {
  std::uint64_t heads = 16;
  std::uint64_t per_track = 255;
  sectors = std::min<std::uint64_t>(sectors, std::uint64_t{65535} * 16 * 255);
  std::uint64_t tracks = sectors / per_track;
  if (sectors < std::uint64_t{65535} * 16 * 63) {
    per_track = 17;
    tracks = sectors / per_track;
    heads = std::max<std::uint64_t>((tracks + 1023) / 1024, 4);
    if (tracks >= heads * 1024 || heads > 16) {
      per_track = 31;
      heads = 16;
      tracks = sectors / per_track;
    }
    if (tracks >= heads * 1024) {
      per_track = 63;
      heads = 16;
      tracks = sectors / per_track;
    }
  }
  vhd::Geometry geometry;
  geometry.cylinders = static_cast<std::uint16_t>(tracks / heads);
  geometry.heads = static_cast<std::uint8_t>(heads);
  geometry.sectors_per_track = static_cast<std::uint8_t>(per_track);
  return geometry;
}

Result<VhdFooter> read_vhd_footer(File& file) {
  BYGONE_ASSIGN(const std::uint64_t bytes, file.size());
  if (bytes < vhd::kSectorBytes) return fail(ErrorCode::kCorrupt, "{} is too short for a VHD file", file.name());
  VhdFooter result;
  BYGONE_ASSIGN(const auto start, footer_at(file, 0, sizeof(vhd::Footer)));
  BYGONE_ASSIGN(auto end, footer_at(file, bytes - sizeof(vhd::Footer), sizeof(vhd::Footer)));
  result.offset = bytes - sizeof(vhd::Footer);
  if (!end) {
    BYGONE_ASSIGN(end, footer_at(file, bytes - vhd::kOldFooterBytes, vhd::kOldFooterBytes));
    if (end) result.offset = bytes - vhd::kOldFooterBytes;
  }
  const bool is_dynamic_start = start && start->disk_type != static_cast<std::uint32_t>(vhd::DiskType::kFixed);
  if (end) {
    result.wire = *end;
    const bool is_dynamic = end->disk_type != static_cast<std::uint32_t>(vhd::DiskType::kFixed);
    result.is_start_damaged = is_dynamic && (!start || !std::ranges::equal(bytes_of(*start), bytes_of(*end)));
  } else if (is_dynamic_start) {
    // A power cut while the file grew: the end is anything, the copy at the start is what it is for. Whole sectors go on.
    result.wire = *start;
    result.is_end_damaged = true;
    result.offset = (bytes + vhd::kSectorBytes - 1) / vhd::kSectorBytes * vhd::kSectorBytes;
  } else {
    return fail(ErrorCode::kCorrupt, "{} has no intact VHD footer", file.name());
  }
  BYGONE_CHECK(check_footer(result.wire, file.name()));
  return result;
}

Result<vhd::DynamicHeader> read_vhd_dynamic_header(File& file, const vhd::Footer& footer) {
  BYGONE_ASSIGN(const std::uint64_t bytes, file.size());
  const std::uint64_t offset = footer.data_offset;
  if (offset > bytes || bytes - offset < sizeof(vhd::DynamicHeader)) {
    return fail(ErrorCode::kCorrupt, "{}: the footer puts the dynamic header at {:#x}, outside the file", file.name(), offset);
  }
  BYGONE_ASSIGN(const auto header, read_object<vhd::DynamicHeader>(file, offset));
  if (header.cookie != vhd::kDynamicCookie || header.checksum != checksum_of(header)) {
    return fail(ErrorCode::kCorrupt, "the dynamic header of {} is damaged", file.name());
  }
  if (header.header_version >> 16 != vhd::kDynamicVersion >> 16) {
    return fail(ErrorCode::kUnsupported, "{} has a dynamic header of version {:#x}", file.name(), header.header_version.value());
  }
  const std::uint32_t block = header.block_size;
  if (!std::has_single_bit(block) || block < 4096 || block > (256U << 20)) {
    return fail(ErrorCode::kCorrupt, "{} has blocks of {} bytes; a power of two from 4 KiB to 256 MiB is possible", file.name(),
                block);
  }
  const std::uint64_t needed = (footer.current_size + block - 1) / block;
  if (header.max_table_entries < needed) {
    return fail(ErrorCode::kCorrupt, "the block allocation table of {} has {} entries for {} blocks", file.name(),
                header.max_table_entries.value(), needed);
  }
  const std::uint64_t table = header.table_offset;
  if (table % vhd::kSectorBytes != 0 || table > bytes || needed * sizeof(be32) > bytes - table) {
    return fail(ErrorCode::kCorrupt, "the block allocation table of {} lies at {:#x}, outside the file", file.name(), table);
  }
  return header;
}

vhd::Footer make_vhd_footer(std::uint64_t size_bytes, vhd::DiskType type, const Guid& unique_id) {
  vhd::Footer footer = {};
  footer.cookie = vhd::kFooterCookie;
  footer.features = vhd::kFeaturesReserved;
  footer.file_format_version = vhd::kFileFormatVersion;
  footer.data_offset = type == vhd::DiskType::kFixed ? vhd::kNoOffset : sizeof(vhd::Footer);
  footer.time_stamp = static_cast<std::uint32_t>(std::time(nullptr) - vhd::kEpochUnixSeconds);
  // Readers take the disk's size from the geometry for creators that they don't know, and would cut off its end. "win " is
  // Hyper-V's name, and says that current_size is meant.
  footer.creator_application = {'w', 'i', 'n', ' '};
  footer.creator_version = 0x000a0000;
  footer.creator_host_os = {'W', 'i', '2', 'k'};
  footer.original_size = size_bytes;
  footer.current_size = size_bytes;
  footer.geometry = vhd_geometry(size_bytes / vhd::kSectorBytes);
  footer.disk_type = static_cast<std::uint32_t>(type);
  footer.unique_id = unique_id.is_zero() ? Guid::random() : unique_id;
  footer.checksum = checksum_of(footer);
  return footer;
}

Result<VhdParent> read_vhd_parent(File& file, const vhd::DynamicHeader& header) {
  BYGONE_ASSIGN(const std::uint64_t file_bytes, file.size());
  VhdParent parent;
  parent.unique_id = header.parent_unique_id;
  parent.time_stamp = header.parent_time_stamp;
  std::u16string name;
  for (const be16 unit : header.parent_unicode_name) {
    if (unit == 0) break;
    name += static_cast<char16_t>(unit.value());
  }
  parent.name = to_utf8(name);
  for (const vhd::ParentLocatorEntry& locator : header.parent_locators) {
    const std::uint32_t code = locator.platform_code;
    if (code != vhd::kPlatformWindowsRelative && code != vhd::kPlatformWindowsAbsolute) continue;
    constexpr std::uint32_t kMaximumPathBytes = 64U << 10;
    const std::uint32_t length = locator.platform_data_length;
    const std::uint64_t offset = locator.platform_data_offset;
    if (length > kMaximumPathBytes || offset > file_bytes || length > file_bytes - offset) {
      return fail(ErrorCode::kCorrupt, "{}: a parent locator lies at {:#x}+{:#x}, outside the file", file.name(), offset, length);
    }
    std::vector<le16> units(length / 2);
    BYGONE_CHECK(file.read(offset, std::as_writable_bytes(std::span(units))));
    std::u16string path;
    for (const le16 unit : units) path += static_cast<char16_t>(unit.value());
    path.erase(std::ranges::find(path, u'\0'), path.end());
    (code == vhd::kPlatformWindowsRelative ? parent.relative_path : parent.absolute_path) = to_utf8(path);
  }
  return parent;
}

void set_vhd_parent(vhd::DynamicHeader& header, const VhdParent& parent, std::uint64_t locator_offset,
                    std::vector<std::byte>& locators) {
  header.parent_unique_id = parent.unique_id;
  header.parent_time_stamp = parent.time_stamp;
  header.parent_unicode_name = {};
  std::u16string name = to_utf16(parent.name);
  name.resize(std::min(name.size(), header.parent_unicode_name.size()));
  std::ranges::copy(name, header.parent_unicode_name.begin());
  header.parent_locators = {};
  locators.assign(2 * kVhdLocatorBytes, std::byte{0});
  const auto add = [&](std::size_t slot, std::uint32_t code, const std::string& path) {
    std::vector<std::byte> bytes = utf16_bytes(path);
    bytes.resize(std::min(bytes.size(), kVhdLocatorBytes));
    std::ranges::copy(bytes, locators.begin() + static_cast<std::ptrdiff_t>(slot * kVhdLocatorBytes));
    vhd::ParentLocatorEntry& locator = header.parent_locators[slot];
    locator.platform_code = code;
    locator.platform_data_space = static_cast<std::uint32_t>(kVhdLocatorBytes);  // bytes, as Windows counts it
    locator.platform_data_length = static_cast<std::uint32_t>(bytes.size());
    locator.platform_data_offset = locator_offset + slot * kVhdLocatorBytes;
  };
  add(0, vhd::kPlatformWindowsRelative, parent.relative_path);
  add(1, vhd::kPlatformWindowsAbsolute, parent.absolute_path);
  header.checksum = checksum_of(header);
}

Result<void> create_vhd(File& file, const VhdParameters& parameters) {
  if (parameters.size_bytes == 0 || parameters.size_bytes % vhd::kSectorBytes != 0 ||
      parameters.size_bytes > vhd::kMaximumDiskBytes) {
    return fail(ErrorCode::kInvalidArgument, "a VHD disk has whole 512-byte sectors up to 2040 GiB, not {} bytes",
                parameters.size_bytes);
  }
  const vhd::Footer footer = make_vhd_footer(parameters.size_bytes, parameters.type, parameters.unique_id);
  if (parameters.type == vhd::DiskType::kFixed) {
    BYGONE_CHECK(file.allocate(0, parameters.size_bytes + sizeof footer));
    BYGONE_CHECK(write_object(file, parameters.size_bytes, footer));
    return file.flush();
  }
  if (!std::has_single_bit(parameters.block_bytes) || parameters.block_bytes < (512U << 10) || parameters.block_bytes > (2U << 20)) {
    return fail(ErrorCode::kInvalidArgument, "blocks of a VHD file have 512 KiB, 1 MiB or 2 MiB, not {} bytes",
                parameters.block_bytes);
  }
  const std::uint64_t blocks = (parameters.size_bytes + parameters.block_bytes - 1) / parameters.block_bytes;
  vhd::DynamicHeader header = {};
  header.cookie = vhd::kDynamicCookie;
  header.data_offset = vhd::kNoOffset;
  header.header_version = vhd::kDynamicVersion;
  header.max_table_entries = static_cast<std::uint32_t>(blocks);
  header.block_size = parameters.block_bytes;
  std::uint64_t next = sizeof footer + sizeof header;
  std::vector<std::byte> locators;
  if (parameters.parent) {
    set_vhd_parent(header, *parameters.parent, next, locators);
    BYGONE_CHECK(file.write(next, locators));
    next += locators.size();
  }
  header.table_offset = next;
  header.checksum = checksum_of(header);
  const std::uint64_t table_bytes = (blocks * sizeof(be32) + vhd::kSectorBytes - 1) / vhd::kSectorBytes * vhd::kSectorBytes;
  BYGONE_CHECK(file.write(next, std::vector<std::byte>(table_bytes, std::byte{0xFF})));
  BYGONE_CHECK(write_object(file, sizeof footer, header));
  BYGONE_CHECK(write_object(file, 0, footer));
  BYGONE_CHECK(write_object(file, next + table_bytes, footer));
  return file.flush();
}

}  // namespace bygone::disk
