#include "programs/bygone/foreign_image.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <ostream>

#include "support/guid.h"

namespace bygone::programs {
namespace {

bool is_foreign(const std::string& path) {
  std::array<char, 4> start = {};
  std::ifstream file(path, std::ios::binary);
  file.read(start.data(), start.size());
  const std::string_view magic(start.data(), start.size());
  return magic == "QFI\xfb" || magic == "KDMV" || std::filesystem::path(path).extension() == ".vmdk" ||
         std::filesystem::path(path).extension() == ".vdi";
}

Result<void> run_qemu_img(const std::string& source, const std::string& raw) {
  std::array<const char*, 7> arguments = {"qemu-img", "convert", "-O", "raw", source.c_str(), raw.c_str(), nullptr};
  pid_t child = 0;
  const int status = ::posix_spawnp(&child, "qemu-img", nullptr, nullptr, const_cast<char* const*>(arguments.data()), environ);
  if (status != 0) {
    return std::unexpected(Error{ErrorCode::kNotFound, fmt::format("{} needs qemu-img, which can't be started", source),
                                 "Install it: apt install qemu-utils"});
  }
  int outcome = 0;
  while (::waitpid(child, &outcome, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0) return {};
  return fail(ErrorCode::kIo, "qemu-img could not convert {}", source);
}

}  // namespace

ReadableSource::~ReadableSource() {
  if (is_temporary_) ::unlink(path_.c_str());
}

Result<ReadableSource> make_readable(const std::string& source, const std::string& target, CommandContext& context) {
  if (!is_foreign(source)) return ReadableSource(source, false);
  const std::filesystem::path folder = std::filesystem::path(target).parent_path();
  ReadableSource raw((folder / fmt::format(".{}.raw", Guid::random().text())).string(), true);
  if (!context.is_json()) context.err() << "bygone: reading " << source << " through qemu-img\n";
  BYGONE_CHECK(run_qemu_img(source, raw.path()));
  return raw;
}

}  // namespace bygone::programs
