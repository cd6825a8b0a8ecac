#include "programs/bygone_vm/machine_process.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>

#include <csignal>
#include <ctime>
#include <thread>

#include "library/changes.h"
#include "machine/engine_choice.h"
#include "programs/bygone_vm/console_hub.h"
#include "programs/bygone_vm/definition_options.h"
#include "programs/bygone_vm/machine_handler.h"
#include "programs/bygone_vm/sandbox.h"
#include "programs/bygone_vm/screen_feed.h"
#include "service/control/client.h"
#include "service/control/runtime_directory.h"
#include "service/control/server.h"
#include "service/launch.h"

namespace bygone::programs::vm {
namespace {

namespace gen2 = machine::gen2;
namespace control = service::control;

/// A process that holds the lock and serves nobody is on its way in or out: waits for it to answer, or to be gone.
Result<UniqueFd> lock_machine(const library::MachineFolder& machine) {
  constexpr std::chrono::seconds kPatience(20);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    auto held = library::lock(machine, std::chrono::milliseconds(100));
    if (held || held.error().code != ErrorCode::kBusy || std::chrono::steady_clock::now() >= deadline) return held;
    if (control::Client::connect(machine.name, std::chrono::seconds(1))) return held;
  }
}

/// Of equal names in two places one runs at a time: their sockets have one folder.
Result<UniqueFd> lock_runtime(const std::filesystem::path& folder, const std::string& machine) {
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "opening " + folder.string());
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  return fail(ErrorCode::kBusy, "another machine that is called \"{}\" is running already", machine);
}

std::string time_text() {
  timespec now = {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  std::tm parts = {};
  ::gmtime_r(&now.tv_sec, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                     parts.tm_min, parts.tm_sec, now.tv_nsec / 1'000'000);
}

std::string_view reason_text(gen2::MachineEnd::Reason reason) {
  switch (reason) {
    case gen2::MachineEnd::Reason::kPoweredOff: return "powered-off";
    case gen2::MachineEnd::Reason::kCrashed: return "crashed";
    case gen2::MachineEnd::Reason::kEngineFailed: return "engine-failed";
    case gen2::MachineEnd::Reason::kStopped: return "stopped";
  }
  return "stopped";
}

/// A resumed machine finds in its drives what was there when it was saved, not what its definition puts there at a start.
Result<void> put_media_back(library::Definition& definition, const std::filesystem::path& saved_state) {
  BYGONE_ASSIGN(const auto manifest, gen2::read_saved_manifest(saved_state));
  const auto disks = manifest.find("disks");
  if (disks == manifest.end() || !disks->is_array()) return {};
  for (std::size_t drive = 0; drive < definition.dvds.size(); ++drive) {
    const std::size_t at = definition.disks.size() + drive;
    if (at >= disks->size() || !(*disks)[at].is_object()) continue;
    const auto medium = (*disks)[at].find("medium");
    definition.dvds[drive] = medium != (*disks)[at].end() && medium->is_string() ? medium->get<std::string>() : "";
  }
  return {};
}

/// What a person may do when a machine can't go on.
Error resuming_failed(Error error, const std::string& machine) {
  error = std::move(error).within("going on from the saved state");
  if (error.hint.empty()) error.hint = fmt::format("bygone start \"{}\" --fresh gives the saved state up", machine);
  return error;
}

/// Everything of a running machine.
class MachineProcess {
 public:
  explicit MachineProcess(const ProcessOptions& options) : options_(options) {}
  ~MachineProcess() {
    if (machine_) machine_->power_off();
    handler_.reset();  // waits for a saving that is under way
    if (waiter_.joinable()) waiter_.join();
    if (loop_ && signals_) loop_->unwatch(signals_.get());
  }

  Result<void> start() {
    const std::string& name = options_.machine.name;
    BYGONE_ASSIGN(loop_, EventLoop::create());
    log_ = make_log();
    BYGONE_ASSIGN(folder_lock_, lock_machine(options_.machine));
    BYGONE_ASSIGN(const auto read, library::load(options_.machine));
    for (const std::string& warning : read.warnings) log_.warning("{}", warning);
    BYGONE_ASSIGN(const auto runtime, control::make_runtime_directory(name));
    BYGONE_ASSIGN(runtime_lock_, lock_runtime(runtime, name));
    BYGONE_CHECK(watch_signals());
    BYGONE_ASSIGN(engine_, machine::choose_engine(read.definition.engine, log_));
    BYGONE_CHECK(create_machine(read.definition));
    BYGONE_ASSIGN(server_, control::Server::create(*loop_, name, control::control_socket(name).string(), *handler_, log_.part("control")));
    feed_->set_server(server_.get());
    handler_->set_server(server_.get());
    machine_->with_human_devices([this, width = read.definition.width, height = read.definition.height](gen2::HumanDevices devices) {
      devices.video.set_observer(feed_.get());
      if (auto preferred = devices.video.prefer({width, height}); !preferred) log_.warning("{}", preferred.error().text());
    });
    if (options_.is_sandboxed) {
      BYGONE_CHECK(enter_sandbox({.writable = {options_.machine.folder, runtime}, .readable = {"/etc", "/usr", "/lib", "/proc", "/sys/devices/system", "/dev/null", "/dev/urandom"}}, log_));
    } else {
      log_.warning("the machine's process runs without its sandbox");
    }
    BYGONE_CHECK(machine_->start());
    waiter_ = std::thread([this] {
      const gen2::MachineEnd end = machine_->wait();
      loop_->post([this, end] { on_end(end); });
    });
    // The guest runs: what was saved is its past now, and would not fit its disks any more.
    if (std::error_code error; is_resumed_ && !std::filesystem::remove(options_.machine.saved_state(), error)) {
      log_.warning("the saved state {} could not be removed: {}", options_.machine.saved_state().string(), error.message());
    }
    log_.info("\"{}\" {} on the {} engine", name, is_resumed_ ? "goes on where it was saved," : "runs", engine_->name());
    return {};
  }

  Result<void> serve() {
    loop_->run();
    // Whoever hears that the machine has ended may start it again at once.
    server_->stop_listening();
    waiter_.join();
    const bool is_saved = handler_->is_saved() && end_.reason == gen2::MachineEnd::Reason::kStopped;
    handler_.reset();  // waits for a saving that is under way
    // A guest that went down while it was being saved has ended: nothing is to go on from there.
    if (std::error_code ignored; !is_saved) std::filesystem::remove(options_.machine.saved_state(), ignored);
    machine_.reset();
    folder_lock_.reset();
    runtime_lock_.reset();
    server_->tell(control::Ended{is_saved ? "saved" : std::string(reason_text(end_.reason)), end_.detail.substr(0, 16384)});
    server_->close();
    if (end_.reason == gen2::MachineEnd::Reason::kCrashed) return fail(ErrorCode::kIo, "the guest crashed: {}", end_.detail);
    if (end_.reason == gen2::MachineEnd::Reason::kEngineFailed) return fail(ErrorCode::kInternal, "the processor engine failed: {}", end_.detail);
    return {};
  }

 private:
  Result<std::unique_ptr<gen2::Machine>> create_from(library::Definition definition) {
    const gen2::SerialOptions console{gen2::SerialOptions::Kind::kConsole, {}, console_->port(), console_->port()};
    if (is_resumed_) BYGONE_CHECK(put_media_back(definition, options_.machine.saved_state()));
    BYGONE_ASSIGN(auto machine_options, vm::machine_options(definition, options_.machine, console));
    machine_options.engine = engine_.get();
    if (is_resumed_) machine_options.saved_state = options_.machine.saved_state();
    machine_options.log = log_;
    return gen2::Machine::create(std::move(machine_options));
  }

  Result<void> create_machine(const library::Definition& definition) {
    BYGONE_ASSIGN(console_, ConsoleHub::create(*loop_));
    std::error_code ignored;
    is_resumed_ = std::filesystem::exists(options_.machine.saved_state(), ignored);
    auto created = create_from(definition);
    if (!created && is_resumed_) return std::unexpected(resuming_failed(std::move(created).error(), options_.machine.name));
    BYGONE_ASSIGN(machine_, std::move(created));
    BYGONE_ASSIGN(feed_, ScreenFeed::create(*loop_, machine_->guest_memory()));
    handler_ = std::make_unique<MachineHandler>(*loop_, *machine_, *feed_, *console_, definition, std::string(engine_->name()),
                                                options_.machine.saved_state(), log_);
    return {};
  }

  Log make_log() {
    return Log(
        [this](LogLevel level, std::string_view part, std::string_view text) {
          const std::string line = fmt::format("{} {}: {}{}{}\n", time_text(), to_string(level), part, part.empty() ? "" : ": ", text);
          [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, line.data(), line.size());
          loop_->post([this, event = control::LogLine{std::string(to_string(level)), std::string(part), std::string(text.substr(0, 4096))}] {
            if (server_) server_->tell(event);
          });
        },
        options_.is_verbose ? LogLevel::kDebug : LogLevel::kInfo);
  }

  /// SIGTERM and SIGINT ask the guest to shut down; the second one pulls the plug.
  Result<void> watch_signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) return fail_errno(errno, "preparing for signals");
    return loop_->watch(signals_.get(), EPOLLIN, [this](std::uint32_t) {
      signalfd_siginfo about = {};
      if (::read(signals_.get(), &about, sizeof about) == sizeof about && handler_) handler_->stop(std::exchange(is_asked_, true));
    });
  }

  void on_end(const gen2::MachineEnd& end) {
    end_ = end;
    log_.info("the machine has ended: {}{}{}", reason_text(end.reason), end.detail.empty() ? "" : ": ", end.detail);
    feed_->set_server(nullptr);
    loop_->stop();
  }

  const ProcessOptions& options_;
  std::unique_ptr<EventLoop> loop_;
  Log log_;
  UniqueFd folder_lock_, runtime_lock_, signals_;
  bool is_asked_ = false, is_resumed_ = false;
  std::unique_ptr<cpu::Engine> engine_;
  std::unique_ptr<ConsoleHub> console_;
  // What the machine's threads call goes after the machine.
  std::unique_ptr<ScreenFeed> feed_;
  std::unique_ptr<MachineHandler> handler_;
  std::unique_ptr<control::Server> server_;
  std::unique_ptr<gen2::Machine> machine_;
  std::thread waiter_;
  gen2::MachineEnd end_;
};

}  // namespace

Result<void> run_machine(const ProcessOptions& options) {
  MachineProcess process(options);
  auto outcome = process.start();
  service::report_readiness(options.ready_fd, outcome);
  if (outcome) outcome = process.serve();
  return outcome;
}

}  // namespace bygone::programs::vm
