// A real Linux guest for tests: Debian's kernel on a machine of this process, driven through a shell on an AF_VSOCK port.
//
//   LinuxGuest guest({.flavour = "cloud"});
//   EXPECT_EQ(guest.run("uname -m"), "x86_64\n");
//   guest.machine()…
//
// Both may come from the environment, for runs elsewhere: BYGONE_TEST_ENGINE (auto, kvm, software) and BYGONE_LINUX_GUEST (the folder
// that make_guest.py makes).
// Threading: one thread.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "machine/gen2/machine.h"
#include "support/unique_fd.h"

namespace bygone::tests {

/// For the beginning of what a guest runs: `wait_for CONDITION` ends the command with 9 when that is not true within half a minute.
inline constexpr const char* kWaitFor =
    "wait_for() { for i in $(seq 300); do eval \"$1\" && return; sleep 0.1; done; echo \"never: $1\"; exit 9; }\n";

struct LinuxGuestOptions {
  std::string flavour = "cloud";     ///< of Debian's kernels: "cloud" or "full"
  std::vector<std::string> modules = {};  ///< loaded before the shell is there, besides hv_sock
  std::vector<std::filesystem::path> disks = {};
  std::uint64_t memory_megabytes = 256;
  std::uint32_t processors = 1;
  std::vector<std::uint32_t> ports = {};  ///< of the guest's, to get sockets of their own
  std::string append = {};                ///< to the kernel's command line
  std::optional<network::NatOptions> network = {};
};

class LinuxGuest {
 public:
  /// Up when it returns, or the test has failed fatally and is_up() is false.
  explicit LinuxGuest(LinuxGuestOptions options);
  ~LinuxGuest();

  [[nodiscard]] bool is_up() const { return is_up_; }
  [[nodiscard]] machine::gen2::Machine& machine() { return *machine_; }
  /// Runs shell commands in the guest; their output and errors. A status other than 0, or no end in time, fails the test.
  std::string run(const std::string& commands, std::chrono::seconds limit = std::chrono::seconds(240));
  /// Starts shell commands that run on; read their output and status from the socket.
  [[nodiscard]] UniqueFd start(const std::string& commands);
  /// Waits for the guest's shell, after a reboot for example. False: not in time.
  bool wait_for_shell(std::chrono::seconds limit = std::chrono::seconds(240));
  /// What the serial console said so far.
  [[nodiscard]] std::string console() const;
  bool wait_for_console(const std::string& text, std::size_t times = 1, std::chrono::seconds limit = std::chrono::seconds(240)) const;
  [[nodiscard]] std::filesystem::path folder() const { return folder_; }
  [[nodiscard]] std::filesystem::path socket(const std::string& name) const { return folder_ / "sockets" / name; }

 private:
  void start_machine(const LinuxGuestOptions& options);

  std::filesystem::path folder_;
  std::unique_ptr<cpu::Engine> engine_;
  std::unique_ptr<machine::gen2::Machine> machine_;
  bool is_up_ = false;
};

/// Connects to a Unix socket; a descriptor that is not there when nobody listens. Blocking.
[[nodiscard]] UniqueFd connect_to(const std::filesystem::path& path);
/// Everything up to the end of file, or up to the deadline; `ended` tells which.
[[nodiscard]] std::string read_all(const UniqueFd& socket, std::chrono::seconds limit, bool* ended = nullptr);
void write_all(const UniqueFd& socket, std::string_view text);
/// A disk image of `bytes`, all zero, in the format of its extension (.vhdx, .raw).
void make_disk(const std::filesystem::path& path, std::uint64_t bytes);

}  // namespace bygone::tests
