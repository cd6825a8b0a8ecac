// Looking at images: what they are, whether they are sound, where their bytes are.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "disk/open.h"
#include "disk/tools/progress.h"

namespace bygone::disk {

struct ImageFacts {
  std::string path;
  DiskFormat format = DiskFormat::kRaw;
  std::string kind;
  BlockDeviceInfo info;
  std::uint64_t file_bytes = 0;
  std::uint64_t host_bytes = 0;   ///< what the file takes of the host's disk
  std::uint64_t block_bytes = 0;  ///< 0: none
  Guid link_identity;
  std::optional<std::string> parent_path;  ///< where it is, or where it was looked for
  bool is_parent_missing = false;
  bool was_closed_in_order = true;
};
/// The image and its ancestors, the leaf first; ends at a missing parent.
[[nodiscard]] Result<std::vector<ImageFacts>> describe_chain(const std::string& path);

struct Finding {
  enum class Level { kNote, kDamage };
  Level level = Level::kDamage;
  std::string text;
  bool is_repaired = false;
};
/// Checks one image (not its parents). With `repairs`, what has a sound copy is restored and a log is replayed or dropped.
[[nodiscard]] Result<std::vector<Finding>> check_image(const std::string& path, bool repairs, const Progress& progress);

/// The same for an open layout; what `repairs` writes is durable after its close().
[[nodiscard]] Result<std::vector<Finding>> check_layout(ImageLayout& layout, bool repairs, const Progress& progress);

struct MapEntry {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool is_zero = false;
  std::uint32_t depth = 0;
  std::string file;
  std::uint64_t file_offset = 0;
};
/// Where the disk's bytes are, neighbours joined.
[[nodiscard]] Result<std::vector<MapEntry>> map_disk(const std::string& path, const Progress& progress);

}  // namespace bygone::disk
