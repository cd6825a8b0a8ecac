// The commands of `bygone`. To add one: a file <name>.cpp, a line here, a line in commands.cpp.
#pragma once

#include <memory>

#include "programs/bygone/command_context.h"

namespace bygone::programs {

void add_create_command(CLI::App& root, CommandContext& context);
void add_list_command(CLI::App& root, CommandContext& context);
void add_show_command(CLI::App& root, CommandContext& context);
void add_start_command(CLI::App& root, CommandContext& context);
void add_stop_command(CLI::App& root, CommandContext& context);
void add_status_command(CLI::App& root, CommandContext& context);
void add_screenshot_command(CLI::App& root, CommandContext& context);
void add_edit_command(CLI::App& root, CommandContext& context);
void add_set_command(CLI::App& root, CommandContext& context);
void add_rename_command(CLI::App& root, CommandContext& context);
void add_clone_command(CLI::App& root, CommandContext& context);
void add_delete_command(CLI::App& root, CommandContext& context);
void add_lifecycle_commands(CLI::App& root, CommandContext& context);
void add_type_command(CLI::App& root, CommandContext& context);
void add_click_command(CLI::App& root, CommandContext& context);
void add_drive_commands(CLI::App& root, CommandContext& context);
void add_console_command(CLI::App& root, CommandContext& context);
void add_log_command(CLI::App& root, CommandContext& context);
void add_app_command(CLI::App& root, CommandContext& context);
void add_inspect_command(CLI::App& root, CommandContext& context);
void add_boot_command(CLI::App& root, CommandContext& context);
void add_disk_command(CLI::App& root, CommandContext& context);
void add_engine_command(CLI::App& root, CommandContext& context);
void add_completion_command(CLI::App& root, CommandContext& context);
void add_man_command(CLI::App& root, CommandContext& context);

/// The whole description. `context` outlives it.
[[nodiscard]] std::unique_ptr<CLI::App> describe_program(CommandContext& context);

/// Parses and runs one command line (without the program's name); the whole program but for main().
[[nodiscard]] ExitCode run_program(std::vector<std::string> arguments, std::ostream& out, std::ostream& err,
                                   const std::atomic<bool>& cancelled);

}  // namespace bygone::programs
