#include "disk/open.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <set>

#include "disk/host_file.h"
#include "disk/raw_layout.h"
#include "disk/vhd/vhd_layout.h"
#include "disk/vhdx/vhdx_layout.h"
#include "spec/vhdx/vhdx.h"

namespace bygone::disk {
namespace {

/// More than anybody has; a bound for files that are made to be harmful.
constexpr std::size_t kMaximumChain = 1024;

using Layer = OpenedImage;

bool has_extension(const std::string& path, std::initializer_list<std::string_view> extensions) {
  std::string extension = std::filesystem::path(path).extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::ranges::find(extensions, extension) != extensions.end();
}

template <std::size_t kSize>
Result<std::array<char, kSize>> read_characters(File& file, std::uint64_t offset, std::uint64_t file_bytes) {
  std::array<char, kSize> text = {};
  if (offset + kSize <= file_bytes) BYGONE_CHECK(file.read(offset, std::as_writable_bytes(std::span(text))));
  return text;
}

std::unexpected<Error> refuse_foreign(const std::string& path, std::string_view format) {
  return std::unexpected(Error{ErrorCode::kUnsupported, fmt::format("{} is a {} image, which machines don't use", path, format),
                               fmt::format("Make it a VHDX first: bygone disk convert {} disk.vhdx", path)});
}

Result<Layer> open_layer(std::unique_ptr<File> file, const OpenOptions& options) {
  DiskFormat format = DiskFormat::kRaw;
  if (options.format) {
    format = *options.format;
  } else {
    BYGONE_ASSIGN(format, recognise_format(*file));
  }
  Layer layer;
  if (format == DiskFormat::kVhdx) {
    BYGONE_ASSIGN(layer.layout, VhdxLayout::open(*file));
  } else if (format == DiskFormat::kVhd) {
    BYGONE_ASSIGN(layer.layout, VhdLayout::open(*file));
  } else {
    BYGONE_ASSIGN(const std::uint64_t bytes, file->size());
    const bool is_dvd = format == DiskFormat::kDvd;
    layer.layout = std::make_unique<RawLayout>(bytes, is_dvd ? 2048 : 512, file->is_read_only(), is_dvd);
  }
  layer.file = std::move(file);
  layer.format = format;
  return layer;
}

Result<Layer> open_layer(const std::string& path, const OpenOptions& options) {
  HostFileOptions file_options;
  file_options.is_read_only = options.read_only;
  file_options.bypasses_cache = options.bypasses_cache;
  file_options.ignores_lock = options.ignores_lock;
  BYGONE_ASSIGN(std::unique_ptr<File> file, open_host_file(path, file_options, options.backend));
  return open_layer(std::move(file), options);
}

/// Where the parent may be, as paths of this host.
std::vector<std::string> parent_candidates(const std::string& child, const ParentReference& reference) {
  const std::filesystem::path folder = std::filesystem::path(child).parent_path();
  std::vector<std::string> result;
  result.reserve(reference.paths.size());
  for (const std::string& path : reference.paths) result.push_back((folder / path).lexically_normal().string());
  return result;
}

Result<std::string> existing_parent(const std::string& child, const ParentReference& reference) {
  const std::vector<std::string> candidates = parent_candidates(child, reference);
  for (const std::string& candidate : candidates) {
    std::error_code ignored;
    if (std::filesystem::exists(candidate, ignored)) return candidate;
  }
  std::string tried;
  for (const std::string& candidate : candidates) tried += (tried.empty() ? "" : ", ") + candidate;
  return std::unexpected(
      Error{ErrorCode::kNotFound, fmt::format("the parent of {} is missing; looked for {}", child, tried.empty() ? "nothing" : tried),
            fmt::format("Put it beside the child, or name it: bygone disk rebase {} --parent FILE", child)});
}

/// Whether the file's date is another than the child remembers. Some archives and file systems keep even seconds only.
bool was_written_since(const std::string& path, const ParentReference& reference) {
  struct stat status = {};
  if (!reference.written_at || ::stat(path.c_str(), &status) != 0) return false;
  const std::int64_t later = status.st_mtime - *reference.written_at;
  return later > 0 || later < -2;
}

Result<void> check_parent(const Layer& parent, const Layer& child, const ParentReference& reference) {
  const std::string& name = parent.file->name();
  if (std::ranges::find(reference.identities, parent.layout->link_identity()) == reference.identities.end()) {
    return std::unexpected(
        Error{ErrorCode::kCorrupt,
              fmt::format("the parent {} of {} has been changed or replaced: it is now {}, the child needs {}", name,
                          child.file->name(), parent.layout->link_identity().text(),
                          reference.identities.empty() ? "an unknown one" : reference.identities[0].text()),
              "Restore the parent as it was when the child was made"});
  }
  if (was_written_since(name, reference)) {
    return std::unexpected(
        Error{ErrorCode::kCorrupt, fmt::format("the parent {} of {} has been written to since the child was made", name, child.file->name()),
              fmt::format("Restore the parent as it was. If only its date changed (it was copied, perhaps): bygone disk rebase {} --parent {}",
                          child.file->name(), name)});
  }
  if (parent.layout->info().logical_sector_bytes != child.layout->info().logical_sector_bytes) {
    return fail(ErrorCode::kCorrupt, "{} and its parent {} differ in their sector size", child.file->name(), name);
  }
  return {};
}

Result<std::vector<Layer>> open_chain(Layer leaf, const OpenOptions& options) {
  std::vector<Layer> chain;
  chain.push_back(std::move(leaf));
  OpenOptions parent_options = options;
  parent_options.read_only = true;
  parent_options.format.reset();
  std::set<std::string> seen;
  for (;;) {
    const Layer& child = chain.back();
    const std::optional<ParentReference> reference = child.layout->parent();
    if (!reference) return chain;
    std::error_code ignored;
    if (!seen.insert(std::filesystem::weakly_canonical(child.file->name(), ignored).string()).second) {
      return fail(ErrorCode::kCorrupt, "{} is its own ancestor", child.file->name());
    }
    if (chain.size() >= kMaximumChain) {
      return fail(ErrorCode::kUnsupported, "the chain of parents is longer than {}", kMaximumChain);
    }
    BYGONE_ASSIGN(const std::string path, existing_parent(child.file->name(), *reference));
    auto parent = open_layer(path, parent_options);
    if (!parent) return std::unexpected(std::move(parent).error().within(fmt::format("the parent of {}", child.file->name())));
    BYGONE_CHECK(check_parent(*parent, child, *reference));
    chain.push_back(*std::move(parent));
  }
}

Result<OpenOptions> with_a_backend(OpenOptions options) {
  if (options.backend) return options;
  BYGONE_ASSIGN(options.backend, IoBackend::create(options.io));
  return options;
}

Result<std::unique_ptr<ImageDevice>> assemble(Layer leaf, const OpenOptions& options) {
  std::vector<Layer> chain;
  if (options.opens_parents) {
    BYGONE_ASSIGN(chain, open_chain(std::move(leaf), options));
  } else {
    chain.push_back(std::move(leaf));
  }
  std::shared_ptr<BlockDevice> parent;
  for (; chain.size() > 1; chain.pop_back()) {
    parent = std::make_shared<ImageDevice>(std::move(chain.back().file), std::move(chain.back().layout), std::move(parent));
  }
  return std::make_unique<ImageDevice>(std::move(chain[0].file), std::move(chain[0].layout), std::move(parent));
}

}  // namespace

std::string_view to_string(DiskFormat format) {
  switch (format) {
    case DiskFormat::kRaw: return "raw";
    case DiskFormat::kDvd: return "dvd";
    case DiskFormat::kVhd: return "vhd";
    case DiskFormat::kVhdx: return "vhdx";
  }
  return "unknown";
}

Result<DiskFormat> recognise_format(File& file) {
  if (has_extension(file.name(), {".img", ".raw"})) return DiskFormat::kRaw;
  BYGONE_ASSIGN(const std::uint64_t bytes, file.size());
  BYGONE_ASSIGN(const auto start, read_characters<8>(file, 0, bytes));
  const std::string_view first(start.data(), start.size());
  if (start == spec::vhdx::kFileSignature) return DiskFormat::kVhdx;
  if (first.starts_with("QFI\xfb")) return refuse_foreign(file.name(), "qcow2");
  if (first.starts_with("KDMV")) return refuse_foreign(file.name(), "vmdk");
  if (first == "conectix") return DiskFormat::kVhd;
  for (const std::uint64_t footer_bytes : {512U, 511U}) {
    if (bytes < footer_bytes) continue;
    BYGONE_ASSIGN(const auto end, read_characters<8>(file, bytes - footer_bytes, bytes));
    if (std::string_view(end.data(), end.size()) == "conectix") return DiskFormat::kVhd;
  }
  // ECMA-119 8.1 and ECMA-167 2/9.1: the volume's structures start at byte 32768 and name themselves one byte later.
  BYGONE_ASSIGN(const auto volume, read_characters<5>(file, 32769, bytes));
  const std::string_view standard(volume.data(), volume.size());
  const bool is_volume = standard == "CD001" || standard == "BEA01";
  return is_volume || has_extension(file.name(), {".iso", ".udf"}) ? DiskFormat::kDvd : DiskFormat::kRaw;
}

Result<std::string> find_parent(const std::string& child, const ImageLayout& layout) {
  const std::optional<ParentReference> reference = layout.parent();
  if (!reference) return fail(ErrorCode::kNotFound, "{} has no parent", child);
  return existing_parent(child, *reference);
}

Result<OpenedImage> open_layout(const std::string& path, const OpenOptions& options) {
  BYGONE_ASSIGN(const OpenOptions with_backend, with_a_backend(options));
  return open_layer(path, with_backend);
}

Result<std::unique_ptr<ImageDevice>> open_image(const std::string& path, const OpenOptions& options) {
  BYGONE_ASSIGN(const OpenOptions with_backend, with_a_backend(options));
  BYGONE_ASSIGN(Layer leaf, open_layer(path, with_backend));
  return assemble(std::move(leaf), with_backend);
}

Result<std::unique_ptr<ImageDevice>> open_image_file(std::unique_ptr<File> file, const OpenOptions& options) {
  BYGONE_ASSIGN(const OpenOptions with_backend, with_a_backend(options));
  BYGONE_ASSIGN(Layer leaf, open_layer(std::move(file), with_backend));
  return assemble(std::move(leaf), with_backend);
}

Result<std::unique_ptr<BlockDevice>> open_disk(const std::string& path, const OpenOptions& options) {
  BYGONE_ASSIGN(std::unique_ptr<ImageDevice> device, open_image(path, options));
  return std::unique_ptr<BlockDevice>(std::move(device));
}

}  // namespace bygone::disk
