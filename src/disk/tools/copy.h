// Copying the content of one disk to another: several requests in flight, what reads as zero is left out.
#pragma once

#include "disk/image_device.h"
#include "disk/tools/progress.h"

namespace bygone::disk {

/// A run of a disk and what is in it, seen through the whole chain.
struct DiskRun {
  std::uint64_t length = 0;
  bool is_zero = false;           ///< certainly; a run that isn't may still hold zeros
  std::uint32_t depth = 0;        ///< 0: the image itself, 1: its parent…
  std::uint64_t file_offset = 0;  ///< when not zero
  ImageDevice* image = nullptr;
};
[[nodiscard]] Result<DiskRun> run_at(ImageDevice& device, std::uint64_t offset, std::uint64_t length);

enum class CopyWhat {
  kContent,   ///< what the disk reads as, onto a target that reads as zero
  kOwnLayer,  ///< only what the image itself holds, zeros included, onto a target that may hold anything
};

/// The target is as large as the source or larger. Flushes the target at the end.
[[nodiscard]] Result<void> copy_disk(ImageDevice& source, BlockDevice& target, CopyWhat what, const Progress& progress);

}  // namespace bygone::disk
