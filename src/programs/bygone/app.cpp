// `bygone app`: the programs of a running machine's guest, through its integration agent.
#include <chrono>
#include <thread>

#include "programs/bygone/commands.h"
#include "programs/bygone/machine_argument.h"
#include "seamless/agent_client.h"
#include "service/control/runtime_directory.h"
#include "service/launch.h"
#include "spec/agent/protocol.h"

namespace bygone::programs {
namespace {

struct AppArguments {
  std::string name, program;
  std::vector<std::string> words;
  bool is_command = false, lists_windows = false;
  double seconds = 60;
};

/// A guest that has just been started has no agent yet: tries until `seconds` have passed.
Result<std::unique_ptr<seamless::AgentClient>> connect_to_agent(const library::MachineFolder& machine, double seconds, const CommandContext& context) {
  const auto path = service::control::guest_sockets(machine.name) / fmt::format("guest-{}", spec::agent::kVsockPort);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
  for (;;) {
    auto client = seamless::AgentClient::connect(path.string(), std::chrono::seconds(10));
    if (client || client.error().code == ErrorCode::kUnsupported) return client;
    if (std::chrono::steady_clock::now() >= deadline || context.is_cancelled()) {
      return std::unexpected(Error{ErrorCode::kNotFound, fmt::format("\"{}\" has no agent that answers: {}", machine.name, client.error().message),
                                   "Install bygone-agent in the guest, and wait until its session has started (--wait)"});
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

Result<void> list_programs(seamless::AgentClient& agent, CommandContext& context) {
  BYGONE_ASSIGN(const auto programs, agent.list_programs());
  nlohmann::json list = nlohmann::json::array();
  for (const auto& program : programs) {
    if (!context.is_json()) context.print(fmt::format("{}  {}{}", program.id, program.name, program.is_windows_program ? "  (Windows)" : ""));
    list.push_back({{"id", program.id}, {"name", program.name}, {"comment", program.comment}, {"windows", program.is_windows_program}});
  }
  if (context.is_json()) context.print(list);
  return {};
}

Result<void> list_windows(seamless::AgentClient& agent, CommandContext& context) {
  BYGONE_ASSIGN(const auto windows, agent.list_windows());
  nlohmann::json list = nlohmann::json::array();
  for (const auto& window : windows) {
    if (!context.is_json()) context.print(fmt::format("{:#x}  {}x{}+{}+{}  {}  {}", window.id, window.width, window.height, window.x, window.y, window.class_name, window.title));
    list.push_back({{"id", window.id}, {"process", window.process}, {"title", window.title}, {"class", window.class_name}, {"x", window.x},
                    {"y", window.y}, {"width", window.width}, {"height", window.height}, {"active", window.is_active}, {"minimized", window.is_minimized}});
  }
  if (context.is_json()) context.print(list);
  return {};
}

Result<void> app(const AppArguments& arguments, CommandContext& context) {
  BYGONE_ASSIGN(const auto machine, find_machine(arguments.name));
  BYGONE_ASSIGN(const auto status, running_status(machine));
  if (status.is_null()) BYGONE_CHECK(service::launch(machine));
  BYGONE_ASSIGN(const auto agent, connect_to_agent(machine, arguments.seconds, context));
  if (arguments.lists_windows) return list_windows(*agent, context);
  if (arguments.program.empty()) return list_programs(*agent, context);
  auto words = arguments.words;
  if (arguments.is_command) words.insert(words.begin(), arguments.program);
  BYGONE_ASSIGN(const std::uint32_t process, arguments.is_command ? agent->start_command(words) : agent->start_program(arguments.program, words));
  if (context.is_json()) context.print(nlohmann::json{{"process", process}});
  return {};
}

}  // namespace

void add_app_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("app", "List or start programs in a machine, which is started when it is off");
  auto arguments = std::make_shared<AppArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_option("program", arguments->program, "The program to start, by its id; without one the programs are listed")->type_name("PROGRAM");
  command->add_option("words", arguments->words, "Files for it to open, by their names in the guest")->type_name("FILE");
  command->add_flag("--command", arguments->is_command, "PROGRAM and FILEs are a command line");
  command->add_flag("--windows", arguments->lists_windows, "List the windows that are open instead");
  command->add_option("--wait", arguments->seconds, "How long to wait for the guest's agent")->type_name("SECONDS")->capture_default_str();
  context.add_json_flag(*command);
  add_examples(*command, {{"What is installed", "bygone app Demo"},
                          {"Start one of them", "bygone app Demo org.bygone.sumatrapdf.desktop"},
                          {"A command line", "bygone app Demo --command -- winemine"},
                          {"What is open", "bygone app Demo --windows"}});
  command->callback([arguments, &context] { context.finish(app(*arguments, context)); });
}

}  // namespace bygone::programs
