#include "disk/vhdx/vhdx_header.h"

#include <algorithm>
#include <cstring>

#include "disk/utf16.h"
#include "support/crc32c.h"

namespace bygone::disk {
namespace {

namespace vhdx = spec::vhdx;

std::uint32_t header_checksum(vhdx::Header header) {
  header.checksum = 0;
  return crc32c(bytes_of(header));
}

bool is_intact(const vhdx::Header& header) {
  return header.signature == vhdx::kHeaderSignature && header.checksum == header_checksum(header);
}

Result<void> check_log_place(const VhdxHeader& header, std::uint64_t file_bytes, const std::string& name) {
  const bool is_placed = header.log_offset >= vhdx::kHeaderSectionBytes && header.log_offset % vhdx::kAlignment == 0 &&
                         header.log_length != 0 && header.log_length % vhdx::kAlignment == 0 &&
                         header.log_offset <= file_bytes && header.log_length <= file_bytes - header.log_offset;
  if (is_placed) return {};
  return fail(ErrorCode::kCorrupt, "{}: the header puts the log at {:#x}+{:#x}, where none can be", name, header.log_offset,
              header.log_length);
}

vhdx::Header to_wire(const VhdxHeader& header) {
  vhdx::Header wire = {};
  wire.signature = vhdx::kHeaderSignature;
  wire.sequence_number = header.sequence_number;
  wire.file_write_guid = header.file_write_guid;
  wire.data_write_guid = header.data_write_guid;
  wire.log_guid = header.log_guid;
  wire.log_version = vhdx::kLogVersion;
  wire.version = vhdx::kVersion;
  wire.log_length = header.log_length;
  wire.log_offset = header.log_offset;
  wire.checksum = header_checksum(wire);
  return wire;
}

}  // namespace

Result<VhdxHeader> read_vhdx_header(File& file) {
  BYGONE_ASSIGN(const std::uint64_t file_bytes, file.size());
  if (file_bytes < vhdx::kHeaderSectionBytes) {
    return fail(ErrorCode::kCorrupt, "{} is too short for a VHDX file ({} bytes)", file.name(), file_bytes);
  }
  BYGONE_ASSIGN(const auto identifier, read_object<vhdx::FileIdentifier>(file, vhdx::kFileIdentifierOffset));
  if (identifier.signature != vhdx::kFileSignature) {
    return fail(ErrorCode::kCorrupt, "{} does not start with \"vhdxfile\"", file.name());
  }
  std::optional<VhdxHeader> current;
  std::array<bool, 2> is_valid = {};
  std::array<vhdx::Header, 2> headers;
  for (std::size_t slot = 0; slot < 2; ++slot) {
    BYGONE_ASSIGN(headers[slot], read_object<vhdx::Header>(file, vhdx::kHeaderOffsets[slot]));
    const vhdx::Header& wire = headers[slot];
    is_valid[slot] = is_intact(wire);
    if (!is_valid[slot]) continue;
    if (wire.version != vhdx::kVersion || wire.log_version != vhdx::kLogVersion) {
      return fail(ErrorCode::kUnsupported, "{} is a VHDX file of version {} with log version {}; only 1 and 0 are known",
                  file.name(), wire.version.value(), wire.log_version.value());
    }
    if (current && current->sequence_number >= wire.sequence_number) continue;
    current = VhdxHeader{wire.sequence_number, wire.file_write_guid, wire.data_write_guid, wire.log_guid,
                         wire.log_offset,      wire.log_length,      slot,                 {}};
  }
  if (!current) return fail(ErrorCode::kCorrupt, "both headers of {} are damaged", file.name());
  // 2.2.2: neither is current then. Some of Microsoft's own tools write one header twice, which leaves no doubt.
  if (is_valid[0] && is_valid[1] && headers[0].sequence_number == headers[1].sequence_number &&
      !std::ranges::equal(bytes_of(headers[0]), bytes_of(headers[1]))) {
    return fail(ErrorCode::kCorrupt, "the headers of {} differ and have the same sequence number {}: neither is the current one",
                file.name(), headers[0].sequence_number.value());
  }
  current->is_valid = is_valid;
  BYGONE_CHECK(check_log_place(*current, file_bytes, file.name()));
  return *current;
}

Result<void> write_vhdx_header(File& file, VhdxHeader& header) {
  for (int copy = 0; copy < 2; ++copy) {
    VhdxHeader next = header;
    ++next.sequence_number;
    next.slot = 1 - header.slot;
    BYGONE_CHECK(write_object(file, vhdx::kHeaderOffsets[next.slot], to_wire(next)));
    BYGONE_CHECK(file.flush());
    header = next;
  }
  header.is_valid = {true, true};
  return {};
}

Result<VhdxRegions> read_vhdx_regions(File& file, const MetadataReader& read) {
  BYGONE_ASSIGN(const std::uint64_t file_bytes, file.size());
  VhdxRegions regions;
  std::vector<std::byte> table;
  for (std::size_t slot = 0; slot < 2; ++slot) {
    std::vector<std::byte> bytes(vhdx::kRegionTableBytes);
    BYGONE_CHECK(read(vhdx::kRegionTableOffsets[slot], bytes));
    vhdx::RegionTableHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    std::vector<std::byte> summed = bytes;
    std::fill_n(summed.begin() + offsetof(vhdx::RegionTableHeader, checksum), 4, std::byte{0});
    regions.is_valid[slot] = header.signature == vhdx::kRegionTableSignature && header.checksum == crc32c(summed);
    if (regions.is_valid[slot] && table.empty()) table = std::move(bytes);
  }
  if (table.empty()) return fail(ErrorCode::kCorrupt, "both region tables of {} are damaged", file.name());

  vhdx::RegionTableHeader header;
  std::memcpy(&header, table.data(), sizeof header);
  if (header.entry_count > vhdx::kMaximumRegionEntries) {
    return fail(ErrorCode::kCorrupt, "the region table of {} has {} entries; {} are possible", file.name(), header.entry_count.value(),
                vhdx::kMaximumRegionEntries);
  }
  std::vector<VhdxRegion> all;
  for (std::uint32_t i = 0; i < header.entry_count; ++i) {
    vhdx::RegionTableEntry wire;
    std::memcpy(&wire, table.data() + sizeof header + i * sizeof wire, sizeof wire);
    const VhdxRegion region{wire.guid, wire.file_offset, wire.length, (wire.flags & vhdx::kRegionRequired) != 0};
    if (region.offset < vhdx::kHeaderSectionBytes || region.offset % vhdx::kAlignment != 0 || region.length == 0 ||
        region.length % vhdx::kAlignment != 0 || region.offset > file_bytes || region.length > file_bytes - region.offset) {
      return fail(ErrorCode::kCorrupt, "{}: the region {} lies at {:#x}+{:#x}, where none can be", file.name(),
                  region.guid.text(), region.offset, region.length);
    }
    if (region.guid == vhdx::kBatRegion && regions.bat.length == 0) {
      regions.bat = region;
    } else if (region.guid == vhdx::kMetadataRegion && regions.metadata.length == 0) {
      regions.metadata = region;
    } else if (region.guid == vhdx::kBatRegion || region.guid == vhdx::kMetadataRegion) {
      return fail(ErrorCode::kCorrupt, "{} has the region {} twice", file.name(), region.guid.text());
    } else if (region.is_required) {
      return fail(ErrorCode::kUnsupported, "{} requires the region {}, which this version doesn't know", file.name(),
                  region.guid.text());
    } else {
      regions.others.push_back(region);
    }
    all.push_back(region);
  }
  if (regions.bat.length == 0) return fail(ErrorCode::kCorrupt, "{} has no block allocation table", file.name());
  if (regions.metadata.length == 0) return fail(ErrorCode::kCorrupt, "{} has no metadata region", file.name());
  std::ranges::sort(all, {}, &VhdxRegion::offset);
  for (std::size_t i = 1; i < all.size(); ++i) {
    if (all[i - 1].offset + all[i - 1].length > all[i].offset) {
      return fail(ErrorCode::kCorrupt, "{}: the regions {} and {} overlap", file.name(), all[i - 1].guid.text(),
                  all[i].guid.text());
    }
  }
  return regions;
}

std::vector<std::byte> make_vhdx_region_table(const VhdxRegions& regions) {
  std::vector<VhdxRegion> all = {regions.bat, regions.metadata};
  all.insert(all.end(), regions.others.begin(), regions.others.end());
  std::vector<std::byte> table(vhdx::kRegionTableBytes);
  vhdx::RegionTableHeader header = {};
  header.signature = vhdx::kRegionTableSignature;
  header.entry_count = static_cast<std::uint32_t>(all.size());
  std::memcpy(table.data(), &header, sizeof header);
  for (std::size_t i = 0; i < all.size(); ++i) {
    vhdx::RegionTableEntry wire;
    wire.guid = all[i].guid;
    wire.file_offset = all[i].offset;
    wire.length = all[i].length;
    wire.flags = all[i].is_required ? vhdx::kRegionRequired : 0;
    std::memcpy(table.data() + sizeof header + i * sizeof wire, &wire, sizeof wire);
  }
  header.checksum = crc32c(table);
  std::memcpy(table.data(), &header, sizeof header);
  return table;
}

Result<void> write_vhdx_identifier(File& file) {
  vhdx::FileIdentifier identifier = {};
  identifier.signature = vhdx::kFileSignature;
  const std::u16string creator = u"Bygone";
  std::ranges::copy(creator, identifier.creator.begin());
  return write_object(file, vhdx::kFileIdentifierOffset, identifier);
}

}  // namespace bygone::disk
