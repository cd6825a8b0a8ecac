// The structures of a VHD file, read and made. Threading: pure functions but for the file they read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "disk/file.h"
#include "spec/vhd/vhd.h"

namespace bygone::disk {

/// The cylinders, heads and sectors that the specification's appendix computes for a disk of that many sectors.
[[nodiscard]] spec::vhd::Geometry vhd_geometry(std::uint64_t sectors);

/// The one's complement of the sum of all bytes but the checksum itself.
[[nodiscard]] std::uint32_t vhd_checksum(spec::vhd::Footer footer);
[[nodiscard]] std::uint32_t vhd_checksum(spec::vhd::DynamicHeader header);

struct VhdFooter {
  spec::vhd::Footer wire;
  std::uint64_t offset = 0;       ///< where the file's last structure is, or should be
  bool is_end_damaged = false;    ///< the copy at the start of the file was taken
  bool is_start_damaged = false;  ///< of a dynamic disk: the copy at the start is not like the footer
};

/// Errors: kCorrupt, kUnsupported (a version or a kind that we don't know).
[[nodiscard]] Result<VhdFooter> read_vhd_footer(File& file);
[[nodiscard]] Result<spec::vhd::DynamicHeader> read_vhd_dynamic_header(File& file, const spec::vhd::Footer& footer);

/// A footer with fresh checksum; `unique_id` random when zero.
[[nodiscard]] spec::vhd::Footer make_vhd_footer(std::uint64_t size_bytes, spec::vhd::DiskType type, const Guid& unique_id);

/// What a differencing image says about its parent.
struct VhdParent {
  Guid unique_id;
  std::uint32_t time_stamp = 0;
  std::string name;           ///< the file's bare name
  std::string relative_path;  ///< as Windows writes it
  std::string absolute_path;
};

[[nodiscard]] Result<VhdParent> read_vhd_parent(File& file, const spec::vhd::DynamicHeader& header);

struct VhdParameters {
  std::uint64_t size_bytes = 0;
  std::uint32_t block_bytes = spec::vhd::kDefaultBlockBytes;
  spec::vhd::DiskType type = spec::vhd::DiskType::kDynamic;
  Guid unique_id;  ///< random when zero
  std::optional<VhdParent> parent;
};

/// Writes an image without content into the empty `file`, durably; a fixed one reserves the host's space.
/// Errors: kInvalidArgument, kNoSpace, kIo.
[[nodiscard]] Result<void> create_vhd(File& file, const VhdParameters& parameters);

/// Puts `parent` into the dynamic header and its locators, whose space is `locator_offset` on (two times 4 KiB).
void set_vhd_parent(spec::vhd::DynamicHeader& header, const VhdParent& parent, std::uint64_t locator_offset,
                    std::vector<std::byte>& locators);
constexpr std::size_t kVhdLocatorBytes = 4096;

}  // namespace bygone::disk
