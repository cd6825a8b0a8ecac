// The description of the commands as a tree of plain values, taken from CLI11 once; completion and man pages are written from it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace bygone::programs {

struct OptionDescription {
  std::vector<std::string> names;  ///< "--json", "-f"; empty for a positional
  std::string positional;          ///< its name when it is one
  std::string value_name;          ///< "FILE", "SIZE"; empty for a flag
  std::vector<std::string> choices;  ///< the values it takes, when they are a short list
  std::string description;
  bool is_required = false;
};

struct CommandDescription {
  std::vector<std::string> path;  ///< {"bygone", "disk", "create"}
  std::string description;
  std::string footer;
  std::vector<OptionDescription> options;
  std::vector<CommandDescription> commands;

  [[nodiscard]] std::string joined_path(char separator) const;
};

[[nodiscard]] CommandDescription describe(const CLI::App& app, std::vector<std::string> parents = {});

[[nodiscard]] std::string bash_completion(const CommandDescription& root);
[[nodiscard]] std::string zsh_completion(const CommandDescription& root);
[[nodiscard]] std::string fish_completion(const CommandDescription& root);
/// A page in man(7) macros.
[[nodiscard]] std::string man_page(const CommandDescription& command);

}  // namespace bygone::programs
