// Paths of parent images: Windows writes them, this host has to find the file. Threading: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bygone::disk {

/// Adds what `written`, a path out of an image, may mean here: the path itself with '/' between its parts, and the file's bare
/// name, for a parent that lies beside its child. Nothing for an empty path; no duplicates.
void add_parent_paths(std::string_view written, std::vector<std::string>& paths);

/// The way from the folder of `child` to `parent`, as Windows writes it (".\folder\base.vhdx"); both must exist or be absolute.
[[nodiscard]] std::string windows_relative_path(const std::string& child, const std::string& parent);
/// The absolute path of `parent`, with its parts as Windows divides them: "\\vms\\base.vhdx".
[[nodiscard]] std::string absolute_parent_path(const std::string& parent);

}  // namespace bygone::disk
