#include "support/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/unique_fd.h"

namespace bygone {
namespace {

Result<void> write_all(int fd, std::span<const std::byte> content, const std::string& name) {
  while (!content.empty()) {
    const ssize_t wrote = ::write(fd, content.data(), content.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return fail_errno(errno, "writing " + name);
    content = content.subspan(static_cast<std::size_t>(wrote));
  }
  if (::fsync(fd) != 0) return fail_errno(errno, "syncing " + name);
  return {};
}

}  // namespace

Result<std::vector<std::byte>> read_file(const std::filesystem::path& path, std::size_t maximum_bytes) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "opening " + path.string());
  std::vector<std::byte> content;
  struct stat about = {};
  if (::fstat(fd.get(), &about) == 0 && S_ISREG(about.st_mode)) {
    const auto size = static_cast<std::size_t>(about.st_size);
    if (size > maximum_bytes) return fail(ErrorCode::kExhausted, "{} is larger than {} bytes", path.string(), maximum_bytes);
    content.reserve(size + (1 << 16));  // the last read finds the end
  }
  for (;;) {
    const std::size_t have = content.size();
    content.resize(have + (1 << 16));
    const ssize_t got = ::read(fd.get(), content.data() + have, content.size() - have);
    if (got < 0 && errno != EINTR) return fail_errno(errno, "reading " + path.string());
    content.resize(have + static_cast<std::size_t>(got < 0 ? 0 : got));
    if (content.size() > maximum_bytes) {
      return fail(ErrorCode::kExhausted, "{} is larger than {} bytes", path.string(), maximum_bytes);
    }
    if (got == 0) return content;
  }
}

Result<void> replace_file(const std::filesystem::path& path, std::span<const std::byte> content) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::string temporary = (folder / (".bygone-" + path.filename().string() + "-XXXXXX")).string();
  const UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) return fail_errno(errno, "creating a file in " + folder.string());
  Result<void> outcome = write_all(fd.get(), content, path.string());
  if (outcome) {
    struct stat old = {};
    ::fchmod(fd.get(), ::stat(path.c_str(), &old) == 0 ? old.st_mode & 07777 : 0644);
    if (::rename(temporary.c_str(), path.c_str()) != 0) outcome = fail_errno(errno, "replacing " + path.string());
  }
  if (!outcome) {
    ::unlink(temporary.c_str());
    return outcome;
  }
  const UniqueFd folder_fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder_fd) ::fsync(folder_fd.get());
  return {};
}

}  // namespace bygone
