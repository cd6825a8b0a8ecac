#include "disk/tools/inspect.h"

#include <sys/stat.h>

#include <algorithm>

#include "disk/host_file.h"
#include "disk/tools/copy.h"
#include "disk/tools/file_marks.h"
#include "disk/vhd/vhd_layout.h"
#include "disk/vhdx/vhdx_layout.h"

namespace bygone::disk {
namespace {

OpenOptions looking() {
  OpenOptions options;
  options.read_only = true;
  options.io = IoBackend::Kind::kThreads;
  options.ignores_lock = true;
  return options;
}

Result<ImageFacts> describe(const std::string& path) {
  BYGONE_ASSIGN(const OpenedImage image, open_layout(path, looking()));
  ImageFacts facts;
  facts.path = path;
  facts.format = image.format;
  facts.kind = image.layout->kind();
  facts.info = image.layout->info();
  BYGONE_ASSIGN(facts.file_bytes, image.file->size());
  struct stat status = {};
  if (::stat(path.c_str(), &status) == 0) facts.host_bytes = static_cast<std::uint64_t>(status.st_blocks) * 512;
  facts.link_identity = image.layout->link_identity();
  if (const auto* vhdx = dynamic_cast<const VhdxLayout*>(image.layout.get())) {
    facts.block_bytes = vhdx->metadata().block_bytes;
    facts.was_closed_in_order = vhdx->header().log_guid.is_zero();
  } else if (const auto* vhd = dynamic_cast<const VhdLayout*>(image.layout.get())) {
    facts.block_bytes = vhd->allocation_bytes();
    facts.was_closed_in_order = !vhd->footer().is_end_damaged;
  }
  if (const std::optional<ParentReference> reference = image.layout->parent()) {
    const Result<std::string> parent = find_parent(path, *image.layout);
    facts.is_parent_missing = !parent;
    facts.parent_path = parent ? *parent : reference->paths.empty() ? "" : reference->paths.front();
  }
  return facts;
}

/// A place in the file that something claims.
struct Claim {
  std::uint64_t start = 0;
  std::uint64_t length = 0;
  std::string owner;
};

void find_overlaps(std::vector<Claim> claims, std::vector<Finding>& findings) {
  std::ranges::sort(claims, {}, &Claim::start);
  std::uint64_t reached = 0;
  const Claim* last = nullptr;
  for (const Claim& claim : claims) {
    if (last != nullptr && claim.start < reached) {
      findings.push_back({Finding::Level::kDamage,
                          fmt::format("{} and {} share the file's bytes from {:#x} on", last->owner, claim.owner, claim.start), false});
    }
    if (claim.start + claim.length > reached) {
      reached = claim.start + claim.length;
      last = &claim;
    }
  }
}

Result<void> check_vhdx(VhdxLayout& layout, bool repairs, std::vector<Finding>& findings, const Progress& progress) {
  for (std::size_t i = 0; i < 2; ++i) {
    if (!layout.header().is_valid[i]) {
      findings.push_back({Finding::Level::kDamage, fmt::format("header {} is damaged; the other one is sound", i + 1), repairs});
    }
    if (!layout.regions().is_valid[i]) {
      findings.push_back({Finding::Level::kDamage, fmt::format("region table {} is damaged; the other one is sound", i + 1), repairs});
    }
  }
  const VhdxMetadata& metadata = layout.metadata();
  std::vector<Claim> claims;
  const std::uint64_t blocks = metadata.block_count();
  for (std::uint64_t index = 0; index < blocks; ++index) {
    const Result<VhdxLayout::Block> block = layout.block(index);
    if (!block) {
      findings.push_back({Finding::Level::kDamage, block.error().message, false});
      continue;
    }
    using enum spec::vhdx::BlockState;
    if (block->state == kFullyPresent || block->state == kPartiallyPresent) {
      claims.push_back({block->file_offset, metadata.block_bytes, fmt::format("block {}", index)});
    }
    if (block->state == kPartiallyPresent) {
      const Result<VhdxLayout::Block> bitmap = layout.bitmap_block(index / metadata.chunk_ratio());
      if (!metadata.has_parent || !bitmap || bitmap->state != kFullyPresent) {
        findings.push_back({Finding::Level::kDamage, fmt::format("block {} is partially present without a sector bitmap", index), false});
      }
    }
    if (block->has_reserved_bits) {
      findings.push_back({Finding::Level::kDamage, fmt::format("block {} has reserved bits set in the block allocation table", index), false});
    }
    if (index % 65536 == 0) BYGONE_CHECK(progress.step(index * metadata.block_bytes, metadata.size_bytes));
  }
  // Only a differencing image's table has an entry behind its last, incomplete chunk.
  const std::uint64_t chunks = metadata.bat_entry_count() / (metadata.chunk_ratio() + 1);
  for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) {
    const Result<VhdxLayout::Block> bitmap = layout.bitmap_block(chunk);
    if (!bitmap) {
      findings.push_back({Finding::Level::kDamage, bitmap.error().message, false});
    } else if (bitmap->state == spec::vhdx::BlockState::kFullyPresent) {
      claims.push_back({bitmap->file_offset, spec::vhdx::kBitmapBlockBytes, fmt::format("sector bitmap {}", chunk)});
      if (metadata.has_parent) continue;
      findings.push_back({Finding::Level::kDamage, fmt::format("sector bitmap {} is in an image without a parent", chunk), false});
    }
  }
  find_overlaps(std::move(claims), findings);
  if (repairs) BYGONE_CHECK(layout.repair_headers());
  return {};
}

Result<void> check_vhd(VhdLayout& layout, bool repairs, std::vector<Finding>& findings, const Progress& progress) {
  if (layout.footer().is_end_damaged) {
    findings.push_back({Finding::Level::kDamage, "the footer at the end is damaged; the copy at the start is sound", repairs});
  }
  if (layout.footer().is_start_damaged) {
    findings.push_back({Finding::Level::kDamage, "the footer's copy at the start is damaged; the footer is sound", repairs});
  }
  std::vector<Claim> claims;
  for (std::uint64_t block = 0; block < layout.table().size(); ++block) {
    if (layout.table()[block] == spec::vhd::kUnusedBlock) continue;
    if (const Result<void> sound = layout.check_entry(block); !sound) {
      findings.push_back({Finding::Level::kDamage, sound.error().message, false});
    } else {
      claims.push_back({std::uint64_t{layout.table()[block]} * spec::vhd::kSectorBytes,
                        layout.bitmap_bytes() + layout.allocation_bytes(), fmt::format("block {}", block)});
    }
    if (block % 65536 == 0) BYGONE_CHECK(progress.step(block * layout.allocation_bytes(), layout.info().size_bytes));
  }
  find_overlaps(std::move(claims), findings);
  if (repairs && (layout.footer().is_end_damaged || layout.footer().is_start_damaged)) BYGONE_CHECK(layout.write_footers());
  return {};
}

/// The log of a VHDX file holds nothing that can be read: only dropping it opens the image again.
Result<void> drop_log(const std::string& path) {
  BYGONE_ASSIGN(const auto file, open_host_file(path, {}, create_thread_backend()));
  BYGONE_ASSIGN(VhdxHeader header, read_vhdx_header(*file));
  header.log_guid = Guid{};
  return write_vhdx_header(*file, header);
}

Result<std::vector<Finding>> check_any(const std::string& path, bool repairs, const Progress& progress) {
  std::vector<Finding> findings;
  OpenOptions options = looking();
  options.read_only = !repairs;
  options.ignores_lock = false;
  // Looked at before the log is replayed, which restores the headers too.
  OpenOptions first_look = options;
  first_look.read_only = true;
  auto image = open_layout(path, first_look);
  if (!image && repairs && image.error().code == ErrorCode::kCorrupt) {
    const Error reason = image.error();
    BYGONE_CHECK(drop_log(path));
    auto second = open_layout(path, first_look);
    if (!second) return std::unexpected(reason);
    findings.push_back({Finding::Level::kDamage, reason.message + "; the log was dropped", true});
    image = std::move(second);
  }
  if (!image) {
    if (image.error().code != ErrorCode::kCorrupt) return std::unexpected(image.error());
    findings.push_back({Finding::Level::kDamage, image.error().message, false});
    return findings;
  }
  if (const auto* vhdx = dynamic_cast<VhdxLayout*>(image->layout.get()); vhdx != nullptr && !vhdx->header().log_guid.is_zero()) {
    findings.push_back({Finding::Level::kNote, "the image was not closed in order; its log is replayed when it is opened for writing",
                        repairs});
  }
  const auto check = [&](ImageLayout& layout, bool is_repairing) -> Result<void> {
    BYGONE_ASSIGN(const std::vector<Finding> found, check_layout(layout, is_repairing, progress));
    findings.insert(findings.end(), found.begin(), found.end());
    return {};
  };
  if (!repairs) {
    BYGONE_CHECK(check(*image->layout, false));
    return findings;
  }
  const bool had_damaged_headers = [&] {
    const auto* vhdx = dynamic_cast<VhdxLayout*>(image->layout.get());
    return vhdx != nullptr && !(vhdx->header().is_valid[0] && vhdx->header().is_valid[1]);
  }();
  image->layout.reset();
  image->file.reset();
  BYGONE_ASSIGN(const OpenedImage writable, open_layout(path, options));
  BYGONE_CHECK(check(*writable.layout, true));
  if (had_damaged_headers && findings.empty()) {
    findings.push_back({Finding::Level::kDamage, "one of the two headers was damaged", true});
  }
  BYGONE_CHECK(writable.layout->close());
  return findings;
}

}  // namespace

Result<std::vector<ImageFacts>> describe_chain(const std::string& path) {
  std::vector<ImageFacts> chain;
  for (std::string next = path;;) {
    BYGONE_ASSIGN(ImageFacts facts, describe(next));
    const bool is_seen = std::ranges::any_of(chain, [&](const ImageFacts& other) { return other.path == facts.path; });
    if (is_seen) return fail(ErrorCode::kCorrupt, "{} is its own ancestor", next);
    chain.push_back(std::move(facts));
    if (!chain.back().parent_path || chain.back().is_parent_missing) return chain;
    next = *chain.back().parent_path;
  }
}

Result<std::vector<Finding>> check_image(const std::string& path, bool repairs, const Progress& progress) {
  BYGONE_ASSIGN(const FileMarks marks, FileMarks::of(path));
  BYGONE_ASSIGN(std::vector<Finding> findings, check_any(path, repairs, progress));
  // A repair changes nothing of what the disk reads as, so its children need not take notice.
  if (repairs) BYGONE_CHECK(marks.give_date_to(path));
  return findings;
}

Result<std::vector<Finding>> check_layout(ImageLayout& layout, bool repairs, const Progress& progress) {
  std::vector<Finding> findings;
  if (auto* vhdx = dynamic_cast<VhdxLayout*>(&layout)) BYGONE_CHECK(check_vhdx(*vhdx, repairs, findings, progress));
  if (auto* vhd = dynamic_cast<VhdLayout*>(&layout)) BYGONE_CHECK(check_vhd(*vhd, repairs, findings, progress));
  return findings;
}

Result<std::vector<MapEntry>> map_disk(const std::string& path, const Progress& progress) {
  OpenOptions options = looking();
  BYGONE_ASSIGN(const std::unique_ptr<ImageDevice> device, open_image(path, options));
  std::vector<MapEntry> entries;
  const std::uint64_t size = device->info().size_bytes;
  for (std::uint64_t offset = 0; offset < size;) {
    BYGONE_ASSIGN(const DiskRun run, run_at(*device, offset, size - offset));
    MapEntry* last = entries.empty() ? nullptr : &entries.back();
    const bool continues = last != nullptr && last->is_zero == run.is_zero && last->depth == run.depth &&
                           (run.is_zero || last->file_offset + last->length == run.file_offset);
    if (continues) {
      last->length += run.length;
    } else {
      entries.push_back({offset, run.length, run.is_zero, run.depth, run.image->file().name(), run.file_offset});
    }
    offset += run.length;
    BYGONE_CHECK(progress.step(offset, size));
  }
  return entries;
}

}  // namespace bygone::disk
