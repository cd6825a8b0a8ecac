// Changing images: convert, compact, resize, merge, rebase. Threading: the caller's thread; the images are locked meanwhile.
#pragma once

#include <string>

#include "disk/tools/create.h"
#include "disk/tools/progress.h"

namespace bygone::disk {

/// Copies what the disk at `source` reads as into a new image at `target`, under another name until it is complete and durable.
/// `options.size_bytes` 0: the source's. Errors: kAlreadyExists unless `replaces`; kCancelled leaves both as they were.
[[nodiscard]] Result<void> convert_disk(const std::string& source, const std::string& target, const CreateOptions& options,
                                        bool replaces, const Progress& progress);

/// Rewrites an image without its zeroed and trimmed blocks, beside the old one, which it then replaces in one step. Identities stay,
/// so children keep finding it.
[[nodiscard]] Result<void> compact_disk(const std::string& path, const Progress& progress);

/// The two ways of it, on open images, which are closed at the end: into the new, empty `copy` of the same kind; and in place, for
/// raw and fixed images, whose zeroed pages go back to the host.
[[nodiscard]] Result<void> fill_compacted(ImageDevice& source, ImageDevice& copy, const Progress& progress);
[[nodiscard]] Result<void> punch_zeros(ImageDevice& image, const Progress& progress);

/// Errors: kInvalidArgument for a smaller size unless `shrinks` (what lies behind the new end is lost then).
[[nodiscard]] Result<void> resize_disk(const std::string& path, std::uint64_t size_bytes, bool shrinks);

/// Writes what a differencing image holds into its parent, which afterwards reads as the child did and carries its identity.
/// A merge that is cut short can be started again: until it is complete the child reads as before. The child's file stays.
[[nodiscard]] Result<void> merge_disk(const std::string& child, const Progress& progress);

/// A merge's first step, on the open child: while its parent is being changed into what the child shows, the parent is right for it
/// before and after. Durable when it returns.
[[nodiscard]] Result<void> announce_merge(ImageDevice& child);

/// Points a differencing image to its parent's new place; with `is_forced` to a parent of another identity, whose content must be
/// the same.
[[nodiscard]] Result<void> rebase_disk(const std::string& child, const std::string& parent, bool is_forced);

}  // namespace bygone::disk
