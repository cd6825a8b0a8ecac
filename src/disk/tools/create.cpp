#include "disk/tools/create.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include "disk/host_file.h"
#include "disk/parent_path.h"
#include "disk/vhdx/vhdx_create.h"

namespace bygone::disk {
namespace {

constexpr std::uint32_t kDynamicBlockBytes = 32U << 20;
constexpr std::uint32_t kDifferencingBlockBytes = 2U << 20;

struct ParentFacts {
  BlockDeviceInfo info;
  Guid identity;
  DiskFormat format = DiskFormat::kVhdx;
};

Result<ParentFacts> look_at_parent(const std::string& path) {
  OpenOptions options;
  options.read_only = true;
  options.io = IoBackend::Kind::kThreads;
  BYGONE_ASSIGN(const OpenedImage parent, open_layout(path, options));
  if (parent.format != DiskFormat::kVhdx && parent.format != DiskFormat::kVhd) {
    return std::unexpected(Error{ErrorCode::kUnsupported, fmt::format("{} can't be a parent: it carries no identity", path),
                                 fmt::format("Make it a VHDX first: bygone disk convert {} base.vhdx", path)});
  }
  return ParentFacts{parent.layout->info(), parent.layout->link_identity(), parent.format};
}

Result<void> fill_vhdx(File& file, const std::string& path, const CreateOptions& options, const ParentFacts& parent) {
  const bool is_child = options.kind == DiskKind::kDifferencing;
  VhdxMetadata metadata;
  metadata.size_bytes = options.size_bytes;
  metadata.block_bytes = options.block_bytes != 0 ? options.block_bytes : is_child ? kDifferencingBlockBytes : kDynamicBlockBytes;
  metadata.leaves_blocks_allocated = options.kind == DiskKind::kFixed;
  metadata.has_parent = is_child;
  metadata.disk_id = options.disk_id.is_zero() ? Guid::random() : options.disk_id;
  metadata.logical_sector_bytes = options.logical_sector_bytes;
  metadata.physical_sector_bytes = options.physical_sector_bytes;
  if (is_child) metadata.parent = vhdx_parent_locator(path, options.parent, parent.identity);
  return create_vhdx(file, metadata, options.link_identity);
}

Result<void> fill_vhd(File& file, const std::string& path, const CreateOptions& options, const ParentFacts& parent) {
  if (options.logical_sector_bytes != spec::vhd::kSectorBytes) {
    return fail(ErrorCode::kInvalidArgument, "a VHD disk has sectors of 512 bytes");
  }
  VhdParameters parameters;
  parameters.size_bytes = options.size_bytes;
  if (options.block_bytes != 0) parameters.block_bytes = options.block_bytes;
  parameters.unique_id = options.disk_id;
  parameters.type = options.kind == DiskKind::kFixed          ? spec::vhd::DiskType::kFixed
                    : options.kind == DiskKind::kDifferencing ? spec::vhd::DiskType::kDifferencing
                                                              : spec::vhd::DiskType::kDynamic;
  if (options.kind == DiskKind::kDifferencing) parameters.parent = vhd_parent(path, options.parent, parent.identity);
  return create_vhd(file, parameters);
}

Result<void> fill_raw(File& file, const CreateOptions& options) {
  if (options.kind == DiskKind::kDifferencing) return fail(ErrorCode::kUnsupported, "a raw image can't have a parent");
  if (options.size_bytes == 0 || options.size_bytes % 512 != 0) {
    return fail(ErrorCode::kInvalidArgument, "a disk has whole sectors, not {} bytes", options.size_bytes);
  }
  BYGONE_CHECK(file.resize(options.size_bytes));
  if (options.kind == DiskKind::kFixed) BYGONE_CHECK(file.allocate(0, options.size_bytes));
  return file.flush();
}

}  // namespace

VhdxParentLocator vhdx_parent_locator(const std::string& child, const std::string& parent, const Guid& identity) {
  return {{"parent_linkage", "{" + identity.text() + "}"},
          {"relative_path", windows_relative_path(child, parent)},
          {"absolute_win32_path", absolute_parent_path(parent)}};
}

VhdParent vhd_parent(const std::string& child, const std::string& parent, const Guid& identity) {
  VhdParent result;
  result.unique_id = identity;
  struct stat status = {};
  if (::stat(parent.c_str(), &status) == 0) {
    result.time_stamp = static_cast<std::uint32_t>(status.st_mtime - spec::vhd::kEpochUnixSeconds);
  }
  result.name = std::filesystem::path(parent).filename().string();
  result.relative_path = windows_relative_path(child, parent);
  result.absolute_path = absolute_parent_path(parent);
  return result;
}

Result<void> create_disk(const std::string& path, const CreateOptions& requested) {
  CreateOptions options = requested;
  ParentFacts parent;
  if (options.kind == DiskKind::kDifferencing) {
    BYGONE_ASSIGN(parent, look_at_parent(options.parent));
    if (parent.format != options.format) {
      return fail(ErrorCode::kInvalidArgument, "{} is a {} image; its child has to be one too", options.parent,
                  to_string(parent.format));
    }
    if (options.size_bytes == 0) options.size_bytes = parent.info.size_bytes;
    if (options.size_bytes < parent.info.size_bytes) {
      return fail(ErrorCode::kInvalidArgument, "a child can't be smaller than its parent ({} bytes)", parent.info.size_bytes);
    }
    options.logical_sector_bytes = parent.info.logical_sector_bytes;
    options.physical_sector_bytes = std::max(parent.info.physical_sector_bytes, parent.info.logical_sector_bytes);
  }
  HostFileOptions file_options;
  file_options.is_created = true;
  BYGONE_ASSIGN(const std::unique_ptr<File> file, open_host_file(path, file_options, create_thread_backend()));
  Result<void> result;
  switch (options.format) {
    case DiskFormat::kVhdx: result = fill_vhdx(*file, path, options, parent); break;
    case DiskFormat::kVhd: result = fill_vhd(*file, path, options, parent); break;
    case DiskFormat::kRaw: result = fill_raw(*file, options); break;
    case DiskFormat::kDvd: result = fail(ErrorCode::kUnsupported, "DVD images are not made here"); break;
  }
  if (!result) {
    ::unlink(path.c_str());
    return std::unexpected(std::move(result).error().within("creating " + path));
  }
  return {};
}

Result<DiskFormat> format_of_name(const std::string& path) {
  std::string ending = std::filesystem::path(path).extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (ending == ".vhdx" || ending == ".avhdx") return DiskFormat::kVhdx;
  if (ending == ".vhd" || ending == ".avhd") return DiskFormat::kVhd;
  if (ending == ".img" || ending == ".raw") return DiskFormat::kRaw;
  return std::unexpected(Error{ErrorCode::kInvalidArgument, fmt::format("the name {} does not tell the format", path),
                               "End it in .vhdx, .vhd, .img or .raw, or say --format"});
}

Result<std::uint64_t> parse_size(std::string_view text) {
  double number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit;
  for (const char* c = end; c != text.data() + text.size(); ++c) {
    if (*c != ' ') unit += static_cast<char>(std::toupper(static_cast<unsigned char>(*c)));
  }
  if (unit.ends_with("IB")) {
    unit.resize(unit.size() - 2);
  } else if (unit.ends_with("B")) {
    unit.resize(unit.size() - 1);
  }
  static constexpr std::array<std::string_view, 5> kUnits = {"", "K", "M", "G", "T"};
  const auto found = std::ranges::find(kUnits, unit);
  if (status != std::errc() || found == kUnits.end() || number <= 0) {
    return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a size; write it like 40G, 512M or 1048576", text);
  }
  for (auto step = kUnits.begin(); step != found; ++step) number *= 1024;
  if (number >= 9.0e18) return fail(ErrorCode::kOutOfRange, "{} is more than any disk holds", text);
  return static_cast<std::uint64_t>(number);
}

std::string size_text(std::uint64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  auto value = static_cast<double>(bytes);
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::string number = fmt::format("{:.2f}", value);
  number.erase(number.find_last_not_of('0') + 1);
  if (number.ends_with('.')) number.pop_back();
  return fmt::format("{} {}", number, kUnits[unit]);
}

}  // namespace bygone::disk
