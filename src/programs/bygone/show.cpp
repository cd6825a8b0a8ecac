// `bygone show`: a machine's definition.
#include <ostream>

#include "programs/bygone/commands.h"
#include "programs/bygone/machine_argument.h"

namespace bygone::programs {
namespace {

struct ShowArguments {
  std::string name;
  bool wants_schema = false;
};

Result<void> show(const ShowArguments& arguments, CommandContext& context) {
  if (arguments.wants_schema) {
    context.out() << library::write_document(library::definition_schema());
    return {};
  }
  if (arguments.name.empty()) return fail(ErrorCode::kInvalidArgument, "which machine? give its name");
  BYGONE_ASSIGN(const auto machine, find_machine(arguments.name));
  BYGONE_ASSIGN(const auto read, library::load(machine));
  tell_warnings(read, context);
  context.out() << library::write_document(read.document);
  return {};
}

}  // namespace

void add_show_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("show", "Print a machine's definition");
  auto arguments = std::make_shared<ShowArguments>();
  add_machine_argument(*command, arguments->name)->required(false);
  command->add_flag("--schema", arguments->wants_schema, "Print the JSON schema of definitions instead");
  add_examples(*command, {{"What the machine is made of", "bygone show Demo"}, {"Its memory, for a script", "bygone show Demo | jq -r .memory"}});
  command->callback([arguments, &context] { context.finish(show(*arguments, context)); });
}

}  // namespace bygone::programs
