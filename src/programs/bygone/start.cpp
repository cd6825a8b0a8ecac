// `bygone start` and `bygone stop`.
#include "library/changes.h"
#include "programs/bygone/commands.h"
#include "programs/bygone/machine_argument.h"
#include "service/launch.h"

namespace bygone::programs {
namespace {

namespace control = service::control;

struct StopArguments {
  std::string name;
  bool is_forced = false;
  double seconds = 120;
};

struct StartArguments {
  std::string name;
  bool is_fresh = false;
};

Result<void> start(const StartArguments& arguments, CommandContext& context) {
  BYGONE_ASSIGN(const auto machine, find_machine(arguments.name));
  BYGONE_ASSIGN(const auto read, library::load(machine));
  tell_warnings(read, context);
  if (arguments.is_fresh) {
    BYGONE_ASSIGN(const UniqueFd held, library::lock(machine));
    std::error_code error;
    std::filesystem::remove(machine.saved_state(), error);
    if (error) return fail_errno(error.value(), "giving up " + machine.saved_state().string());
  }
  return service::launch(machine);
}

/// How the machine ended, or nothing at the deadline.
Result<std::optional<control::Ended>> wait_for_end(control::Client& client, std::chrono::steady_clock::time_point deadline, const CommandContext& context) {
  while (std::chrono::steady_clock::now() < deadline && !context.is_cancelled()) {
    auto event = client.next_event(std::chrono::milliseconds(200));
    if (!event && event.error().code == ErrorCode::kCancelled) return control::Ended{"stopped", {}};
    if (!event) return std::unexpected(std::move(event).error());
    if (!*event) continue;
    if (const auto* ended = std::get_if<control::Ended>(&(*event)->event)) return *ended;
  }
  return std::nullopt;
}

Result<void> stop(const StopArguments& arguments, CommandContext& context) {
  BYGONE_ASSIGN(const auto client, connect_to(arguments.name));
  BYGONE_CHECK(client->ask(control::request::Stop{arguments.is_forced}));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(static_cast<std::int64_t>(arguments.seconds * 1000));
  BYGONE_ASSIGN(const auto ended, wait_for_end(*client, deadline, context));
  if (ended) return {};
  if (context.is_cancelled()) {
    return std::unexpected(Error{ErrorCode::kCancelled, fmt::format("\"{}\" has been asked to shut down and may still do so; it was not waited for", arguments.name),
                                 "bygone status tells how it is; bygone stop --force pulls the plug"});
  }
  return std::unexpected(Error{ErrorCode::kBusy,
                               fmt::format("\"{}\" has been asked to shut down and still runs after {} s", arguments.name, arguments.seconds),
                               "Wait longer with --wait, or pull the plug with --force"});
}

}  // namespace

void add_start_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("start", "Start a machine in the background, or go on where it was saved");
  auto arguments = std::make_shared<StartArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_flag("--fresh", arguments->is_fresh, "Give a saved state up, as if the plug had been pulled then");
  add_examples(*command, {{"Start it; it goes on when this terminal closes", "bygone start Demo"}});
  command->callback([arguments, &context] { context.finish(start(*arguments, context)); });
}

void add_stop_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("stop", "Ask a machine's guest to shut down, and wait for it");
  auto arguments = std::make_shared<StopArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_flag("--force", arguments->is_forced, "Pull the plug: the guest is not asked, and may lose what it has not written");
  command->add_option("--wait", arguments->seconds, "How long to wait for the guest")->type_name("SECONDS")->capture_default_str();
  add_examples(*command, {{"Shut the guest down", "bygone stop Demo"}, {"End a guest that does not listen", "bygone stop Demo --force"}});
  command->callback([arguments, &context] { context.finish(stop(*arguments, context)); });
}

}  // namespace bygone::programs
