// The first MiB of a VHDX file: its two headers and two region tables ([MS-VHDX] 2.2). Threading: values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "disk/file.h"
#include "spec/vhdx/vhdx.h"

namespace bygone::disk {

/// The header that counts: of the two, the valid one with the higher sequence number.
struct VhdxHeader {
  std::uint64_t sequence_number = 0;
  Guid file_write_guid;
  Guid data_write_guid;
  Guid log_guid;  ///< zero: the log is empty
  std::uint64_t log_offset = 0;
  std::uint32_t log_length = 0;
  std::size_t slot = 0;                     ///< which of the two
  std::array<bool, 2> is_valid = {};        ///< what the two were when they were read
};

/// Errors: kCorrupt (no signature, both headers damaged, a log outside the file), kUnsupported (another version).
[[nodiscard]] Result<VhdxHeader> read_vhdx_header(File& file);

/// Makes `header` the current one: writes it twice, in turn to both slots, so that both carry it and a power cut leaves one whole.
[[nodiscard]] Result<void> write_vhdx_header(File& file, VhdxHeader& header);

struct VhdxRegion {
  Guid guid;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  bool is_required = false;
};

struct VhdxRegions {
  VhdxRegion bat;
  VhdxRegion metadata;
  std::vector<VhdxRegion> others;  ///< optional ones that we don't know; their space is kept
  std::array<bool, 2> is_valid = {};
};

/// Reads bytes of the file as they are after the log's replay.
using MetadataReader = std::function<Result<void>(std::uint64_t offset, std::span<std::byte> into)>;

/// Errors: kCorrupt, kUnsupported (a required region that we don't know, named).
[[nodiscard]] Result<VhdxRegions> read_vhdx_regions(File& file, const MetadataReader& read);

/// One 64 KiB region table.
[[nodiscard]] std::vector<std::byte> make_vhdx_region_table(const VhdxRegions& regions);
[[nodiscard]] Result<void> write_vhdx_identifier(File& file);

}  // namespace bygone::disk
