#include "programs/bygone/command_context.h"

#include <unistd.h>

#include <ostream>

namespace bygone::programs {

CommandContext::CommandContext(std::ostream& out, std::ostream& err, const std::atomic<bool>& cancelled)
    : out_(out), err_(err), cancelled_(cancelled) {}

void CommandContext::add_json_flag(CLI::App& command) {
  command.add_flag("--json", is_json_, "Print JSON, for programs to read");
}

bool CommandContext::shows_progress_bar() const { return !is_json_ && ::isatty(STDERR_FILENO) == 1; }

void CommandContext::print(const std::string& text) { out_ << text << '\n'; }

void CommandContext::print(const nlohmann::json& value) {
  // Names of files need not be UTF-8; what is not is replaced rather than thrown about.
  out_ << value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

void CommandContext::finish(const Result<void>& result) {
  if (result) {
    exit_code_ = ExitCode::kDone;
    return;
  }
  exit_code_ = ExitCode::kFailed;
  const Error& error = result.error();
  if (is_json_) {
    print(nlohmann::json{{"error", {{"code", to_string(error.code)}, {"message", error.message}, {"hint", error.hint}}}});
    return;
  }
  err_ << "bygone: " << error.message << '\n';
  if (!error.hint.empty()) err_ << "  " << error.hint << '\n';
}

void add_examples(CLI::App& command, std::initializer_list<Example> examples) {
  std::string text = "Examples:";
  for (const Example& example : examples) text += "\n  # " + example.purpose + "\n  " + example.command;
  command.footer(text);
}

}  // namespace bygone::programs
