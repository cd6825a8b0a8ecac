#include "service/control/runtime_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

namespace bygone::service::control {
namespace {

namespace fs = std::filesystem;

bool is_own_folder(const fs::path& path) {
  struct stat about = {};
  return ::lstat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode) && about.st_uid == ::geteuid();
}

Result<void> make_private(const fs::path& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, "creating " + path.string());
  if (!is_own_folder(path)) {
    return std::unexpected(Error{ErrorCode::kPermissionDenied, path.string() + " is not a folder of your own",
                                 "Remove it, or set XDG_RUNTIME_DIR to a folder that is"});
  }
  if (::chmod(path.c_str(), 0700) != 0) return fail_errno(errno, "closing " + path.string() + " to others");
  return {};
}

}  // namespace

fs::path runtime_root() {
  if (const char* given = std::getenv("XDG_RUNTIME_DIR"); given != nullptr && *given == '/') return fs::path(given) / "bygone";
  const fs::path usual = fs::path("/run/user") / std::to_string(::geteuid());
  if (is_own_folder(usual)) return usual / "bygone";
  return fs::path("/tmp") / ("bygone-" + std::to_string(::geteuid()));
}

fs::path runtime_directory(const std::string& machine) { return runtime_root() / machine; }
fs::path control_socket(const std::string& machine) { return runtime_directory(machine) / "control"; }
fs::path guest_sockets(const std::string& machine) { return runtime_directory(machine) / "sockets"; }

Result<fs::path> make_runtime_directory(const std::string& machine) {
  BYGONE_CHECK(make_private(runtime_root()));
  fs::path folder = runtime_directory(machine);
  BYGONE_CHECK(make_private(folder));
  BYGONE_CHECK(make_private(guest_sockets(machine)));
  return folder;
}

}  // namespace bygone::service::control
