// What every command of `bygone` shares: where it writes, how it ends, and how it speaks of errors.
// Threading: one thread, the program's main one; is_cancelled() is safe anywhere.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <initializer_list>
#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>

#include "support/result.h"

namespace bygone::programs {

/// Exit codes that scripts can rely on.
enum class ExitCode : int { kDone = 0, kFailed = 1, kUsage = 2 };

/// A command is one file, `src/programs/bygone/<command>.cpp`, with one function that describes it to CLI11 and sets a callback
/// which ends in CommandContext::finish():
///
///   void add_<name>_command(CLI::App& root, CommandContext& context);
///
/// The description is the only one there is: --help, the shells' completion and the man pages are generated from it.
class CommandContext {
 public:
  /// `cancelled` is set from outside (Ctrl-C) when the command is to stop and leave everything as it was.
  CommandContext(std::ostream& out, std::ostream& err, const std::atomic<bool>& cancelled);

  /// Adds `--json` to a command; read it with is_json().
  void add_json_flag(CLI::App& command);
  [[nodiscard]] bool is_json() const { return is_json_; }
  /// Whether standard error is a terminal, where a progress bar helps.
  [[nodiscard]] bool shows_progress_bar() const;
  [[nodiscard]] bool is_cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  [[nodiscard]] const std::atomic<bool>& cancelled() const { return cancelled_; }

  [[nodiscard]] std::ostream& out() { return out_; }
  [[nodiscard]] std::ostream& err() { return err_; }
  /// Prints a line, or the value as JSON.
  void print(const std::string& text);
  void print(const nlohmann::json& value);

  /// Reports how the command went; to be called once, last.
  void finish(const Result<void>& result);
  void finish(ExitCode code) { exit_code_ = code; }
  [[nodiscard]] ExitCode exit_code() const { return exit_code_; }

 private:
  std::ostream& out_;
  std::ostream& err_;
  const std::atomic<bool>& cancelled_;
  bool is_json_ = false;
  ExitCode exit_code_ = ExitCode::kDone;
};

/// An example for the end of a command's --help and man page.
struct Example {
  std::string purpose;
  std::string command;
};
void add_examples(CLI::App& command, std::initializer_list<Example> examples);

}  // namespace bygone::programs
