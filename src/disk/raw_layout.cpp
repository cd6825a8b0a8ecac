#include "disk/raw_layout.h"

namespace bygone::disk {

RawLayout::RawLayout(std::uint64_t file_bytes, std::uint32_t sector_bytes, bool is_read_only, bool is_dvd) : is_dvd_(is_dvd) {
  info_.size_bytes = (file_bytes + sector_bytes - 1) / sector_bytes * sector_bytes;
  info_.logical_sector_bytes = sector_bytes;
  info_.physical_sector_bytes = is_dvd ? sector_bytes : 4096;
  info_.optimal_unmap_bytes = is_dvd || is_read_only ? 0 : 4096;
  info_.is_read_only = is_read_only || is_dvd;
  info_.reads_zero_after_unmap = !info_.is_read_only;
}

Result<Extent> RawLayout::find(std::uint64_t offset, std::uint64_t length) {
  return Extent{Extent::Kind::kFile, length, offset};
}

Result<WriteTarget> RawLayout::prepare_write(std::uint64_t offset, std::uint64_t length) {
  return WriteTarget{length, offset, false};
}

Result<ZeroTarget> RawLayout::prepare_zero(std::uint64_t offset, std::uint64_t length, bool is_hint, bool /*is_in_use*/) {
  return ZeroTarget{is_hint ? ZeroTarget::Action::kDiscardFile : ZeroTarget::Action::kZeroFile, length, offset, false};
}

}  // namespace bygone::disk
