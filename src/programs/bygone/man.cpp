// `bygone man`: manual pages generated from the description of the commands.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "programs/bygone/commands.h"
#include "programs/bygone/description.h"

namespace bygone::programs {
namespace {

/// Text as troff takes it: hyphens that stay hyphens, no line that starts with a control character.
std::string escaped(const std::string& text) {
  std::string result;
  bool at_line_start = true;
  for (const char c : text) {
    if (at_line_start && (c == '.' || c == '\'')) result += "\\&";
    if (c == '-') {
      result += "\\-";
    } else if (c == '\\') {
      result += "\\e";
    } else {
      result += c;
    }
    at_line_start = c == '\n';
  }
  return result;
}

std::string synopsis(const CommandDescription& command) {
  std::string text = "\\fB" + escaped(command.joined_path(' ')) + "\\fR";
  if (!command.commands.empty()) text += " \\fICOMMAND\\fR";
  bool has_options = false;
  for (const OptionDescription& option : command.options) {
    if (option.positional.empty()) {
      has_options = true;
    } else {
      text += option.is_required ? fmt::format(" \\fI{}\\fR", escaped(option.positional))
                                 : fmt::format(" [\\fI{}\\fR]", escaped(option.positional));
    }
  }
  return has_options ? text + " [\\fIOPTION\\fR...]" : text;
}

std::string option_entry(const OptionDescription& option) {
  std::string heading = option.positional.empty() ? "" : "\\fI" + escaped(option.positional) + "\\fR";
  for (const std::string& name : option.names) heading += (heading.empty() ? "\\fB" : ", \\fB") + escaped(name) + "\\fR";
  if (option.positional.empty() && !option.value_name.empty()) heading += " \\fI" + escaped(option.value_name) + "\\fR";
  std::string text = option.description;
  if (!option.choices.empty()) {
    text += " (one of";
    for (const std::string& choice : option.choices) text += " " + choice;
    text += ")";
  }
  return fmt::format(".TP\n{}\n{}\n", heading, escaped(text));
}

Result<void> write_pages(const CommandDescription& command, const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / (command.joined_path('-') + ".1");
  std::ofstream file(path);
  file << man_page(command);
  file.close();
  if (!file) return fail(ErrorCode::kIo, "the page {} can't be written", path.string());
  for (const CommandDescription& child : command.commands) BYGONE_CHECK(write_pages(child, directory));
  return {};
}

Result<const CommandDescription*> find(const CommandDescription& root, const std::vector<std::string>& names) {
  const CommandDescription* command = &root;
  for (const std::string& name : names) {
    const CommandDescription* next = nullptr;
    for (const CommandDescription& child : command->commands) {
      if (child.path.back() == name) next = &child;
    }
    if (next == nullptr) return fail(ErrorCode::kNotFound, "{} has no command \"{}\"", command->joined_path(' '), name);
    command = next;
  }
  return command;
}

}  // namespace

std::string man_page(const CommandDescription& command) {
  std::string upper = command.joined_path('-');
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  std::string text = fmt::format(".TH {} 1 \"\" \"Bygone\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n{}\n", escaped(upper),
                                 escaped(command.joined_path('-')), escaped(command.description), synopsis(command));
  if (!command.options.empty()) {
    text += ".SH OPTIONS\n";
    for (const OptionDescription& option : command.options) text += option_entry(option);
  }
  if (!command.commands.empty()) {
    text += ".SH COMMANDS\n";
    for (const CommandDescription& child : command.commands) {
      text += fmt::format(".TP\n\\fB{}\\fR\n{}\nSee \\fB{}\\fR(1).\n", escaped(child.path.back()), escaped(child.description),
                          escaped(child.joined_path('-')));
    }
  }
  if (command.footer.starts_with("Examples:\n")) {
    text += ".SH EXAMPLES\n.nf\n" + escaped(command.footer.substr(command.footer.find('\n') + 1)) + "\n.fi\n";
  }
  text += ".SH EXIT STATUS\n0 when done, 1 when it failed, 2 when it was used wrongly.\n";
  return text;
}

void add_man_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("man", "Print the manual page of a command");
  struct Options {
    std::vector<std::string> names;
    std::string directory;
  };
  auto options = std::make_shared<Options>();
  command->add_option("command", options->names, "The command; none for bygone itself");
  command->add_option("--directory", options->directory, "Write the pages of all commands into this directory")
      ->type_name("DIRECTORY");
  add_examples(*command, {{"Read about creating disks", "bygone man disk create | man -l -"},
                          {"Write all pages", "bygone man --directory /usr/local/share/man/man1"}});
  command->callback([&root, &context, options] {
    const CommandDescription description = describe(root);
    if (!options->directory.empty()) return context.finish(write_pages(description, options->directory));
    const auto found = find(description, options->names);
    if (!found) return context.finish(std::unexpected(found.error()));
    context.out() << man_page(**found);
    context.finish(ExitCode::kDone);
  });
}

}  // namespace bygone::programs
