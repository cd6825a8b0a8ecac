// `bygone engine`: which processor engines there are, whether they can serve a guest here, and why (not).
#include <fmt/format.h>

#include "machine/engine_choice.h"
#include "programs/bygone/commands.h"

namespace bygone::programs {
namespace {

struct Arguments {
  bool is_fresh = false;
};

struct EngineRow {
  std::string name;
  cpu::EngineStatus status;
};

std::string to_text(const EngineRow& row, bool is_taken) {
  std::string text = fmt::format("{}: {}{}\n  {}", row.name, row.status.is_usable ? "usable" : "not usable",
                                 is_taken ? ", taken by default" : "", row.status.reason);
  if (!row.status.hint.empty()) text += fmt::format("\n  {}", row.status.hint);
  return text;
}

nlohmann::json to_json(const EngineRow& row, bool is_taken) {
  return {{"name", row.name},
          {"usable", row.status.is_usable},
          {"default", is_taken},
          {"million_instructions_per_second", row.status.million_instructions_per_second},
          {"reason", row.status.reason},
          {"hint", row.status.hint}};
}

Result<void> list_engines(const Arguments& arguments, CommandContext& context) {
  const machine::ProbeCache cache = machine::ProbeCache::of_user();
  bool is_any_taken = false;
  nlohmann::json list = nlohmann::json::array();
  for (const std::unique_ptr<cpu::Engine>& engine : machine::create_engines()) {
    EngineRow row{std::string(engine->name()), {}};
    if (arguments.is_fresh) {
      row.status = engine->probe();
      cache.keep(row.name, row.status);
    } else {
      row.status = machine::engine_status(*engine, cache);
    }
    const bool is_taken = row.status.is_usable && !is_any_taken;
    is_any_taken = is_any_taken || is_taken;
    if (context.is_json()) {
      list.push_back(to_json(row, is_taken));
    } else {
      context.print(to_text(row, is_taken));
    }
  }
  if (context.is_json()) context.print(list);
  return {};
}

}  // namespace

void add_engine_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("engine", "List the processor engines and whether they work here");
  const auto arguments = std::make_shared<Arguments>();
  command->add_flag("--fresh", arguments->is_fresh, "Measure again instead of using what an earlier run found");
  context.add_json_flag(*command);
  command->callback([arguments, &context] { context.finish(list_engines(*arguments, context)); });
  add_examples(*command, {{"See why KVM is not used", "bygone engine"},
                          {"Measure again, for a script", "bygone engine --fresh --json"}});
}

}  // namespace bygone::programs
