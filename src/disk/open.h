// Opening a disk: one function that recognises the format, finds the parents of differencing images and gives a BlockDevice.
//
//   file → format by signature → layout → (its parent, and so on) → devices from the oldest ancestor to the leaf
// Threading: any thread. The device must not be destroyed from a completion.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "disk/block_device.h"
#include "disk/image_device.h"
#include "disk/io_backend.h"

namespace bygone::disk {

enum class DiskFormat { kRaw, kDvd, kVhd, kVhdx };
[[nodiscard]] std::string_view to_string(DiskFormat format);

struct OpenOptions {
  bool read_only = false;
  /// Past the host's page cache where the file system and the request's alignment allow it.
  bool bypasses_cache = false;
  /// Empty: recognised. A machine should say what its disks are: a guest that owns a raw disk can write any signature into it.
  /// (Files that are called .img or .raw are never taken for anything else.)
  std::optional<DiskFormat> format;
  IoBackend::Kind io = IoBackend::Kind::kAutomatic;
  /// Shared by several disks; one is made when it is null.
  std::shared_ptr<IoBackend> backend;
  /// For looking at an image while a machine uses it.
  bool ignores_lock = false;
  /// False: a differencing image opens without its parent, and reads of what it lacks fail.
  bool opens_parents = true;
};

/// An image's file and layout, before they become a device.
struct OpenedImage {
  std::unique_ptr<File> file;
  std::unique_ptr<ImageLayout> layout;
  DiskFormat format = DiskFormat::kRaw;
};
[[nodiscard]] Result<OpenedImage> open_layout(const std::string& path, const OpenOptions& options = {});

/// Errors: kNotFound (also: a parent, named), kCorrupt, kUnsupported, kPermissionDenied, kBusy (open elsewhere).
[[nodiscard]] Result<std::unique_ptr<BlockDevice>> open_disk(const std::string& path, const OpenOptions& options = {});

/// The same with its insides, for tools.
[[nodiscard]] Result<std::unique_ptr<ImageDevice>> open_image(const std::string& path, const OpenOptions& options = {});
/// The image in an open file; `name` is what `file` is called in messages and where parents are looked for.
[[nodiscard]] Result<std::unique_ptr<ImageDevice>> open_image_file(std::unique_ptr<File> file, const OpenOptions& options = {});

[[nodiscard]] Result<DiskFormat> recognise_format(File& file);

/// The path of a differencing image's parent: the first that exists and carries the right identity. Errors: kNotFound.
[[nodiscard]] Result<std::string> find_parent(const std::string& child, const ImageLayout& layout);

}  // namespace bygone::disk
