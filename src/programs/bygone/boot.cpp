// `bygone boot`: runs a machine without a definition, its console on the terminal.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <filesystem>

#include "disk/efi_disk.h"
#include "disk/open.h"
#include "machine/engine_choice.h"
#include "machine/gen2/machine.h"
#include "machine/gen2/network_text.h"
#include "machine/gen2/option_text.h"
#include "programs/bygone/commands.h"
#include "programs/bygone/png.h"
#include "programs/bygone/terminal_console.h"
#include "spec/agent/protocol.h"
#include "support/file.h"
#include "support/size_text.h"

namespace bygone::programs {
namespace {

namespace gen2 = machine::gen2;

constexpr std::size_t kMaximumEfiProgram = 128 << 20;

struct BootArguments {
  std::string kernel, initrd, append, firmware, variables, efi;
  std::string memory = "1G";
  std::uint32_t processors = 1;
  std::string engine = "auto", cpu_model = "host", code_cache = "128M";
  std::string facilities = "all";
  std::vector<std::string> disks, dvds, boot_order, networks;
  std::string guest = "linux", enlightenments;
  bool uses_huge_pages = false;
  std::string com1 = "console", com2, screenshot, sockets, save, resume, debugger;
  bool waits_for_debugger = false;
  std::uint64_t lockstep = 0;
  std::vector<std::uint32_t> guest_ports;
  bool verbose = false;
};

Result<void> attach_efi_program(const std::string& path, gen2::MachineOptions& options) {
  auto program = read_file(path, kMaximumEfiProgram);
  if (!program) return std::unexpected(std::move(program).error().within("reading the UEFI program"));
  auto disk = disk::make_efi_disk(*program);
  if (!disk) return std::unexpected(std::move(disk).error().within(path));
  options.disks.push_back({std::move(*disk), false});
  return {};
}

Result<gen2::MachineOptions> make_options(const BootArguments& arguments, cpu::Engine& engine, const Log& log) {
  gen2::MachineOptions options;
  options.engine = &engine;
  options.processors = arguments.processors;
  BYGONE_ASSIGN(options.memory_bytes, parse_size(arguments.memory));
  BYGONE_ASSIGN(options.cpu_model, gen2::parse_cpu_model(arguments.cpu_model));
  BYGONE_ASSIGN(options.code_cache_bytes, parse_size(arguments.code_cache));
  BYGONE_ASSIGN(options.facilities, cpu::FacilitySet::parse(arguments.facilities));
  options.use_huge_pages = arguments.uses_huge_pages;
  BYGONE_ASSIGN(options.profile, gen2::parse_profile(arguments.guest));
  options.enlightenments = arguments.enlightenments;
  options.ends_after_crash = true;
  options.log = log;
  if (!arguments.kernel.empty() && arguments.firmware.empty()) {
    options.boot = gen2::DirectBoot{arguments.kernel, arguments.initrd, arguments.append};
  } else if (arguments.firmware.empty() && arguments.efi.empty() && arguments.disks.empty() && arguments.dvds.empty()) {
    return std::unexpected(Error{ErrorCode::kInvalidArgument, "there is nothing to boot",
                                 "Give --disk, --dvd, --efi, --kernel or --firmware"});
  } else {
    std::string firmware = arguments.firmware;
    if (firmware.empty()) {
      BYGONE_ASSIGN(firmware, gen2::find_firmware());
    }
    gen2::FirmwareBoot boot{firmware, arguments.variables, {}};
    for (const std::string& drive : arguments.boot_order) {
      BYGONE_ASSIGN(const auto places, gen2::parse_boot_order(drive, arguments.disks.size(), arguments.dvds.size()));
      for (const std::uint8_t place : places) boot.boot_order.push_back(static_cast<std::uint8_t>(place + (arguments.efi.empty() ? 0 : 1)));
    }
    options.boot = std::move(boot);
  }
  if (!arguments.efi.empty()) BYGONE_CHECK(attach_efi_program(arguments.efi, options));
  for (const auto* list : {&arguments.disks, &arguments.dvds}) {
    for (const std::string& path : *list) {
      disk::OpenOptions open;
      open.read_only = list == &arguments.dvds;
      BYGONE_ASSIGN(auto device, disk::open_disk(path, open));
      options.disks.push_back({std::move(device), open.read_only, open.read_only ? std::filesystem::absolute(path).string() : ""});
    }
  }
  BYGONE_ASSIGN(options.networks, gen2::parse_networks(arguments.networks));
  BYGONE_ASSIGN(options.com2, gen2::parse_serial(arguments.com2));
  options.sockets = {arguments.sockets, arguments.guest_ports};
  if (!arguments.sockets.empty()) options.sockets.ports.push_back(spec::agent::kVsockPort);
  options.saved_state = arguments.resume;
  options.debugger = arguments.debugger;
  options.waits_for_debugger = arguments.waits_for_debugger;
  return options;
}

/// The log has had the whole record.
Result<void> crashed(const std::string& record) { return fail(ErrorCode::kIo, "the guest crashed: {}", record.substr(0, record.find('\n'))); }

Result<void> explain(const gen2::MachineEnd& end, const std::string& crash_record) {
  using Reason = gen2::MachineEnd::Reason;
  switch (end.reason) {
    case Reason::kPoweredOff:
    case Reason::kStopped:
      if (!crash_record.empty()) return crashed(crash_record);
      return {};
    case Reason::kCrashed: return crashed(end.detail);
    case Reason::kEngineFailed: return fail(ErrorCode::kInternal, "the processor engine failed: {}", end.detail);
  }
  return {};
}

/// Signals as something to ask for. Blocked from now on, in this thread and all that it makes.
class SignalRequests {
 public:
  SignalRequests() {
    for (const int signal : {SIGUSR1, SIGUSR2}) {
      sigset_t one;
      sigemptyset(&one);
      sigaddset(&one, signal);
      pthread_sigmask(SIG_BLOCK, &one, nullptr);
    }
  }
  [[nodiscard]] static bool take(int signal) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    const timespec now{};
    return sigtimedwait(&one, nullptr, &now) == signal;
  }
};

void take_screenshot(const gen2::Machine& machine, const std::string& path, const Log& log) {
  const auto picture = machine.picture();
  const auto written = picture ? write_png(path, picture->width, picture->height, picture->pixels)
                               : Result<void>(std::unexpected(picture.error()));
  if (!written) log.warning("no screenshot: {}", written.error().text());
}

Result<void> boot(const BootArguments& arguments, CommandContext& context) {
  const SignalRequests requests;
  const Log log = Log::to_standard_error(arguments.verbose ? LogLevel::kDebug : LogLevel::kWarning);
  BYGONE_ASSIGN(const auto engine, arguments.lockstep != 0 ? machine::create_lockstep_engine(arguments.lockstep)
                                                           : machine::choose_engine(arguments.engine, log));
  BYGONE_ASSIGN(gen2::MachineOptions options, make_options(arguments, *engine, log));
  std::atomic<bool> quits = false;
  BYGONE_ASSIGN(const auto console, TerminalConsole::create([&] { quits = true; }));
  if (arguments.com1 == "console") {
    options.com1 = {gen2::SerialOptions::Kind::kConsole, {}, console->input(), STDOUT_FILENO};
  } else {
    BYGONE_ASSIGN(options.com1, gen2::parse_serial(arguments.com1));
  }
  BYGONE_ASSIGN(const auto machine, gen2::Machine::create(std::move(options)));
  for (int port = 1; const std::string& terminal : machine->terminals()) {
    if (!terminal.empty()) fmt::print(stderr, "bygone: COM{} is {}\n", port, terminal);
    ++port;
  }
  BYGONE_CHECK(machine->start());
  for (;;) {
    const auto end = machine->wait_for(std::chrono::milliseconds(100));
    if (!arguments.screenshot.empty() && (end || SignalRequests::take(SIGUSR1))) take_screenshot(*machine, arguments.screenshot, log);
    if (end) return explain(*end, machine->crash_record());
    if (!arguments.save.empty() && SignalRequests::take(SIGUSR2)) {
      const auto saved = machine->save(arguments.save);
      if (saved) return {};
      log.error("{}", saved.error().text());  // the machine runs on
    }
    if (quits || context.is_cancelled()) machine->power_off();
  }
}

}  // namespace

void add_boot_command(CLI::App& root, CommandContext& context) {
  auto arguments = std::make_shared<BootArguments>();
  CLI::App* command = root.add_subcommand("boot", "Run a machine without a definition, its console on this terminal");
  command->add_option("--kernel", arguments->kernel, "A Linux kernel (bzImage) to start without firmware")->type_name("FILE");
  command->add_option("--initrd", arguments->initrd, "Its initial RAM disk")->type_name("FILE");
  command->add_option("--append", arguments->append, "Its command line")->type_name("TEXT");
  command->add_option("--firmware", arguments->firmware, "A Generation 2 UEFI firmware image to start instead of Bygone's own")
      ->type_name("FILE");
  command->add_option("--efi", arguments->efi, "A UEFI program to start on the bare machine")->type_name("FILE");
  command->add_option("--variables", arguments->variables, "Where UEFI variables are kept")->type_name("FILE");
  command->add_option("--memory", arguments->memory, "Memory, such as 512M or 2G")->capture_default_str()->type_name("SIZE");
  command->add_option("--cpus", arguments->processors, "Processors, 1 to 64")->capture_default_str()->type_name("COUNT");
  command->add_option("--cpu", arguments->cpu_model, "The processor that the guest sees: all of this host's, or one that XP to 7 know")
      ->check(CLI::IsMember({"host", "legacy"}))
      ->capture_default_str();
  command->add_option("--code-cache", arguments->code_cache, "Memory that the software processor may fill with translated code")
      ->type_name("SIZE")
      ->capture_default_str();
  command->add_option("--lockstep", arguments->lockstep,
                      "Compare every translation of the software processor with its interpreter, and all memory after COUNT instructions; slow")
      ->type_name("COUNT");
  command->add_option("--engine", arguments->engine, "What runs the processors")
      ->check(CLI::IsMember({"auto", "kvm", "software"}))
      ->capture_default_str();
  command->add_option("--facilities", arguments->facilities,
                      "What the engine does for the hypervisor where it can: all, none or names with commas")
      ->type_name("NAMES")
      ->capture_default_str();
  command->add_option("--disk", arguments->disks, "A disk image; may be repeated")->type_name("FILE");
  command->add_option("--dvd", arguments->dvds, "A DVD image; may be repeated")->type_name("FILE");
  command->add_option("--network", arguments->networks,
                      "A network adapter: nat, tap:NAME, fd:NUMBER, unplugged or none (default nat), then ,forward=tcp:HOSTPORT:GUESTPORT "
                      ",mac=ADDRESS ,capture=FILE; may be repeated")
      ->type_name("NETWORK");
  command->add_option("--boot-order", arguments->boot_order, "Drives that the firmware tries first: disk, disk2, dvd, ...")
      ->delimiter(',')
      ->type_name("LIST");
  command->add_option("--guest", arguments->guest, "What the machine is to please: linux, windows or legacy-windows")
      ->type_name("KIND")
      ->capture_default_str();
  command->add_option("--enlightenments", arguments->enlightenments,
                      "Other enlightenments than those of --guest: changes such as -tlb-flush,+tsc-invariant, after a profile's name or none if wanted")
      ->type_name("NAMES");
  command->add_flag("--huge-pages", arguments->uses_huge_pages, "Back the guest's memory with the host's huge pages, if it has any");
  command->add_option("--com1", arguments->com1, "The first serial port: console (this terminal), none, null, pty, file:PATH or socket:PATH")
      ->type_name("PORT")
      ->capture_default_str();
  command->add_option("--com2", arguments->com2, "The second serial port: none, null, pty, file:PATH or socket:PATH")->type_name("PORT");
  auto* sockets = command->add_option("--sockets", arguments->sockets,
                                      "Connect programs here and in the guest through Unix sockets in this directory");
  sockets->type_name("DIR");
  command->add_option("--guest-port", arguments->guest_ports, "A port of the guest's that gets a socket of its own; may be repeated")
      ->needs(sockets)
      ->type_name("PORT");
  command->add_option("--screenshot", arguments->screenshot, "Write the screen to FILE (PNG) at each signal USR1 and at the end")
      ->type_name("FILE");
  auto* debugger = command->add_option("--gdb", arguments->debugger, "Let GDB connect: a port of this computer's, ADDRESS:PORT, or a socket's path");
  debugger->type_name("WHERE");
  command->add_flag("--gdb-wait", arguments->waits_for_debugger, "Run nothing before GDB says so")->needs(debugger);
  command->add_option("--save", arguments->save, "At the signal USR2 save the whole machine to FILE and leave")->type_name("FILE");
  command->add_option("--resume", arguments->resume, "Go on with the machine saved in FILE; everything else as it was when it was saved")
      ->type_name("FILE");
  command->add_flag("--verbose", arguments->verbose, "Say more on standard error");
  add_examples(*command, {{"Start a kernel with an initial RAM disk",
                           "bygone boot --kernel /boot/vmlinuz-6.1.0-18-cloud-amd64 --initrd /boot/initrd.img-6.1.0-18-cloud-amd64 "
                           "--append \"console=ttyS0\""},
                          {"Start an installed disk through UEFI", "bygone boot --disk debian.vhdx --memory 2G --cpus 2"},
                          {"Start a program of one's own on the bare machine", "bygone boot --efi hello.efi"},
                          {"Reach the guest's SSH server at port 2222 of this host", "bygone boot --disk debian.vhdx --network nat,forward=tcp:2222:22"},
                          {"Leave the console", "press Ctrl-A, then x"}});
  command->callback([arguments, &context] { context.finish(boot(*arguments, context)); });
}

}  // namespace bygone::programs
