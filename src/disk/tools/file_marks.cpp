#include "disk/tools/file_marks.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>

namespace bygone::disk {

Result<FileMarks> FileMarks::of(const std::string& path) {
  FileMarks marks;
  if (::stat(path.c_str(), &marks.status_) != 0) return fail_errno(errno, "looking at " + path);
  return marks;
}

Result<void> FileMarks::give_to(const std::string& path) const {
  // Only root may give files away; everybody else owns both already.
  if (::geteuid() == 0 && ::chown(path.c_str(), status_.st_uid, status_.st_gid) != 0) {
    return fail_errno(errno, "giving " + path + " its owner");
  }
  if (::chmod(path.c_str(), status_.st_mode & 07777) != 0) return fail_errno(errno, "setting the permissions of " + path);
  return give_date_to(path);
}

Result<void> FileMarks::give_date_to(const std::string& path) const {
  const std::array<timespec, 2> times = {status_.st_atim, status_.st_mtim};
  if (::utimensat(AT_FDCWD, path.c_str(), times.data(), 0) != 0) return fail_errno(errno, "setting the date of " + path);
  return {};
}

}  // namespace bygone::disk
