// INQUIRY answers: who a device is and what it can do.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "devices/storage/scsi_target.h"
#include "disk/block_device.h"
#include "support/guid.h"

namespace bygone::devices::storage {

/// What one WRITE SAME may write of a pattern; of zeroes it may be more.
inline constexpr std::uint64_t kMaximumSameBytes = std::uint64_t{64} << 20;

struct InquiryProperties {
  std::uint8_t device_type = spec::scsi::kTypeDisk;
  const char* product = "Virtual Disk";
  Guid identity;  ///< zero: no serial number, no identification beyond the vendor
  /// Disks: what the block pages say.
  std::optional<disk::BlockDeviceInfo> blocks;
};

/// Answers an INQUIRY command, standard data or vital product data.
[[nodiscard]] ScsiOutcome inquire(const ScsiCommand& command, const InquiryProperties& properties);
/// The answer for a LUN that has nothing behind it.
[[nodiscard]] ScsiOutcome inquire_missing(const ScsiCommand& command);

}  // namespace bygone::devices::storage
