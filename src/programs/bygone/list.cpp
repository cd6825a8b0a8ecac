// `bygone list`: the machines that there are, and which of them run.
#include <algorithm>

#include "programs/bygone/commands.h"
#include "programs/bygone/machine_argument.h"

namespace bygone::programs {
namespace {

struct Row {
  library::MachineFolder machine;
  std::string state, note;
};

std::string state_of(const library::MachineFolder& machine, std::string& note) {
  const auto status = running_status(machine);
  if (!status) {
    note = status.error().message;
    return "not answering";
  }
  if (!status->is_null()) return status->value("state", "running");
  std::error_code ignored;
  return std::filesystem::exists(machine.saved_state(), ignored) ? "saved" : "off";
}

Result<void> list(CommandContext& context) {
  BYGONE_ASSIGN(const auto library, library::Library::of_user());
  std::vector<Row> rows;
  std::size_t width = 4;
  for (library::MachineFolder& machine : library.list()) {
    Row row{std::move(machine), {}, {}};
    row.state = state_of(row.machine, row.note);
    if (const auto read = library::load(row.machine); !read) row.note = read.error().message;
    width = std::max(width, row.machine.name.size());
    rows.push_back(std::move(row));
  }
  nlohmann::json machines = nlohmann::json::array();
  for (const Row& row : rows) {
    if (context.is_json()) {
      machines.push_back({{"name", row.machine.name}, {"state", row.state}, {"folder", row.machine.folder.string()}, {"note", row.note}});
    } else {
      context.print(fmt::format("{:<{}}  {:<8}  {}{}{}", row.machine.name, width, row.state, row.machine.folder.string(), row.note.empty() ? "" : "  ", row.note));
    }
  }
  if (context.is_json()) context.print(machines);
  if (!context.is_json() && rows.empty()) context.print(fmt::format("no machines in {}; bygone create makes one", library.default_place().string()));
  return {};
}

}  // namespace

void add_list_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("list", "List the machines and how they are");
  context.add_json_flag(*command);
  add_examples(*command, {{"All machines", "bygone list"}, {"For a script", "bygone list --json"}});
  command->callback([&context] { context.finish(list(context)); });
}

}  // namespace bygone::programs
