// Installed programs as menus show them: .desktop files, their command lines, their icons.
// Specification: Desktop Entry Specification 1.5; Icon Theme Specification 0.13, of which the lookup by name and size in the
// hicolor theme is followed.
// Threading: pure functions and functions that read files.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spec/agent/protocol.h"

namespace bygone::agent {

struct DesktopEntry {
  std::string id;
  std::string name;
  std::string comment;
  std::string exec;  ///< unexpanded
  std::string try_exec;
  std::string icon;
  std::string path;  ///< working directory; may be empty
  bool operator==(const DesktopEntry&) const = default;
};

/// The entry in the text of a .desktop file, or nothing when it is not a program that a menu would show. `locale` is like
/// "de_DE"; may be empty.
[[nodiscard]] std::optional<DesktopEntry> parse_desktop_entry(std::string_view text, std::string_view id, std::string_view locale);

/// The command line of an entry for files or addresses. Empty when the Exec line is not well-formed.
[[nodiscard]] std::vector<std::string> expand_exec(const DesktopEntry& entry, const std::vector<std::string>& files);

/// Whether Wine runs the entry.
[[nodiscard]] bool is_windows_program(const DesktopEntry& entry);

/// Where a session's programs and icons are: "<data home>" before "<data directories>".
struct DataDirectories {
  std::vector<std::filesystem::path> directories;
};

/// All programs, sorted by name; at most kMaximumPrograms. Files that cannot be read are passed over.
[[nodiscard]] std::vector<DesktopEntry> list_entries(const DataDirectories& where, std::string_view locale);

/// The icon file nearest to a size, or nothing. Only formats with a media type below are found.
[[nodiscard]] std::optional<std::filesystem::path> find_icon(const DataDirectories& where, const std::string& icon, unsigned size);

/// "image/png" for a .png and so on; empty for an unknown ending.
[[nodiscard]] std::string media_type_of(const std::filesystem::path& icon);

}  // namespace bygone::agent
