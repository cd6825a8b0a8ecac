// A raw image: the disk's bytes and nothing else. ISO 9660 and UDF media are the same with 2048-byte sectors, never written.
#pragma once

#include "disk/image_layout.h"

namespace bygone::disk {

class RawLayout final : public ImageLayout {
 public:
  /// A tail that doesn't fill a sector reads as if zeros followed.
  RawLayout(std::uint64_t file_bytes, std::uint32_t sector_bytes, bool is_read_only, bool is_dvd);

  [[nodiscard]] BlockDeviceInfo info() const override { return info_; }
  [[nodiscard]] std::string_view kind() const override { return is_dvd_ ? "DVD image" : "raw"; }
  [[nodiscard]] Result<Extent> find(std::uint64_t offset, std::uint64_t length) override;
  [[nodiscard]] Result<WriteTarget> prepare_write(std::uint64_t offset, std::uint64_t length) override;
  [[nodiscard]] Result<ZeroTarget> prepare_zero(std::uint64_t offset, std::uint64_t length, bool is_hint,
                                                bool is_in_use) override;

 private:
  BlockDeviceInfo info_;
  bool is_dvd_;
};

}  // namespace bygone::disk
