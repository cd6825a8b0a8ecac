// `bygone status`: how a machine is.
#include "programs/bygone/commands.h"
#include "programs/bygone/machine_argument.h"
#include "support/size_text.h"

namespace bygone::programs {
namespace {

Result<void> status(const std::string& name, CommandContext& context) {
  BYGONE_ASSIGN(const auto machine, find_machine(name));
  BYGONE_ASSIGN(auto about, running_status(machine));
  if (about.is_null()) {
    std::error_code ignored;
    about = {{"name", machine.name}, {"state", std::filesystem::exists(machine.saved_state(), ignored) ? "saved" : "off"}};
  }
  if (context.is_json()) {
    context.print(about);
    return {};
  }
  std::string text = about.value("state", "");
  if (about.contains("engine")) {
    const auto& screen = about["screen"];
    text += fmt::format("\n  engine      {}\n  processors  {}\n  memory      {}\n  up          {:.0f} s\n  screen      {}\n  process     {}",
                        about.value("engine", ""), about.value("processors", 0), size_text(about.value("memory_bytes", std::uint64_t{0})),
                        about.value("seconds_up", 0.0),
                        screen.value("width", 0) == 0 ? "off" : fmt::format("{}x{}", screen.value("width", 0), screen.value("height", 0)), about.value("process", 0));
  }
  if (const std::string record = about.value("crash", ""); !record.empty()) text += "\n  crash       " + record.substr(0, record.find('\n'));
  context.print(text);
  return {};
}

}  // namespace

void add_status_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("status", "Tell how a machine is: off, saved, running, paused, stopping");
  auto name = std::make_shared<std::string>();
  add_machine_argument(*command, *name);
  context.add_json_flag(*command);
  add_examples(*command, {{"How is it?", "bygone status Demo"}, {"For a script", "bygone status Demo --json"}});
  command->callback([name, &context] { context.finish(status(*name, context)); });
}

}  // namespace bygone::programs
