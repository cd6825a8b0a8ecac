// `bygone disk`: makes, looks at and changes disk images.
#include "programs/bygone/commands.h"

namespace bygone::programs {

void add_disk_command(CLI::App& root, CommandContext& /*context*/) {
  CLI::App* disk = root.add_subcommand("disk", "Make, look at and change disk images");
  disk->require_subcommand(1);
}

}  // namespace bygone::programs
