// Undo disks: what a machine changes goes into a differencing image that can be thrown away or kept, as Virtual PC's undo disks
// did. The machine uses the undo image in the base image's place. Threading: the caller's thread; no machine may be running.
#pragma once

#include <string>

#include "disk/tools/progress.h"

namespace bygone::disk {

/// "xp.vhdx" → "xp.undo.vhdx", beside it.
[[nodiscard]] std::string undo_path(const std::string& base);

/// Makes the undo image of `base`, a VHD or VHDX, and gives its path. Errors: kAlreadyExists when one waits for a decision.
[[nodiscard]] Result<std::string> begin_undo(const std::string& base);
/// Throws the changes away.
[[nodiscard]] Result<void> discard_undo(const std::string& base);
/// Writes the changes into the base image, and removes the undo image. Cut short, it can be started again.
[[nodiscard]] Result<void> commit_undo(const std::string& base, const Progress& progress);

}  // namespace bygone::disk
