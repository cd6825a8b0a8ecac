// `bygone set` and `bygone edit`: change a machine's definition.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <ostream>

#include "library/changes.h"
#include "programs/bygone/commands.h"
#include "programs/bygone/machine_argument.h"
#include "support/file.h"

namespace bygone::programs {
namespace {

using library::Document;

struct SetArguments {
  std::string name;
  std::vector<std::string> assignments, removals;
};

/// The JSON pointer of a dotted path, and whether what it goes through is there (lists are not grown by it).
Result<Document::json_pointer> pointer_to(const Document& document, const std::string& key) {
  Document::json_pointer pointer;
  const Document* at = &document;
  for (std::size_t start = 0; start <= key.size();) {
    const std::size_t end = std::min(key.find('.', start), key.size());
    const std::string step = key.substr(start, end - start);
    if (at != nullptr && at->is_array()) {
      const std::size_t index = std::strtoull(step.c_str(), nullptr, 10);
      if (index >= at->size()) return fail(ErrorCode::kNotFound, "{}: there are only {} entries", key, at->size());
      pointer /= index;
      at = &(*at)[index];
    } else {
      pointer /= step;
      const bool is_there = at != nullptr && at->is_object() && at->contains(step);
      at = is_there ? &(*at)[step] : nullptr;
    }
    start = end + 1;
  }
  return pointer;
}

Result<void> assign(Document& document, const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string key = assignment.substr(0, equals);
  const library::Field* field = library::find_field(key);
  if (equals == std::string::npos) return fail(ErrorCode::kInvalidArgument, "\"{}\" is not KEY=VALUE", assignment);
  if (field == nullptr) {
    return std::unexpected(Error{ErrorCode::kInvalidArgument, fmt::format("there is no key \"{}\"", key), "bygone show --schema lists the keys; bygone edit keeps any"});
  }
  if (key == "name") return std::unexpected(Error{ErrorCode::kInvalidArgument, "the name is that of the folder too", "Use bygone rename"});
  BYGONE_ASSIGN(auto value, library::parse_value(*field, assignment.substr(equals + 1)));
  BYGONE_ASSIGN(const auto pointer, pointer_to(document, key));
  document[pointer] = std::move(value);
  return {};
}

Result<void> warn_of_running(const library::MachineFolder& machine, CommandContext& context) {
  if (const auto held = library::lock(machine, {}); !held && held.error().code == ErrorCode::kBusy) {
    context.err() << "bygone: \"" << machine.name << "\" is running; the change takes effect when it is started again\n";
  }
  return {};
}

Result<void> set(const SetArguments& arguments, CommandContext& context) {
  BYGONE_ASSIGN(const auto machine, find_machine(arguments.name));
  BYGONE_ASSIGN(auto read, library::load(machine));
  for (const std::string& assignment : arguments.assignments) BYGONE_CHECK(assign(read.document, assignment));
  for (const std::string& key : arguments.removals) {
    BYGONE_ASSIGN(const auto pointer, pointer_to(read.document, key));
    if (!read.document.contains(pointer)) return fail(ErrorCode::kNotFound, "the definition has no key \"{}\"", key);
    const auto parent = pointer.parent_pointer();
    if (read.document[parent].is_array()) {
      read.document[parent].erase(std::strtoull(pointer.back().c_str(), nullptr, 10));
    } else {
      read.document[parent].erase(pointer.back());
    }
  }
  BYGONE_CHECK(library::store(machine, read.document));
  return warn_of_running(machine, context);
}

Result<void> run_editor(const std::string& file) {
  const char* visual = std::getenv("VISUAL");
  const char* plain = std::getenv("EDITOR");
  const std::string editor = visual != nullptr && *visual != '\0' ? visual : plain != nullptr && *plain != '\0' ? plain : "sensible-editor";
  const std::string command = editor + " \"$1\"";  // as git and others do: the variable may hold options
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "starting the editor");
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", command.c_str(), "sh", file.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return std::unexpected(Error{ErrorCode::kCancelled, fmt::format("the editor ({}) failed; nothing is changed", editor), "Set EDITOR to another"});
}

Result<void> edit(const std::string& name, CommandContext& context) {
  BYGONE_ASSIGN(const auto machine, find_machine(name));
  BYGONE_ASSIGN(const auto before, read_file(machine.definition(), library::kMaximumDefinitionBytes));
  const auto draft = machine.folder / (machine.name + ".draft");
  std::error_code ignored;
  const bool continues = std::filesystem::exists(draft, ignored);
  if (!continues) BYGONE_CHECK(replace_file(draft, before));
  BYGONE_CHECK(run_editor(draft.string()));
  BYGONE_ASSIGN(const auto after, read_file(draft, library::kMaximumDefinitionBytes));
  const std::string_view text(reinterpret_cast<const char*>(after.data()), after.size());
  auto read = library::read_definition(text, machine.definition().filename().string());
  if (!read) {
    return std::unexpected(Error{read.error().code, read.error().message, "Nothing is changed yet; bygone edit goes on where you were"});
  }
  if (read->definition.name != machine.name) return fail(ErrorCode::kInvalidArgument, "the name must stay \"{}\"; bygone rename changes it", machine.name);
  BYGONE_CHECK(replace_file(machine.definition(), after));
  std::filesystem::remove(draft, ignored);
  tell_warnings(*read, context);
  return warn_of_running(machine, context);
}

}  // namespace

void add_set_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("set", "Change keys of a machine's definition");
  auto arguments = std::make_shared<SetArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_option("change", arguments->assignments, "KEY=VALUE, such as memory=2G or boot.kernel=vmlinuz; lists and objects as JSON")->type_name("KEY=VALUE");
  command->add_option("--remove", arguments->removals, "Take a key out; may be repeated")->type_name("KEY");
  add_examples(*command, {{"More memory and processors, from the next start", "bygone set Demo memory=2G processors=2"},
                          {"An empty DVD drive", "bygone set Demo 'dvds=[{}]'"},
                          {"Its own firmware again", "bygone set Demo --remove boot.firmware"}});
  command->callback([arguments, &context] { context.finish(set(*arguments, context)); });
}

void add_edit_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("edit", "Change a machine's definition in your editor");
  auto name = std::make_shared<std::string>();
  add_machine_argument(*command, *name);
  add_examples(*command, {{"With the editor that VISUAL or EDITOR names", "EDITOR=nano bygone edit Demo"}});
  command->callback([name, &context] { context.finish(edit(*name, context)); });
}

}  // namespace bygone::programs
