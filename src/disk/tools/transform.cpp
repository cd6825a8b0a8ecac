#include "disk/tools/transform.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>

#include "disk/tools/copy.h"
#include "disk/tools/file_marks.h"
#include "disk/vhd/vhd_layout.h"
#include "disk/vhdx/vhdx_layout.h"
#include "support/unique_fd.h"

namespace bygone::disk {
namespace {

/// A file that goes away unless it is kept.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& target)
      : path_((std::filesystem::path(target).parent_path() /
               fmt::format(".{}.{}.partial", std::filesystem::path(target).filename().string(), Guid::random().text().substr(0, 8)))
                  .string()) {}
  ~TemporaryFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  /// Gives the file its name, durably.
  Result<void> become(const std::string& target, bool replaces) {
    const int flags = replaces ? 0 : RENAME_NOREPLACE;
    if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target.c_str(), static_cast<unsigned>(flags)) != 0) {
      return fail_errno(errno, fmt::format("naming the finished image {}", target));
    }
    path_.clear();
    std::string folder = std::filesystem::path(target).parent_path().string();
    const UniqueFd directory(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory || ::fsync(directory.get()) != 0) return fail_errno(errno, "making the name " + target + " durable");
    return {};
  }

 private:
  std::string path_;
};

Result<void> refuse_existing(const std::string& target, bool replaces) {
  std::error_code ignored;
  if (replaces || !std::filesystem::exists(std::filesystem::symlink_status(target, ignored))) return {};
  return std::unexpected(Error{ErrorCode::kAlreadyExists, fmt::format("{} is there already", target), "Say --force to replace it"});
}

Result<std::unique_ptr<ImageDevice>> open_new(const std::string& path, DiskFormat format, const std::shared_ptr<IoBackend>& backend,
                                              bool opens_parents) {
  OpenOptions options;
  options.format = format;
  options.backend = backend;
  options.bypasses_cache = true;
  options.opens_parents = opens_parents;
  return open_image(path, options);
}

/// What an image has to be made with to be like `image`.
CreateOptions options_like(const OpenedImage& image, const std::string& path) {
  CreateOptions options;
  options.format = image.format;
  const BlockDeviceInfo info = image.layout->info();
  options.size_bytes = info.size_bytes;
  options.disk_id = info.identity;
  options.link_identity = image.layout->link_identity();
  options.logical_sector_bytes = info.logical_sector_bytes;
  options.physical_sector_bytes = info.physical_sector_bytes;
  if (const auto* vhdx = dynamic_cast<VhdxLayout*>(image.layout.get())) {
    options.block_bytes = vhdx->metadata().block_bytes;
    options.kind = vhdx->metadata().leaves_blocks_allocated ? DiskKind::kFixed
                   : vhdx->metadata().has_parent            ? DiskKind::kDifferencing
                                                            : DiskKind::kDynamic;
  } else if (const auto* vhd = dynamic_cast<VhdLayout*>(image.layout.get())) {
    options.block_bytes = static_cast<std::uint32_t>(vhd->allocation_bytes());
    options.kind = vhd->is_fixed() ? DiskKind::kFixed : vhd->has_parent() ? DiskKind::kDifferencing : DiskKind::kDynamic;
  }
  if (options.kind == DiskKind::kDifferencing) {
    if (const Result<std::string> parent = find_parent(path, *image.layout)) options.parent = *parent;
  }
  return options;
}

/// A VHD child that lives on knows the date that the merge left its parent with.
Result<void> remember_parent_date(ImageDevice& child, const std::string& parent_path) {
  auto* vhd = dynamic_cast<VhdLayout*>(&child.layout());
  if (vhd == nullptr) return {};
  VhdParent parent = vhd->parent_description();
  parent.time_stamp = vhd_parent(child.file().name(), parent_path, parent.unique_id).time_stamp;
  return vhd->set_parent(parent);
}

}  // namespace

Result<void> announce_merge(ImageDevice& child) {
  if (auto* vhdx = dynamic_cast<VhdxLayout*>(&child.layout())) {
    VhdxParentLocator locator = vhdx->metadata().parent;
    locator["parent_linkage2"] = "{" + vhdx->link_identity().text() + "}";
    return vhdx->set_parent(locator);
  }
  if (auto* vhd = dynamic_cast<VhdLayout*>(&child.layout())) {
    VhdParent parent = vhd->parent_description();
    parent.time_stamp = 0;  // not known
    return vhd->set_parent(parent);
  }
  return {};
}

Result<void> punch_zeros(ImageDevice& image, const Progress& progress) {
  ImageDevice* const device = &image;
  const std::uint64_t size = device->info().size_bytes;
  std::vector<std::byte> buffer(1U << 20);
  for (std::uint64_t offset = 0; offset < size;) {
    BYGONE_ASSIGN(const DiskRun run, run_at(*device, offset, std::min<std::uint64_t>(buffer.size(), size - offset)));
    const std::span<std::byte> part = std::span(buffer).first(run.length);
    if (!run.is_zero) {
      BYGONE_CHECK(read_blocks(*device, offset, part));
      const bool is_zero = std::ranges::all_of(part, [](std::byte byte) { return byte == std::byte{0}; });
      if (is_zero) BYGONE_CHECK(device->file().discard(run.file_offset, run.length));
    }
    offset += run.length;
    BYGONE_CHECK(progress.step(offset, size));
  }
  return device->close();
}

Result<void> fill_compacted(ImageDevice& source, ImageDevice& copy, const Progress& progress) {
  const bool has_parent = source.layout().parent().has_value();
  if (auto* vhdx = dynamic_cast<VhdxLayout*>(&copy.layout())) {
    vhdx->keep_data_write_guid();
    BYGONE_CHECK(vhdx->adopt_regions(dynamic_cast<VhdxLayout&>(source.layout())));
  } else if (auto* vhd = dynamic_cast<VhdLayout*>(&copy.layout()); vhd != nullptr && has_parent) {
    BYGONE_CHECK(vhd->set_parent(dynamic_cast<VhdLayout&>(source.layout()).parent_description()));
  }
  BYGONE_CHECK(copy_disk(source, copy, has_parent ? CopyWhat::kOwnLayer : CopyWhat::kContent, progress));
  return copy.close();
}

Result<void> convert_disk(const std::string& source_path, const std::string& target, const CreateOptions& requested, bool replaces,
                          const Progress& progress) {
  BYGONE_CHECK(refuse_existing(target, replaces));
  BYGONE_ASSIGN(const std::shared_ptr<IoBackend> backend, IoBackend::create());
  OpenOptions source_options;
  source_options.read_only = true;
  source_options.backend = backend;
  BYGONE_ASSIGN(const std::unique_ptr<ImageDevice> source, open_image(source_path, source_options));
  CreateOptions options = requested;
  const BlockDeviceInfo info = source->info();
  if (options.size_bytes == 0) options.size_bytes = (info.size_bytes + 511) / 512 * 512;
  if (options.size_bytes < info.size_bytes) {
    return fail(ErrorCode::kInvalidArgument, "{} has {} bytes and the target only {}", source_path, info.size_bytes, options.size_bytes);
  }
  if (info.logical_sector_bytes == 512 || info.logical_sector_bytes == 4096) options.logical_sector_bytes = info.logical_sector_bytes;
  TemporaryFile temporary(target);
  BYGONE_CHECK(create_disk(temporary.path(), options));
  BYGONE_ASSIGN(std::unique_ptr<ImageDevice> copy, open_new(temporary.path(), options.format, backend, true));
  BYGONE_CHECK(copy_disk(*source, *copy, CopyWhat::kContent, progress));
  BYGONE_CHECK(copy->close());
  copy.reset();
  return temporary.become(target, replaces);
}

Result<void> compact_disk(const std::string& path, const Progress& progress) {
  BYGONE_ASSIGN(const std::shared_ptr<IoBackend> backend, IoBackend::create());
  OpenOptions options;
  options.backend = backend;
  CreateOptions like;
  BYGONE_ASSIGN(const FileMarks marks, FileMarks::of(path));
  {
    BYGONE_ASSIGN(const OpenedImage image, open_layout(path, options));
    like = options_like(image, path);
    if (image.layout->parent() && like.parent.empty()) BYGONE_CHECK(find_parent(path, *image.layout));
  }
  BYGONE_ASSIGN(std::unique_ptr<ImageDevice> source, open_image(path, options));
  if (like.format == DiskFormat::kRaw || like.kind == DiskKind::kFixed) {
    Result<void> punched = punch_zeros(*source, progress);
    source.reset();
    if (like.format != DiskFormat::kRaw) BYGONE_CHECK(marks.give_date_to(path));  // what it reads as has not changed
    return punched;
  }
  // The file itself when the path is a link to it.
  std::error_code ignored;
  const std::string place = std::filesystem::is_symlink(path, ignored) ? std::filesystem::canonical(path, ignored).string() : path;
  TemporaryFile temporary(place);
  BYGONE_CHECK(create_disk(temporary.path(), like));
  BYGONE_ASSIGN(std::unique_ptr<ImageDevice> copy, open_new(temporary.path(), like.format, backend, false));
  BYGONE_CHECK(fill_compacted(*source, *copy, progress));
  copy.reset();
  BYGONE_CHECK(marks.give_to(temporary.path()));
  // The source stays open, and locked, until its name is the copy's.
  return temporary.become(place, true);
}

Result<void> resize_disk(const std::string& path, std::uint64_t size_bytes, bool shrinks) {
  OpenOptions options;
  options.io = IoBackend::Kind::kThreads;
  BYGONE_ASSIGN(const OpenedImage image, open_layout(path, options));
  const std::uint64_t old_size = image.layout->info().size_bytes;
  if (size_bytes < old_size && !shrinks) {
    return std::unexpected(Error{ErrorCode::kInvalidArgument,
                                 fmt::format("{} has {} and would lose what lies behind {}", path, size_text(old_size), size_text(size_bytes)),
                                 "Make the file systems inside smaller first, then say --shrink"});
  }
  if (auto* vhdx = dynamic_cast<VhdxLayout*>(image.layout.get())) {
    BYGONE_CHECK(vhdx->resize(size_bytes));
  } else if (auto* vhd = dynamic_cast<VhdLayout*>(image.layout.get())) {
    BYGONE_CHECK(vhd->resize(size_bytes));
  } else if (image.format == DiskFormat::kRaw) {
    if (size_bytes % 512 != 0) return fail(ErrorCode::kInvalidArgument, "a disk has whole sectors, not {} bytes", size_bytes);
    BYGONE_CHECK(image.file->resize(size_bytes));
    BYGONE_CHECK(image.file->flush());
  } else {
    return fail(ErrorCode::kUnsupported, "{} is a DVD image, which keeps its size", path);
  }
  return image.layout->close();
}

Result<void> merge_disk(const std::string& child_path, const Progress& progress) {
  BYGONE_ASSIGN(const std::shared_ptr<IoBackend> backend, IoBackend::create());
  OpenOptions options;
  options.backend = backend;
  options.opens_parents = false;
  BYGONE_ASSIGN(const FileMarks child_marks, FileMarks::of(child_path));
  BYGONE_ASSIGN(std::unique_ptr<ImageDevice> child, open_image(child_path, options));
  BYGONE_ASSIGN(const std::string parent_path, find_parent(child_path, child->layout()));
  {
    // The chain as a reader opens it: says what is missing or changed before anything is written.
    OpenOptions checking = options;
    checking.read_only = true;
    checking.opens_parents = true;
    checking.ignores_lock = true;
    BYGONE_ASSIGN(const std::unique_ptr<ImageDevice> whole, open_image(child_path, checking));
  }
  BYGONE_ASSIGN(OpenedImage parent_image, open_layout(parent_path, options));
  const std::uint64_t size = child->info().size_bytes;
  auto* parent_vhdx = dynamic_cast<VhdxLayout*>(parent_image.layout.get());
  BYGONE_CHECK(announce_merge(*child));
  // From here on the parent is the child's alone, and finally reads as the child did: it takes the child's identity, so that the
  // child's own children find it. Other children of the parent are told apart from now on.
  if (parent_vhdx != nullptr) BYGONE_CHECK(parent_vhdx->set_data_write_guid(child->layout().link_identity()));
  if (parent_image.layout->info().size_bytes < size) {
    if (parent_vhdx != nullptr) BYGONE_CHECK(parent_vhdx->resize(size));
    if (auto* vhd = dynamic_cast<VhdLayout*>(parent_image.layout.get())) BYGONE_CHECK(vhd->resize(size));
  }
  std::shared_ptr<BlockDevice> grandparent;
  if (parent_image.layout->parent()) {
    BYGONE_ASSIGN(const std::string path, find_parent(parent_path, *parent_image.layout));
    OpenOptions reading;
    reading.backend = backend;
    reading.read_only = true;
    BYGONE_ASSIGN(grandparent, open_image(path, reading));
  }
  ImageDevice parent(std::move(parent_image.file), std::move(parent_image.layout), std::move(grandparent));
  Result<void> result = copy_disk(*child, parent, CopyWhat::kOwnLayer, progress);
  if (Result<void> closed = parent.close(); result && !closed) result = std::move(closed);
  if (Result<void> dated = remember_parent_date(*child, parent_path); result && !dated) result = std::move(dated);
  child.reset();
  if (Result<void> dated = child_marks.give_date_to(child_path); result && !dated) result = std::move(dated);
  if (!result && result.error().code == ErrorCode::kCancelled) {
    return std::unexpected(Error{ErrorCode::kCancelled, fmt::format("stopped half-way; {} reads as before", child_path),
                                 fmt::format("To go on: bygone disk merge {}", child_path)});
  }
  return result;
}

Result<void> rebase_disk(const std::string& child_path, const std::string& parent_path, bool is_forced) {
  OpenOptions options;
  options.io = IoBackend::Kind::kThreads;
  BYGONE_ASSIGN(const FileMarks marks, FileMarks::of(child_path));
  BYGONE_ASSIGN(const OpenedImage child, open_layout(child_path, options));
  const std::optional<ParentReference> reference = child.layout->parent();
  if (!reference) return fail(ErrorCode::kInvalidArgument, "{} is not a differencing image", child_path);
  OpenOptions reading = options;
  reading.read_only = true;
  BYGONE_ASSIGN(const OpenedImage parent, open_layout(parent_path, reading));
  const Guid identity = parent.layout->link_identity();
  const bool is_the_one = std::ranges::find(reference->identities, identity) != reference->identities.end();
  if (!is_the_one && !is_forced) {
    return std::unexpected(Error{ErrorCode::kInvalidArgument,
                                 fmt::format("{} is not the parent of {}: it is {}", parent_path, child_path, identity.text()),
                                 "Say --force when its content is the same nevertheless; otherwise the child's would be garbled"});
  }
  if (auto* vhdx = dynamic_cast<VhdxLayout*>(child.layout.get())) {
    BYGONE_CHECK(vhdx->set_parent(vhdx_parent_locator(child_path, parent_path, identity)));
  } else if (auto* vhd = dynamic_cast<VhdLayout*>(child.layout.get())) {
    BYGONE_CHECK(vhd->set_parent(vhd_parent(child_path, parent_path, identity)));
  }
  BYGONE_CHECK(child.layout->close());
  return marks.give_date_to(child_path);
}

}  // namespace bygone::disk
