// What is done with whole machines: rename, clone, delete; and the lock that keeps one in use.
// Threading: plain functions on files.
#pragma once

#include <chrono>
#include <string>

#include "library/library.h"
#include "support/unique_fd.h"

namespace bygone::library {

/// Held by a machine's process, and by those who change its folder. A process that was killed takes a moment to be gone, hence
/// `patience`. Errors: kBusy: it is running.
[[nodiscard]] Result<UniqueFd> lock(const MachineFolder& machine, std::chrono::milliseconds patience = std::chrono::milliseconds(500));

/// Gives the machine, its folder and its own files another name; its disks keep theirs. A kill at any point leaves the machine under one
/// of the names. Errors: kBusy (running), kAlreadyExists, kInvalidArgument.
[[nodiscard]] Result<MachineFolder> rename(const MachineFolder& machine, const std::string& name);

/// A copy with a new id, all disks copied into its folder (as clones where the file system can, with holes otherwise); no saved state.
[[nodiscard]] Result<MachineFolder> clone(const MachineFolder& machine, const std::string& name);

/// Moves the folder to the trash (freedesktop.org trash specification 1.0: the person's, or that of the folder's file system).
/// Returns where it is now.
[[nodiscard]] Result<std::filesystem::path> move_to_trash(const MachineFolder& machine);
/// Removes the folder and everything in it for good.
[[nodiscard]] Result<void> remove(const MachineFolder& machine);

}  // namespace bygone::library
