#include "disk/vhdx/vhdx_metadata.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "disk/utf16.h"

namespace bygone::disk {
namespace {

namespace vhdx = spec::vhdx;

/// Item ids are only unique together with whether the item is the user's.
struct Item {
  std::uint64_t offset = 0;  // in the file
  std::uint32_t length = 0;
};

using Items = std::map<Guid, Item>;

Result<void> check_items_are_apart(const Items& items, const std::string& name) {
  for (auto one = items.begin(); one != items.end(); ++one) {
    for (auto other = std::next(one); other != items.end(); ++other) {
      if (one->second.offset >= other->second.offset + other->second.length ||
          other->second.offset >= one->second.offset + one->second.length) {
        continue;
      }
      return fail(ErrorCode::kCorrupt, "{}: the metadata items {} and {} share bytes", name, one->first.text(), other->first.text());
    }
  }
  return {};
}

Result<Items> read_items(const VhdxRegion& region, const MetadataReader& read, const std::string& name) {
  if (region.length < vhdx::kMetadataTableBytes) {
    return fail(ErrorCode::kCorrupt, "{}: the metadata region is too short", name);
  }
  std::vector<std::byte> table(vhdx::kMetadataTableBytes);
  BYGONE_CHECK(read(region.offset, table));
  vhdx::MetadataTableHeader header;
  std::memcpy(&header, table.data(), sizeof header);
  if (header.signature != vhdx::kMetadataSignature) return fail(ErrorCode::kCorrupt, "{}: the metadata table is damaged", name);
  if (header.entry_count > vhdx::kMaximumMetadataEntries) {
    return fail(ErrorCode::kCorrupt, "the metadata table of {} has {} entries; {} are possible", name, header.entry_count.value(),
                vhdx::kMaximumMetadataEntries);
  }
  static constexpr std::array kKnown = {vhdx::kFileParametersItem,    vhdx::kVirtualDiskSizeItem,    vhdx::kVirtualDiskIdItem,
                                        vhdx::kLogicalSectorSizeItem, vhdx::kPhysicalSectorSizeItem, vhdx::kParentLocatorItem};
  Items items;
  for (std::uint32_t i = 0; i < header.entry_count; ++i) {
    vhdx::MetadataTableEntry entry;
    std::memcpy(&entry, table.data() + sizeof header + i * sizeof entry, sizeof entry);
    const bool is_user = (entry.flags & vhdx::kMetadataIsUser) != 0;
    const bool is_known = !is_user && std::ranges::find(kKnown, entry.item_id) != kKnown.end();
    if (!is_known && (entry.flags & vhdx::kMetadataIsRequired) != 0) {
      return fail(ErrorCode::kUnsupported, "{} requires the metadata item {}, which this version doesn't know", name,
                  entry.item_id.text());
    }
    if (!is_known) continue;
    if (entry.length == 0 || entry.length > vhdx::kMaximumMetadataItemBytes || entry.offset < vhdx::kMetadataTableBytes ||
        entry.offset > region.length || entry.length > region.length - entry.offset) {
      return fail(ErrorCode::kCorrupt, "{}: the metadata item {} lies at {:#x}+{:#x}, outside its region", name,
                  entry.item_id.text(), entry.offset.value(), entry.length.value());
    }
    if (!items.emplace(entry.item_id, Item{region.offset + entry.offset, entry.length}).second) {
      return fail(ErrorCode::kCorrupt, "{} has the metadata item {} twice", name, entry.item_id.text());
    }
  }
  BYGONE_CHECK(check_items_are_apart(items, name));
  return items;
}

template <typename T>
Result<T> read_item(const Items& items, const Guid& id, const MetadataReader& read, const std::string& what) {
  const auto found = items.find(id);
  if (found == items.end()) return fail(ErrorCode::kCorrupt, "the metadata lacks {}", what);
  if (found->second.length != sizeof(T)) return fail(ErrorCode::kCorrupt, "the metadata's {} has a wrong length", what);
  T value;
  BYGONE_CHECK(read(found->second.offset, writable_bytes_of(value)));
  return value;
}

std::u16string utf16_at(std::span<const std::byte> bytes) {
  std::u16string text(bytes.size() / 2, u'\0');
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char16_t>(std::to_integer<unsigned>(bytes[2 * i]) |
                                    std::to_integer<unsigned>(bytes[2 * i + 1]) << 8);
  }
  return text;
}

void append_utf16(std::vector<std::byte>& bytes, const std::string& text) {
  for (const char16_t unit : to_utf16(text)) {
    bytes.push_back(static_cast<std::byte>(unit & 0xFF));
    bytes.push_back(static_cast<std::byte>(unit >> 8));
  }
}

}  // namespace

std::uint64_t VhdxMetadata::bat_entry_count() const {
  const std::uint64_t blocks = block_count();
  const std::uint64_t ratio = chunk_ratio();
  if (blocks == 0) return 0;
  return has_parent ? (blocks + ratio - 1) / ratio * (ratio + 1) : blocks + (blocks - 1) / ratio;
}

Result<void> check_vhdx_metadata(const VhdxMetadata& metadata) {
  if (metadata.logical_sector_bytes != 512 && metadata.logical_sector_bytes != 4096) {
    return fail(ErrorCode::kInvalidArgument, "logical sectors have 512 or 4096 bytes, not {}", metadata.logical_sector_bytes);
  }
  if (metadata.physical_sector_bytes != 512 && metadata.physical_sector_bytes != 4096) {
    return fail(ErrorCode::kInvalidArgument, "physical sectors have 512 or 4096 bytes, not {}", metadata.physical_sector_bytes);
  }
  if (!std::has_single_bit(metadata.block_bytes) || metadata.block_bytes < vhdx::kMinimumBlockBytes ||
      metadata.block_bytes > vhdx::kMaximumBlockBytes) {
    return fail(ErrorCode::kInvalidArgument, "blocks have a power of two between 1 and 256 MiB, not {} bytes", metadata.block_bytes);
  }
  if (metadata.size_bytes == 0 || metadata.size_bytes > vhdx::kMaximumDiskBytes ||
      metadata.size_bytes % metadata.logical_sector_bytes != 0) {
    return fail(ErrorCode::kInvalidArgument, "a VHDX disk has whole sectors up to 64 TiB, not {} bytes", metadata.size_bytes);
  }
  return {};
}

Result<VhdxMetadata> read_vhdx_metadata(const VhdxRegion& region, const MetadataReader& read, const std::string& name) {
  const auto named = [&name](Error error) { return std::unexpected(std::move(error).within(name)); };
  BYGONE_ASSIGN(const Items items, read_items(region, read, name));
  const auto parameters = read_item<vhdx::FileParameters>(items, vhdx::kFileParametersItem, read, "file parameters");
  if (!parameters) return named(parameters.error());
  const auto size = read_item<le64>(items, vhdx::kVirtualDiskSizeItem, read, "disk size");
  if (!size) return named(size.error());
  const auto id = read_item<Guid>(items, vhdx::kVirtualDiskIdItem, read, "disk id");
  if (!id) return named(id.error());
  const auto logical = read_item<le32>(items, vhdx::kLogicalSectorSizeItem, read, "logical sector size");
  if (!logical) return named(logical.error());
  const auto physical = read_item<le32>(items, vhdx::kPhysicalSectorSizeItem, read, "physical sector size");
  if (!physical) return named(physical.error());

  VhdxMetadata metadata;
  metadata.block_bytes = parameters->block_size;
  metadata.leaves_blocks_allocated = (parameters->flags & vhdx::kLeaveBlocksAllocated) != 0;
  metadata.has_parent = (parameters->flags & vhdx::kHasParent) != 0;
  metadata.size_bytes = *size;
  metadata.disk_id = *id;
  metadata.logical_sector_bytes = *logical;
  metadata.physical_sector_bytes = *physical;
  metadata.size_item_offset = items.at(vhdx::kVirtualDiskSizeItem).offset;
  if (Result<void> checked = check_vhdx_metadata(metadata); !checked) {
    checked.error().code = ErrorCode::kCorrupt;
    return named(checked.error());
  }
  if (metadata.has_parent) {
    const auto item = items.find(vhdx::kParentLocatorItem);
    if (item == items.end()) return fail(ErrorCode::kCorrupt, "{} has a parent and does not say which", name);
    std::vector<std::byte> bytes(item->second.length);
    BYGONE_CHECK(read(item->second.offset, bytes));
    auto parent = parse_vhdx_parent_locator(bytes);
    if (!parent) return named(parent.error());
    metadata.parent = *std::move(parent);
    const auto linkage = metadata.parent.find("parent_linkage");  // 2.6.2.6.3: always there
    if (linkage == metadata.parent.end()) return fail(ErrorCode::kCorrupt, "{}: the parent locator lacks parent_linkage", name);
    if (!Guid::parse(linkage->second)) {
      return fail(ErrorCode::kCorrupt, "{}: the parent locator's parent_linkage \"{}\" is no identity", name, linkage->second);
    }
  }
  return metadata;
}

Result<VhdxParentLocator> parse_vhdx_parent_locator(std::span<const std::byte> bytes) {
  vhdx::ParentLocatorHeader header;
  if (bytes.size() < sizeof header) return fail(ErrorCode::kCorrupt, "the parent locator is too short");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.locator_type != vhdx::kParentLocatorType) {
    return fail(ErrorCode::kUnsupported, "the parent locator is of the unknown type {}", header.locator_type.text());
  }
  VhdxParentLocator parent;
  for (std::size_t i = 0; i < header.key_value_count; ++i) {
    vhdx::ParentLocatorEntry entry;
    const std::size_t place = sizeof header + i * sizeof entry;
    if (place + sizeof entry > bytes.size()) return fail(ErrorCode::kCorrupt, "the parent locator's table is cut off");
    std::memcpy(&entry, bytes.data() + place, sizeof entry);
    const auto text = [&bytes](std::uint32_t offset, std::uint32_t length) -> Result<std::string> {
      if (offset == 0 || length == 0) return fail(ErrorCode::kCorrupt, "the parent locator has an empty text");
      if (length % 2 != 0 || offset > bytes.size() || length > bytes.size() - offset) {
        return fail(ErrorCode::kCorrupt, "a text of the parent locator lies outside it");
      }
      return to_utf8(utf16_at(bytes.subspan(offset, length)));
    };
    BYGONE_ASSIGN(std::string key, text(entry.key_offset, entry.key_length));
    BYGONE_ASSIGN(std::string value, text(entry.value_offset, entry.value_length));
    const auto [place_of_key, is_new] = parent.emplace(std::move(key), std::move(value));
    if (!is_new) return fail(ErrorCode::kCorrupt, "the parent locator has the key \"{}\" twice", place_of_key->first);
  }
  return parent;
}

std::vector<std::byte> make_vhdx_parent_locator(const VhdxParentLocator& parent) {
  vhdx::ParentLocatorHeader header = {};
  header.locator_type = vhdx::kParentLocatorType;
  header.key_value_count = static_cast<std::uint16_t>(parent.size());
  std::vector<std::byte> texts;
  const std::size_t table_bytes = sizeof header + parent.size() * sizeof(vhdx::ParentLocatorEntry);
  std::vector<vhdx::ParentLocatorEntry> entries;
  for (const auto& [key, value] : parent) {
    vhdx::ParentLocatorEntry entry = {};
    const std::size_t key_start = texts.size();
    append_utf16(texts, key);
    const std::size_t value_start = texts.size();
    append_utf16(texts, value);
    entry.key_offset = static_cast<std::uint32_t>(table_bytes + key_start);
    entry.value_offset = static_cast<std::uint32_t>(table_bytes + value_start);
    entry.key_length = static_cast<std::uint16_t>(value_start - key_start);
    entry.value_length = static_cast<std::uint16_t>(texts.size() - value_start);
    entries.push_back(entry);
  }
  std::vector<std::byte> bytes(table_bytes);
  std::memcpy(bytes.data(), &header, sizeof header);
  if (!entries.empty()) {
    std::memcpy(bytes.data() + sizeof header, entries.data(), entries.size() * sizeof(vhdx::ParentLocatorEntry));
  }
  bytes.insert(bytes.end(), texts.begin(), texts.end());
  return bytes;
}

std::vector<std::byte> make_vhdx_metadata(const VhdxMetadata& metadata) {
  std::vector<std::byte> items;
  std::vector<vhdx::MetadataTableEntry> entries;
  const auto add = [&](const Guid& id, std::span<const std::byte> value, std::uint32_t flags) {
    vhdx::MetadataTableEntry entry = {};
    entry.item_id = id;
    entry.offset = static_cast<std::uint32_t>(vhdx::kMetadataTableBytes + items.size());
    entry.length = static_cast<std::uint32_t>(value.size());
    entry.flags = flags | vhdx::kMetadataIsRequired;
    entries.push_back(entry);
    items.insert(items.end(), value.begin(), value.end());
    items.resize((items.size() + 7) / 8 * 8);
  };
  vhdx::FileParameters parameters;
  parameters.block_size = metadata.block_bytes;
  parameters.flags = (metadata.leaves_blocks_allocated ? vhdx::kLeaveBlocksAllocated : 0U) |
                     (metadata.has_parent ? vhdx::kHasParent : 0U);
  const le64 size = metadata.size_bytes;
  const le32 logical = metadata.logical_sector_bytes;
  const le32 physical = metadata.physical_sector_bytes;
  add(vhdx::kFileParametersItem, bytes_of(parameters), 0);
  add(vhdx::kVirtualDiskSizeItem, bytes_of(size), vhdx::kMetadataIsVirtualDisk);
  add(vhdx::kVirtualDiskIdItem, bytes_of(metadata.disk_id), vhdx::kMetadataIsVirtualDisk);
  add(vhdx::kLogicalSectorSizeItem, bytes_of(logical), vhdx::kMetadataIsVirtualDisk);
  add(vhdx::kPhysicalSectorSizeItem, bytes_of(physical), vhdx::kMetadataIsVirtualDisk);
  if (metadata.has_parent) add(vhdx::kParentLocatorItem, make_vhdx_parent_locator(metadata.parent), 0);

  std::vector<std::byte> bytes(vhdx::kMetadataTableBytes);
  vhdx::MetadataTableHeader header = {};
  header.signature = vhdx::kMetadataSignature;
  header.entry_count = static_cast<std::uint16_t>(entries.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, entries.data(), entries.size() * sizeof(vhdx::MetadataTableEntry));
  bytes.insert(bytes.end(), items.begin(), items.end());
  return bytes;
}

}  // namespace bygone::disk
