#include "disk/parent_path.h"

#include <algorithm>
#include <filesystem>

namespace bygone::disk {
namespace {

/// A drive letter or a volume's name in front means nothing on this host.
std::string_view without_volume(std::string_view path) {
  if (path.starts_with("//?/")) path.remove_prefix(4);
  if (path.starts_with("Volume{") && path.find('}') != std::string_view::npos) path.remove_prefix(path.find('}') + 1);
  if (path.size() >= 2 && path[1] == ':') path.remove_prefix(2);
  return path;
}

}  // namespace

void add_parent_paths(std::string_view written, std::vector<std::string>& paths) {
  std::string path(written);
  path.erase(std::ranges::find(path, '\0'), path.end());
  if (path.empty()) return;
  const bool is_windows = !path.starts_with('/');
  if (is_windows) std::ranges::replace(path, '\\', '/');
  const auto add = [&paths](std::string candidate) {
    if (!candidate.empty() && std::ranges::find(paths, candidate) == paths.end()) paths.push_back(std::move(candidate));
  };
  const std::string_view rest = without_volume(path);
  if (rest.size() == path.size()) add(path);  // neither drive nor volume
  add(std::filesystem::path(rest).filename().string());
}

std::string windows_relative_path(const std::string& child, const std::string& parent) {
  std::error_code ignored;
  const auto child_folder = std::filesystem::weakly_canonical(std::filesystem::absolute(child).parent_path(), ignored);
  const auto parent_file = std::filesystem::weakly_canonical(std::filesystem::absolute(parent), ignored);
  std::string path = parent_file.lexically_relative(child_folder).string();
  if (!path.starts_with("../")) path = "./" + path;
  std::ranges::replace(path, '/', '\\');
  return path;
}

std::string absolute_parent_path(const std::string& parent) {
  std::error_code ignored;
  std::string path = std::filesystem::weakly_canonical(std::filesystem::absolute(parent), ignored).string();
  std::ranges::replace(path, '/', '\\');  // readers look for the name behind the last one
  return path;
}

}  // namespace bygone::disk
