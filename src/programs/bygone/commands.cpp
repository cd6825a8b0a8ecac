#include "programs/bygone/commands.h"

#include <algorithm>
#include <ostream>

namespace bygone::programs {

std::unique_ptr<CLI::App> describe_program(CommandContext& context) {
  auto root = std::make_unique<CLI::App>("Runs legacy Windows, and its applications, on a legacy-free machine", "bygone");
  root->set_version_flag("--version", "bygone 0.1.0", "Print the version");
  root->require_subcommand(1);
  add_create_command(*root, context);
  add_list_command(*root, context);
  add_show_command(*root, context);
  add_edit_command(*root, context);
  add_set_command(*root, context);
  add_rename_command(*root, context);
  add_clone_command(*root, context);
  add_delete_command(*root, context);
  add_start_command(*root, context);
  add_stop_command(*root, context);
  add_lifecycle_commands(*root, context);
  add_status_command(*root, context);
  add_screenshot_command(*root, context);
  add_type_command(*root, context);
  add_click_command(*root, context);
  add_drive_commands(*root, context);
  add_console_command(*root, context);
  add_log_command(*root, context);
  add_app_command(*root, context);
  add_inspect_command(*root, context);
  add_boot_command(*root, context);
  add_disk_command(*root, context);
  add_engine_command(*root, context);
  add_completion_command(*root, context);
  add_man_command(*root, context);
  add_examples(*root, {{"Make a machine, and start it", "bygone create Debian --disk-size 40G --dvd debian-12.iso && bygone start Debian"},
                       {"Make a disk that grows to 40 GiB", "bygone disk create xp.vhdx 40G"},
                       {"What can be done with disks", "bygone disk --help"}});
  return root;
}

ExitCode run_program(std::vector<std::string> arguments, std::ostream& out, std::ostream& err,
                     const std::atomic<bool>& cancelled) {
  CommandContext context(out, err, cancelled);
  const std::unique_ptr<CLI::App> root = describe_program(context);
  try {
    std::ranges::reverse(arguments);  // CLI11 takes them from the back
    root->parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    return root->exit(error, out, err) == 0 ? ExitCode::kDone : ExitCode::kUsage;
  }
  return context.exit_code();
}

}  // namespace bygone::programs
