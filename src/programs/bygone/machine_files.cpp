// `bygone rename`, `bygone clone`, `bygone delete`.
#include <ostream>

#include "library/changes.h"
#include "programs/bygone/commands.h"
#include "programs/bygone/machine_argument.h"

namespace bygone::programs {
namespace {

struct NewNameArguments {
  std::string name, new_name;
};

struct DeleteArguments {
  std::string name;
  bool is_permanent = false;
};

Result<void> check_free(const std::string& name) {
  BYGONE_CHECK(library::check_name(name));
  const auto there = find_machine(name);
  return there ? fail(ErrorCode::kAlreadyExists, "there is a machine \"{}\" in {}", name, there->folder.string()) : Result<void>();
}

Result<void> rename(const NewNameArguments& arguments) {
  BYGONE_ASSIGN(const auto machine, find_machine(arguments.name));
  BYGONE_CHECK(check_free(arguments.new_name));
  BYGONE_CHECK(library::rename(machine, arguments.new_name));
  return {};
}

Result<void> clone(const NewNameArguments& arguments, CommandContext& context) {
  BYGONE_ASSIGN(const auto machine, find_machine(arguments.name));
  BYGONE_CHECK(check_free(arguments.new_name));
  BYGONE_CHECK(library::clone(machine, arguments.new_name));
  if (std::error_code ignored; std::filesystem::exists(machine.saved_state(), ignored)) {
    context.err() << "bygone: \"" << machine.name << "\" is saved; the copy has its disks, not that state, and starts as if the plug had been pulled then\n";
  }
  return {};
}

Result<void> remove(const DeleteArguments& arguments, CommandContext& context) {
  BYGONE_ASSIGN(const auto machine, find_machine(arguments.name));
  if (arguments.is_permanent) return library::remove(machine);
  BYGONE_ASSIGN(const auto where, library::move_to_trash(machine));
  context.print(fmt::format("\"{}\" is in the trash: {}", machine.name, where.string()));
  return {};
}

}  // namespace

void add_rename_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("rename", "Give a machine another name");
  auto arguments = std::make_shared<NewNameArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_option("new-name", arguments->new_name, "Its new name")->required()->type_name("NEWNAME");
  add_examples(*command, {{"From Demo to Museum", "bygone rename Demo Museum"}});
  command->callback([arguments, &context] { context.finish(rename(*arguments)); });
}

void add_clone_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("clone", "Make a copy of a machine, its disks included");
  auto arguments = std::make_shared<NewNameArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_option("new-name", arguments->new_name, "The copy's name")->required()->type_name("NEWNAME");
  add_examples(*command, {{"A second Demo", "bygone clone Demo \"Demo 2\""}});
  command->callback([arguments, &context] { context.finish(clone(*arguments, context)); });
}

void add_delete_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("delete", "Move a machine, with the disks in its folder, to the trash");
  auto arguments = std::make_shared<DeleteArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_flag("--permanently", arguments->is_permanent, "Remove it for good instead");
  add_examples(*command, {{"To the trash, from where it can be restored", "bygone delete Demo"}, {"For good", "bygone delete Demo --permanently"}});
  command->callback([arguments, &context] { context.finish(remove(*arguments, context)); });
}

}  // namespace bygone::programs
