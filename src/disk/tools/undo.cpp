#include "disk/tools/undo.h"

#include <unistd.h>

#include <filesystem>

#include "disk/tools/create.h"
#include "disk/tools/transform.h"

namespace bygone::disk {

std::string undo_path(const std::string& base) {
  const std::filesystem::path path(base);
  return (path.parent_path() / (path.stem().string() + ".undo" + path.extension().string())).string();
}

Result<std::string> begin_undo(const std::string& base) {
  CreateOptions options;
  BYGONE_ASSIGN(options.format, format_of_name(base));
  options.kind = DiskKind::kDifferencing;
  options.parent = base;
  std::string path = undo_path(base);
  BYGONE_CHECK(create_disk(path, options));
  return path;
}

Result<void> discard_undo(const std::string& base) {
  const std::string path = undo_path(base);
  if (::unlink(path.c_str()) != 0) return fail_errno(errno, "throwing away " + path);
  return {};
}

Result<void> commit_undo(const std::string& base, const Progress& progress) {
  BYGONE_CHECK(merge_disk(undo_path(base), progress));
  return discard_undo(base);
}

}  // namespace bygone::disk
