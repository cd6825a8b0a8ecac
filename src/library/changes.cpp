#include "library/changes.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cstdlib>
#include <ctime>
#include <thread>

#include "support/file.h"

namespace bygone::library {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 3> kOwnFiles = {".vars", ".state", ".log"};  // beside the definition, by the machine's name

std::error_code exists_already(const fs::path& path) { return std::error_code(fs::exists(path) ? EEXIST : 0, std::generic_category()); }

/// One run of data, at the same place in both files.
Result<void> copy_run(int from, int to, off_t start, off_t end, const std::string& name) {
  off_t source = start, target = start;
  while (source < end) {
    const ssize_t copied = ::copy_file_range(from, &source, to, &target, static_cast<std::size_t>(end - source), 0);
    if (copied < 0 && errno == EINTR) continue;
    if (copied < 0) return fail_errno(errno, "copying " + name);
    if (copied == 0) return {};
  }
  return {};
}

Result<void> copy_image(const fs::path& from, const fs::path& to) {
  const UniqueFd source(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
  if (!source) return fail_errno(errno, "opening " + from.string());
  const UniqueFd target(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!target) return fail_errno(errno, "creating " + to.string());
  if (::ioctl(target.get(), FICLONE, source.get()) == 0) return {};
  struct stat about = {};
  if (::fstat(source.get(), &about) != 0 || ::ftruncate(target.get(), about.st_size) != 0) return fail_errno(errno, "making room for " + to.string());
  for (off_t at = 0;;) {
    const off_t data = ::lseek(source.get(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // only a hole is left
    if (data < 0) return fail_errno(errno, "reading " + from.string());
    at = ::lseek(source.get(), data, SEEK_HOLE);
    BYGONE_CHECK(copy_run(source.get(), target.get(), data, at, from.string()));
  }
  return ::fsync(target.get()) == 0 ? Result<void>() : fail_errno(errno, "writing " + to.string());
}

std::string now_text() {
  const std::time_t now = ::time(nullptr);
  std::tm parts = {};
  ::localtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string percent_encoded(const std::string& path) {
  std::string encoded;
  for (const char c : path) {
    const bool is_plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || std::string_view("/-_.~").find(c) != std::string_view::npos;
    encoded += is_plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return encoded;
}

struct Trash {
  fs::path folder;
  fs::path root;  ///< what paths in it are relative to; empty: they are absolute
};

Result<dev_t> device_of(const fs::path& path) {
  struct stat about = {};
  if (::lstat(path.c_str(), &about) != 0) return fail_errno(errno, "looking at " + path.string());
  return about.st_dev;
}

/// The person's trash when it is on the same file system, else the file system's own.
Result<Trash> trash_for(const fs::path& folder) {
  const char* data = std::getenv("XDG_DATA_HOME");
  const char* home = std::getenv("HOME");
  fs::path personal = data != nullptr && *data == '/' ? fs::path(data) : fs::path(home == nullptr ? "/" : home) / ".local/share";
  std::error_code error;
  fs::create_directories(personal, error);
  BYGONE_ASSIGN(const dev_t device, device_of(folder));
  if (const auto own = device_of(personal); own && *own == device) return Trash{personal / "Trash", {}};
  fs::path top = folder;
  while (top.has_relative_path()) {
    const auto above = device_of(top.parent_path());
    if (!above || *above != device) break;
    top = top.parent_path();
  }
  return Trash{top / fmt::format(".Trash-{}", ::geteuid()), top};
}

}  // namespace

Result<UniqueFd> lock(const MachineFolder& machine, std::chrono::milliseconds patience) {
  constexpr std::chrono::milliseconds kBetween(20);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  UniqueFd fd(::open(machine.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "opening " + machine.folder.string());
  for (;;) {
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
    if (errno != EWOULDBLOCK) return fail_errno(errno, "locking " + machine.folder.string());
    if (std::chrono::steady_clock::now() >= deadline) break;
    std::this_thread::sleep_for(kBetween);
  }
  return std::unexpected(Error{ErrorCode::kBusy, fmt::format("\"{}\" is running already", machine.name),
                               fmt::format("bygone stop \"{}\" shuts it down", machine.name)});
}

Result<MachineFolder> rename(const MachineFolder& machine, const std::string& name) {
  BYGONE_CHECK(check_name(name));
  BYGONE_ASSIGN(const UniqueFd held, lock(machine));
  BYGONE_ASSIGN(auto read, load(machine));
  MachineFolder renamed{machine.folder.parent_path() / name, name};
  if (exists_already(renamed.folder)) return fail(ErrorCode::kAlreadyExists, "{} exists already", renamed.folder.string());
  read.document["name"] = name;
  // Both names' files are there while the folder changes its own: a machine is whole before and after.
  BYGONE_CHECK(replace_text_file(machine.folder / (name + ".json"), write_document(read.document)));
  for (const char* extension : kOwnFiles) {
    std::error_code ignored;
    fs::create_hard_link(machine.file(extension), machine.folder / (name + extension), ignored);
  }
  if (::rename(machine.folder.c_str(), renamed.folder.c_str()) != 0) return fail_errno(errno, "renaming " + machine.folder.string());
  std::error_code ignored;
  fs::remove(renamed.folder / (machine.name + ".json"), ignored);
  for (const char* extension : kOwnFiles) fs::remove(renamed.folder / (machine.name + extension), ignored);
  return renamed;
}

Result<MachineFolder> clone(const MachineFolder& machine, const std::string& name) {
  BYGONE_CHECK(check_name(name));
  BYGONE_ASSIGN(const UniqueFd held, lock(machine));
  BYGONE_ASSIGN(auto read, load(machine));
  Document& document = read.document;
  document["name"] = name;
  document["id"] = Guid::random().text();
  std::vector<std::pair<fs::path, std::string>> copies;
  for (std::size_t index = 0; index < read.definition.disks.size(); ++index) {
    const fs::path from = machine.resolve(read.definition.disks[index].path);
    const std::string to = fmt::format("{}{}{}", name, index == 0 ? "" : fmt::format(" {}", index + 1), from.extension().string());
    copies.emplace_back(from, to);
    document["disks"][index]["path"] = to;
  }
  return create(machine.folder.parent_path(), document, [&](const fs::path& folder) -> Result<void> {
    for (const auto& [from, to] : copies) BYGONE_CHECK(copy_image(from, folder / to));
    std::error_code ignored;
    fs::copy_file(machine.variables(), folder / (name + ".vars"), ignored);
    return {};
  });
}

Result<fs::path> move_to_trash(const MachineFolder& machine) {
  BYGONE_ASSIGN(const UniqueFd held, lock(machine));
  BYGONE_ASSIGN(const Trash trash, trash_for(machine.folder));
  for (const fs::path& folder : {trash.folder, trash.folder / "files", trash.folder / "info"}) {
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
      const int why = errno;
      return std::unexpected(Error{ErrorCode::kPermissionDenied, error_from_errno(why, "creating the trash folder " + folder.string()).message,
                                   "bygone delete --permanently does without a trash"});
    }
  }
  const std::string original = (trash.root.empty() ? machine.folder : machine.folder.lexically_relative(trash.root)).string();
  const std::string about = "[Trash Info]\nPath=" + percent_encoded(original) + "\nDeletionDate=" + now_text() + "\n";
  for (int number = 1; number < 10000; ++number) {
    const std::string name = number == 1 ? machine.name : fmt::format("{} {}", machine.name, number);
    const fs::path info = trash.folder / "info" / (name + ".trashinfo");
    const UniqueFd file(::open(info.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));  // takes the name
    if (!file && errno == EEXIST) continue;
    if (!file || ::write(file.get(), about.data(), about.size()) != static_cast<ssize_t>(about.size())) return fail_errno(errno, "writing " + info.string());
    fs::path target = trash.folder / "files" / name;
    if (::rename(machine.folder.c_str(), target.c_str()) == 0) return target;
    const int why = errno;
    ::unlink(info.c_str());
    if (why != EEXIST && why != ENOTEMPTY) return fail_errno(why, "moving " + machine.folder.string() + " to the trash");
  }
  return fail(ErrorCode::kExhausted, "the trash holds too many machines called \"{}\"", machine.name);
}

Result<void> remove(const MachineFolder& machine) {
  BYGONE_ASSIGN(const UniqueFd held, lock(machine));
  // First out of the library's sight, so that a kill in between leaves no half of a machine.
  const fs::path gone = machine.folder.parent_path() / fmt::format("{}{}-{}", kGone, machine.name, ::getpid());
  if (::rename(machine.folder.c_str(), gone.c_str()) != 0) return fail_errno(errno, "removing " + machine.folder.string());
  std::error_code error;
  fs::remove_all(gone, error);
  return error ? fail_errno(error.value(), "removing " + gone.string()) : Result<void>();
}

}  // namespace bygone::library
