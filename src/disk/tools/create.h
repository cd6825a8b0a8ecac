// Making images.
#pragma once

#include <optional>
#include <string>

#include "disk/open.h"
#include "disk/vhd/vhd_format.h"
#include "disk/vhdx/vhdx_metadata.h"

namespace bygone::disk {

enum class DiskKind { kDynamic, kFixed, kDifferencing };

struct CreateOptions {
  DiskFormat format = DiskFormat::kVhdx;
  DiskKind kind = DiskKind::kDynamic;
  std::uint64_t size_bytes = 0;  ///< differencing: 0 means the parent's
  std::uint32_t block_bytes = 0;  ///< 0: what suits the kind
  std::uint32_t logical_sector_bytes = 512;
  std::uint32_t physical_sector_bytes = 4096;
  std::string parent;  ///< differencing
  Guid disk_id;        ///< random when zero
  Guid link_identity;  ///< VHDX: what children find the image by; random when zero
};

/// Makes the file, which must not exist; removes it again when that fails.
/// Errors: kAlreadyExists, kInvalidArgument, kNoSpace, what opening the parent says.
[[nodiscard]] Result<void> create_disk(const std::string& path, const CreateOptions& options);

/// By the name's ending: .vhdx, .vhd, .img or .raw.
[[nodiscard]] Result<DiskFormat> format_of_name(const std::string& path);

/// "40G", "512 MiB", "1.5T", "1048576": units are powers of 1024. Errors: kInvalidArgument.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);
/// "40 GiB", "1.5 MiB", "512 bytes"
[[nodiscard]] std::string size_text(std::uint64_t bytes);

/// What a differencing image at `child` says about its parent at `parent`.
[[nodiscard]] VhdxParentLocator vhdx_parent_locator(const std::string& child, const std::string& parent, const Guid& identity);
[[nodiscard]] VhdParent vhd_parent(const std::string& child, const std::string& parent, const Guid& identity);

}  // namespace bygone::disk
