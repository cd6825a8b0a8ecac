// `bygone completion bash|zsh|fish`: scripts generated from the description of the commands.
#include <fmt/format.h>

#include <functional>

#include "programs/bygone/commands.h"
#include "programs/bygone/description.h"

namespace bygone::programs {
namespace {

void walk(const CommandDescription& command, const std::function<void(const CommandDescription&)>& visit) {
  visit(command);
  for (const CommandDescription& child : command.commands) walk(child, visit);
}

/// What may follow a command: its subcommands, its options and the values of its positionals.
std::string words_after(const CommandDescription& command) {
  std::string words;
  const auto add = [&words](const std::string& word) { words += (words.empty() ? "" : " ") + word; };
  for (const CommandDescription& child : command.commands) add(child.path.back());
  for (const OptionDescription& option : command.options) {
    for (const std::string& name : option.names) add(name);
    if (!option.positional.empty()) {
      for (const std::string& choice : option.choices) add(choice);
    }
  }
  return words;
}

std::string shell_quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\n') break;
    if (c == '\'') {
      result += "'\\''";
    } else {
      result += c;
    }
  }
  return result + "'";
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

}  // namespace

std::string bash_completion(const CommandDescription& root) {
  std::string paths;
  std::string words;
  std::string values;
  walk(root, [&](const CommandDescription& command) {
    const std::string path = command.joined_path(' ');
    paths += fmt::format("      {}) path=\"$next\" ;;\n", shell_quoted(path));
    words += fmt::format("    {}) words={} ;;\n", shell_quoted(path), shell_quoted(words_after(command)));
    for (const OptionDescription& option : command.options) {
      if (option.choices.empty()) continue;
      for (const std::string& name : option.names) {
        values += fmt::format("    {}) COMPREPLY=($(compgen -W {} -- \"$current\")); return ;;\n", shell_quoted(fmt::format("{} {}", path, name)),
                              shell_quoted(join(option.choices)));
      }
    }
  });
  return fmt::format(R"(# Completion of bygone's command line for bash.
_bygone() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" path=bygone words= next i
  for ((i = 1; i < COMP_CWORD; i++)); do
    next="$path ${{COMP_WORDS[i]}}"
    case "$next" in
{}    esac
  done
  case "$path $previous" in
{}  esac
  case "$path" in
{}  esac
  COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -- "$current"))
}}
complete -o filenames -F _bygone bygone
)",
                     paths, values, words);
}

std::string zsh_completion(const CommandDescription& root) {
  return "#compdef bygone\nautoload -U +X bashcompinit && bashcompinit\n" + bash_completion(root);
}

std::string fish_completion(const CommandDescription& root) {
  std::string text = "# Completion of bygone's command line for fish.\n";
  walk(root, [&](const CommandDescription& command) {
    std::string condition;
    if (command.path.size() == 1) {
      condition = "__fish_use_subcommand";
    } else {
      for (std::size_t i = 1; i < command.path.size(); ++i) {
        condition += fmt::format("{}__fish_seen_subcommand_from {}", i > 1 ? "; and " : "", command.path[i]);
      }
    }
    for (const CommandDescription& child : command.commands) {
      text += fmt::format("complete -c bygone -n {} -a {} -d {}\n", shell_quoted(condition), shell_quoted(child.path.back()),
                          shell_quoted(child.description));
    }
    for (const OptionDescription& option : command.options) {
      if (!option.positional.empty()) {
        if (!option.choices.empty()) {
          text += fmt::format("complete -c bygone -n {} -a {}\n", shell_quoted(condition), shell_quoted(join(option.choices)));
        }
        continue;
      }
      std::string line = fmt::format("complete -c bygone -n {}", shell_quoted(condition));
      for (const std::string& name : option.names) {
        line += name.starts_with("--") ? fmt::format(" -l {}", name.substr(2)) : fmt::format(" -s {}", name.substr(1));
      }
      if (!option.value_name.empty()) line += " -r";
      if (!option.choices.empty()) line += fmt::format(" -f -a {}", shell_quoted(join(option.choices)));
      text += fmt::format("{} -d {}\n", line, shell_quoted(option.description));
    }
  });
  return text;
}

void add_completion_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("completion", "Print a script that completes bygone's commands in a shell");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "The shell")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  add_examples(*command, {{"For this session of bash", "source <(bygone completion bash)"},
                          {"For fish, for good", "bygone completion fish > ~/.config/fish/completions/bygone.fish"}});
  command->callback([&root, &context, shell] {
    const CommandDescription description = describe(root);
    context.out() << (*shell == "bash"  ? bash_completion(description)
                      : *shell == "zsh" ? zsh_completion(description)
                                        : fish_completion(description));
    context.finish(ExitCode::kDone);
  });
}

}  // namespace bygone::programs
