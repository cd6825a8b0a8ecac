// What a running machine says: `bygone console`, `bygone log`, `bygone inspect`.
#include <poll.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>
#include <ostream>

#include "programs/bygone/commands.h"
#include "programs/bygone/cpu_view.h"
#include "programs/bygone/machine_argument.h"
#include "programs/bygone/terminal_console.h"
#include "support/file.h"

namespace bygone::programs {
namespace {

namespace control = service::control;
constexpr std::size_t kMaximumLogBytes = 64 << 20, kMaximumTreeBytes = 256 << 20;

/// Moves what is there; false at the end.
bool move_bytes(int from, int to) {
  std::array<char, 4096> buffer;
  const ssize_t got = ::read(from, buffer.data(), buffer.size());
  if (got < 0) return errno == EINTR || errno == EAGAIN;
  for (ssize_t done = 0; done < got;) {
    const ssize_t wrote = ::write(to, buffer.data() + done, static_cast<std::size_t>(got - done));
    if (wrote < 0 && errno == EAGAIN) {
      pollfd room{to, POLLOUT, 0};
      ::poll(&room, 1, 1000);
    } else if (wrote < 0 && errno != EINTR) {
      return false;
    }
    if (wrote > 0) done += wrote;
  }
  return got > 0;
}

Result<void> console(const std::string& name, CommandContext& context) {
  BYGONE_ASSIGN(const auto client, connect_to(name));
  BYGONE_ASSIGN(const auto reply, client->ask(control::request::Console{}));
  if (reply.fds.size() != 1) return fail(ErrorCode::kCorrupt, "the machine's process sent no stream");
  const int stream = reply.fds[0].get();
  std::atomic<bool> quits = false;
  if (::isatty(STDIN_FILENO) == 1) context.err() << "bygone: this is COM1 of \"" << name << "\"; Ctrl-A x leaves\r\n";
  BYGONE_ASSIGN(const auto terminal, TerminalConsole::create([&] { quits = true; }));
  while (!quits && !context.is_cancelled()) {
    std::array<pollfd, 2> watched = {{{stream, POLLIN, 0}, {terminal->input(), POLLIN, 0}}};
    if (::poll(watched.data(), watched.size(), 100) < 0 && errno != EINTR) return fail_errno(errno, "waiting for the console");
    if (watched[0].revents != 0 && !move_bytes(stream, STDOUT_FILENO)) return {};
    if ((watched[1].revents & POLLIN) != 0 && !move_bytes(terminal->input(), stream)) return {};
  }
  return {};
}

struct LogArguments {
  std::string name;
  bool follows = false;
};

Result<void> log(const LogArguments& arguments, CommandContext& context) {
  BYGONE_ASSIGN(const auto machine, find_machine(arguments.name));
  std::unique_ptr<control::Client> client;
  if (arguments.follows) {
    BYGONE_ASSIGN(client, control::Client::connect(machine.name));
    BYGONE_CHECK(client->ask(control::request::Watch{.log = true}));
  }
  const auto content = read_file(machine.log(), kMaximumLogBytes);
  if (!content && content.error().code != ErrorCode::kNotFound) return std::unexpected(content.error());
  if (content) context.out().write(reinterpret_cast<const char*>(content->data()), static_cast<std::streamsize>(content->size()));
  while (client && !context.is_cancelled()) {
    const auto event = client->next_event(std::chrono::milliseconds(200));
    if (!event) return event.error().code == ErrorCode::kCancelled ? Result<void>() : std::unexpected(event.error());
    if (!*event) continue;
    if (const auto* line = std::get_if<control::LogLine>(&(*event)->event)) {
      context.out() << line->level << ": " << line->part << (line->part.empty() ? "" : ": ") << line->text << "\n" << std::flush;
    }
  }
  return {};
}

struct InspectArguments {
  std::string name, part;
  bool as_json = false;
};

Result<void> inspect(const InspectArguments& arguments, CommandContext& context) {
  BYGONE_ASSIGN(const auto client, connect_to(arguments.name));
  BYGONE_ASSIGN(const auto reply, client->ask(control::request::Inspect{}));
  if (reply.fds.size() != 1) return fail(ErrorCode::kCorrupt, "the machine's process sent no tree");
  BYGONE_ASSIGN(const auto content, control::read_sealed_file(reply.fds[0].get(), kMaximumTreeBytes));
  const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
  if (arguments.part.empty()) {
    context.out() << text << '\n';
    return {};
  }
  const auto tree = nlohmann::json::parse(text, nullptr, false);
  if (!tree.is_object()) return fail(ErrorCode::kCorrupt, "the machine's process sent no tree");
  const auto part = tree.find(arguments.part);
  if (part == tree.end()) {
    std::string names;
    for (const auto& [name, value] : tree.items()) names += (names.empty() ? "" : ", ") + name;
    return fail(ErrorCode::kInvalidArgument, "the machine has no part \"{}\"; it has {}", arguments.part, names);
  }
  context.out() << (arguments.part == "cpu" && !arguments.as_json ? cpu_view(*part) : part->dump(2)) << '\n';
  return {};
}

}  // namespace

void add_console_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("console", "Attach this terminal to a running machine's first serial port");
  auto name = std::make_shared<std::string>();
  add_machine_argument(*command, *name);
  add_examples(*command, {{"The last that the guest wrote, and what comes; Ctrl-A x leaves", "bygone console Demo"}});
  command->callback([name, &context] { context.finish(console(*name, context)); });
}

void add_log_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("log", "Print what a machine's process has said");
  auto arguments = std::make_shared<LogArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_flag("--follow", arguments->follows, "And what it says from now on, until it ends");
  add_examples(*command, {{"Why did it not start?", "bygone log Demo"}, {"Watch it", "bygone log Demo --follow"}});
  command->callback([arguments, &context] { context.finish(log(*arguments, context)); });
}

void add_inspect_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("inspect", "Print the state of every part of a running machine as JSON, or of one part");
  auto arguments = std::make_shared<InspectArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_option("part", arguments->part, "Only this part; \"cpu\" is put in words: blocks, code cache, misses, exits, time")->type_name("PART");
  command->add_flag("--json", arguments->as_json, "Print every part as JSON");
  add_examples(*command, {{"Everything", "bygone inspect Demo"},
                          {"The devices on the bus", "bygone inspect Demo bus"},
                          {"What the software processor has done", "bygone inspect Demo cpu"}});
  command->callback([arguments, &context] { context.finish(inspect(*arguments, context)); });
}

}  // namespace bygone::programs
