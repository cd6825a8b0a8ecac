#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "programs/bygone/commands.h"
#include "programs/bygone/description.h"

namespace bygone::programs {
namespace {

using testing::HasSubstr;

struct Outcome {
  ExitCode code;
  std::string out;
  std::string err;
};

Outcome run(std::vector<std::string> arguments) {
  const std::atomic<bool> cancelled = false;
  std::ostringstream out;
  std::ostringstream err;
  const ExitCode code = run_program(std::move(arguments), out, err, cancelled);
  return {code, out.str(), err.str()};
}

void visit(const CommandDescription& command, const std::function<void(const CommandDescription&)>& visitor) {
  visitor(command);
  for (const CommandDescription& child : command.commands) visit(child, visitor);
}

CommandDescription whole_description() {
  const std::atomic<bool> cancelled = false;
  std::ostringstream stream;
  CommandContext context(stream, stream, cancelled);
  return describe(*describe_program(context));
}

TEST(Program, help_is_done_and_shows_examples) {
  const Outcome outcome = run({"--help"});
  EXPECT_EQ(outcome.code, ExitCode::kDone);
  EXPECT_THAT(outcome.out, HasSubstr("Examples:"));
}

TEST(Program, wrong_use_is_two) {
  EXPECT_EQ(run({}).code, ExitCode::kUsage);
  EXPECT_EQ(run({"no-such-command"}).code, ExitCode::kUsage);
  EXPECT_EQ(run({"man", "--no-such-option"}).code, ExitCode::kUsage);
}

TEST(Program, failure_is_one_and_says_why) {
  const Outcome outcome = run({"man", "no-such-command"});
  EXPECT_EQ(outcome.code, ExitCode::kFailed);
  EXPECT_THAT(outcome.err, HasSubstr("bygone has no command \"no-such-command\""));
}

TEST(Program, every_command_says_what_it_is_for) {
  visit(whole_description(), [](const CommandDescription& command) {
    EXPECT_FALSE(command.description.empty()) << command.joined_path(' ');
    for (const OptionDescription& option : command.options) {
      EXPECT_FALSE(option.description.empty()) << command.joined_path(' ') << " " << option.positional;
    }
  });
}

TEST(Program, completion_names_every_command_and_option) {
  const CommandDescription root = whole_description();
  const std::string bash = bash_completion(root);
  const std::string fish = fish_completion(root);
  visit(root, [&](const CommandDescription& command) {
    EXPECT_THAT(bash, HasSubstr("'" + command.joined_path(' ') + "')"));
    for (const CommandDescription& child : command.commands) EXPECT_THAT(fish, HasSubstr("'" + child.path.back() + "'"));
    for (const OptionDescription& option : command.options) {
      for (const std::string& name : option.names) EXPECT_THAT(bash, HasSubstr(name));
    }
  });
}

TEST(Program, man_page_has_the_parts_that_readers_expect) {
  const Outcome outcome = run({"man", "completion"});
  EXPECT_EQ(outcome.code, ExitCode::kDone);
  for (const char* part : {".TH BYGONE\\-COMPLETION 1", ".SH NAME", ".SH SYNOPSIS", ".SH EXAMPLES", ".SH EXIT STATUS"}) {
    EXPECT_THAT(outcome.out, HasSubstr(part));
  }
}

}  // namespace
}  // namespace bygone::programs
