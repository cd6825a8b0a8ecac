#include "programs/bygone/description.h"

namespace bygone::programs {
namespace {

/// The values of "{a,b,c}" in a type name such as "KIND:{a,b,c}", which is how CLI11 shows a membership check.
std::vector<std::string> choices_in(const std::string& type_name) {
  const std::size_t open = type_name.find('{');
  const std::size_t close = type_name.find('}', open);
  std::vector<std::string> choices;
  if (open == std::string::npos || close == std::string::npos) return choices;
  std::size_t start = open + 1;
  while (start < close) {
    const std::size_t end = std::min(type_name.find(',', start), close);
    choices.push_back(type_name.substr(start, end - start));
    start = end + 1;
  }
  return choices;
}

OptionDescription describe_option(const CLI::Option& option) {
  OptionDescription result;
  for (const std::string& name : option.get_snames()) result.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) result.names.push_back("--" + name);
  if (option.get_positional()) result.positional = option.get_name(true);
  if (option.get_items_expected_max() > 0) {
    const std::string type_name = option.get_type_name();
    result.choices = choices_in(type_name);
    result.value_name = type_name.substr(0, type_name.find_first_of(":{ "));
    if (result.value_name.empty() || result.value_name == "TEXT") result.value_name = "VALUE";
  }
  result.description = option.get_description();
  result.is_required = option.get_required();
  return result;
}

}  // namespace

std::string CommandDescription::joined_path(char separator) const {
  std::string text;
  for (const std::string& part : path) {
    if (!text.empty()) text += separator;
    text += part;
  }
  return text;
}

CommandDescription describe(const CLI::App& app, std::vector<std::string> parents) {
  CommandDescription result;
  result.path = std::move(parents);
  result.path.push_back(app.get_name());
  result.description = app.get_description();
  result.footer = app.get_footer();
  for (const CLI::Option* option : app.get_options()) result.options.push_back(describe_option(*option));
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!command->get_name().empty()) result.commands.push_back(describe(*command, result.path));
  }
  return result;
}

}  // namespace bygone::programs
