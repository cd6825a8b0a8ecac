#include "linux_guest.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <fstream>
#include <thread>

#include "disk/open.h"
#include "machine/engine_choice.h"

namespace bygone::tests {

namespace gen2 = machine::gen2;
using std::chrono::steady_clock;

namespace {

constexpr std::string_view kStatus = "guest-status ";

std::filesystem::path make_folder() {
  std::string name = (std::filesystem::temp_directory_path() / "linux-guest.XXXXXX").string();
  return ::mkdtemp(name.data());
}

std::string from_environment(const char* name, const char* usual) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : usual;
}

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

UniqueFd connect_to(const std::filesystem::path& path) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) socket.reset();
  return socket;
}

std::string read_all(const UniqueFd& socket, std::chrono::seconds limit, bool* ended) {
  const auto deadline = steady_clock::now() + limit;
  std::string text;
  std::array<char, 65536> buffer;
  if (ended != nullptr) *ended = false;
  for (;;) {
    pollfd waiting{.fd = socket.get(), .events = POLLIN, .revents = 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now()).count();
    if (left <= 0 || ::poll(&waiting, 1, static_cast<int>(left)) <= 0) return text;
    const ssize_t got = ::read(socket.get(), buffer.data(), buffer.size());
    if (got <= 0) {
      if (ended != nullptr) *ended = got == 0;
      return text;
    }
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

void write_all(const UniqueFd& socket, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
}

void make_disk(const std::filesystem::path& path, std::uint64_t bytes) {
  if (path.extension() == ".raw") {
    { const std::ofstream touch(path); }
    std::filesystem::resize_file(path, bytes);
    return;
  }
  const std::string command = fmt::format("{} disk create {} {} > /dev/null", from_environment("BYGONE_PROGRAM", BYGONE_PROGRAM), path.string(), bytes);
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
}

LinuxGuest::LinuxGuest(LinuxGuestOptions options) : folder_(make_folder()) {
  options.ports.push_back(1);
  start_machine(options);
  if (machine_) is_up_ = wait_for_shell();
  EXPECT_TRUE(is_up_) << "the guest does not come up; its console says:\n" << console();
}

LinuxGuest::~LinuxGuest() {
  if (testing::Test::HasFailure()) std::printf("the guest's console:\n%s\n", console().c_str());
  machine_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void LinuxGuest::start_machine(const LinuxGuestOptions& options) {
  const Log log = Log::to_standard_error(LogLevel::kWarning);
  auto engine = machine::choose_engine(from_environment("BYGONE_TEST_ENGINE", "auto"), log);
  ASSERT_TRUE(engine) << engine.error().text();
  engine_ = std::move(*engine);
  const std::filesystem::path made = std::filesystem::path(from_environment("BYGONE_LINUX_GUEST", BYGONE_LINUX_GUEST)) / options.flavour;
  std::string command_line = "console=ttyS0 quiet panic=-1 " + options.append;
  if (!options.modules.empty()) {
    command_line += " bygone.modules=";
    for (const std::string& module : options.modules) command_line += module + ",";
  }
  gen2::MachineOptions machine;
  machine.engine = engine_.get();
  machine.processors = options.processors;
  machine.memory_bytes = options.memory_megabytes << 20;
  machine.boot = gen2::DirectBoot{made / "vmlinuz", made / "initrd", command_line};
  machine.com1 = {gen2::SerialOptions::Kind::kFile, (folder_ / "console").string(), -1, -1};
  machine.sockets = {folder_ / "sockets", options.ports};
  machine.host_facts = {{"HostName", "castle"}, {"VirtualMachineName", "test guest"}};
  if (options.network) machine.networks.emplace_back().backend = *options.network;
  machine.log = log;
  for (const auto& path : options.disks) {
    auto disk = disk::open_disk(path.string(), {});
    ASSERT_TRUE(disk) << disk.error().text();
    machine.disks.push_back({std::move(*disk), false});
  }
  auto created = gen2::Machine::create(std::move(machine));
  ASSERT_TRUE(created) << created.error().text();
  machine_ = std::move(*created);
  const auto started = machine_->start();
  ASSERT_TRUE(started) << started.error().text();
}

bool LinuxGuest::wait_for_shell(std::chrono::seconds limit) {
  const auto deadline = steady_clock::now() + limit;
  while (steady_clock::now() < deadline) {
    const UniqueFd socket = start("true");
    if (socket && read_all(socket, std::chrono::seconds(120)).starts_with(kStatus)) return true;
    if (machine_->wait_for(std::chrono::milliseconds(100))) return false;
  }
  return false;
}

UniqueFd LinuxGuest::start(const std::string& commands) {
  UniqueFd connection = connect_to(socket("guest-1"));
  if (connection) {
    write_all(connection, fmt::format("( {}\n) 2>&1 < /dev/null\necho \"{}$?\"\n", commands, kStatus));
    ::shutdown(connection.get(), SHUT_WR);
  }
  return connection;
}

std::string LinuxGuest::run(const std::string& commands, std::chrono::seconds limit) {
  const UniqueFd socket = start(commands);
  std::string text = read_all(socket, limit);
  const std::size_t status = text.rfind(kStatus);
  if (status == std::string::npos) {
    ADD_FAILURE() << "no end of: " << commands << "\nIt said:\n" << text << "\nThe sockets:\n" << machine_->inspect()["sockets"].dump(2);
    return text;
  }
  EXPECT_EQ(text.substr(status), fmt::format("{}0\n", kStatus)) << commands << "\nsaid:\n" << text;
  text.resize(status);
  return text;
}

std::string LinuxGuest::console() const {
  std::ifstream file(folder_ / "console", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool LinuxGuest::wait_for_console(const std::string& text, std::size_t times, std::chrono::seconds limit) const {
  const auto deadline = steady_clock::now() + limit;
  while (count_of(console(), text) < times) {
    if (steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return true;
}

}  // namespace bygone::tests
