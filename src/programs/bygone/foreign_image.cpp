#include "programs/bygone/foreign_image.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <ostream>

#include "support/guid.h"
#include "support/unique_fd.h"

namespace bygone::programs {
namespace {

/// What qemu-img calls the format of a file that we don't read ourselves; empty for the others.
std::string foreign_format(const std::string& path) {
  std::array<char, 21> start = {};
  std::ifstream file(path, std::ios::binary);
  file.read(start.data(), start.size());
  const std::string_view magic(start.data(), start.size());
  if (magic.starts_with("QFI\xfb")) return magic[7] == 1 ? "qcow" : "qcow2";
  const std::string ending = std::filesystem::path(path).extension().string();
  if (magic.starts_with("KDMV") || magic == "# Disk DescriptorFile" || ending == ".vmdk") return "vmdk";
  return ending == ".vdi" ? "vdi" : "";
}

/// What `qemu-img -p` last said, from text like "(12.34/100%)\r": a part of 1.
std::optional<double> last_part(const std::string& text) {
  const std::size_t start = text.rfind('(', text.rfind("/100%"));
  if (start == std::string::npos) return {};
  double percent = 0;
  const auto [end, status] = std::from_chars(text.data() + start + 1, text.data() + text.size(), percent);
  return status == std::errc() ? std::optional(percent / 100) : std::nullopt;
}

/// qemu-img on its way, with what it prints. Its end is awaited whatever happens.
class QemuImg {
 public:
  static Result<QemuImg> start(const std::string& source, const std::string& format, const std::string& raw) {
    std::array<int, 2> ends = {-1, -1};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
    QemuImg program;
    program.output_.reset(ends[0]);
    const UniqueFd input(ends[1]);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, input.get(), STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, input.get(), STDERR_FILENO);
    // qemu-img takes what stands before a colon for a protocol, but not in an absolute path.
    const std::string from = std::filesystem::absolute(source).string();
    const std::string to = std::filesystem::absolute(raw).string();
    std::array<const char*, 10> arguments = {"qemu-img", "convert", "-p", "-f", format.c_str(), "-O", "raw", from.c_str(), to.c_str(), nullptr};
    const int status =
        ::posix_spawnp(&program.child_, "qemu-img", &actions, nullptr, const_cast<char* const*>(arguments.data()), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (status == 0) return program;
    program.child_ = 0;
    return std::unexpected(Error{ErrorCode::kNotFound, fmt::format("{} needs qemu-img, which can't be started", source),
                                 "Install it: apt install qemu-utils"});
  }
  QemuImg(QemuImg&& other) noexcept : child_(std::exchange(other.child_, 0)), output_(std::move(other.output_)) {}
  QemuImg& operator=(QemuImg&&) = delete;
  ~QemuImg() { [[maybe_unused]] const int ignored = wait(); }

  /// What it printed in the next tenth of a second; nothing when it has closed its output.
  std::optional<std::string> read() {
    pollfd waiting = {output_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, 100) <= 0) return "";
    std::array<char, 4096> buffer;
    const ssize_t got = ::read(output_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) return "";
    if (got <= 0) return {};
    return std::string(buffer.data(), static_cast<std::size_t>(got));
  }
  void stop() const { ::kill(child_, SIGTERM); }
  /// Its exit status, or -1.
  int wait() {
    if (child_ == 0) return -1;
    int outcome = 0;
    while (::waitpid(child_, &outcome, 0) < 0 && errno == EINTR) {
    }
    child_ = 0;
    return WIFEXITED(outcome) ? WEXITSTATUS(outcome) : -1;
  }

 private:
  QemuImg() = default;
  pid_t child_ = 0;
  UniqueFd output_;
};

Result<void> run_qemu_img(const std::string& source, const std::string& format, const std::string& raw,
                          const disk::Progress& progress) {
  BYGONE_ASSIGN(QemuImg program, QemuImg::start(source, format, raw));
  constexpr std::uint64_t kWhole = 10000;
  std::uint64_t done = 0;
  std::string said;
  while (const std::optional<std::string> text = program.read()) {
    said += *text;
    if (said.size() > 4096) said.erase(0, said.size() - 4096);
    if (const std::optional<double> part = last_part(said)) done = static_cast<std::uint64_t>(*part * kWhole);
    if (Result<void> goes_on = progress.step(done, kWhole); !goes_on) {
      program.stop();
      return goes_on;
    }
  }
  const int status = program.wait();
  BYGONE_CHECK(progress.step(done, kWhole));  // Ctrl-C reaches qemu-img too, and it may have been the first to end
  if (status == 0) return {};
  const std::size_t reason = said.rfind("qemu-img: ");
  std::string why = reason == std::string::npos ? std::string("it does not say why") : said.substr(reason + 10);
  std::erase(why, '\n');
  return fail(ErrorCode::kIo, "qemu-img could not convert {}: {}", source, why);
}

}  // namespace

ReadableSource::~ReadableSource() {
  if (is_temporary_) ::unlink(path_.c_str());
}

Result<ReadableSource> make_readable(const std::string& source, const std::string& target, CommandContext& context,
                                     const disk::Progress& progress) {
  const std::string format = foreign_format(source);
  if (format.empty()) return ReadableSource(source, false);
  const std::filesystem::path folder = std::filesystem::path(target).parent_path();
  ReadableSource raw((folder / fmt::format(".{}.raw", Guid::random().text())).string(), true);
  if (context.is_json()) {
    context.err() << nlohmann::json{{"note", "reading " + source + " through qemu-img"}}.dump(
                         -1, ' ', false, nlohmann::json::error_handler_t::replace)
                  << "\n" << std::flush;
  } else {
    context.err() << "bygone: reading " << source << " through qemu-img\n" << std::flush;
  }
  BYGONE_CHECK(run_qemu_img(source, format, raw.path(), progress));
  return raw;
}

}  // namespace bygone::programs
