#include "machine/engine_choice.h"

#include "cpu/kvm/engine.h"

namespace bygone::machine {

std::vector<std::unique_ptr<cpu::Engine>> create_engines() {
  std::vector<std::unique_ptr<cpu::Engine>> engines;
  engines.push_back(cpu::kvm::create_engine());
  return engines;
}

Result<std::unique_ptr<cpu::Engine>> choose_engine(std::string_view name, const Log& log) {
  std::string reasons, hint;
  for (std::unique_ptr<cpu::Engine>& engine : create_engines()) {
    if (name != "auto" && name != engine->name()) continue;
    const cpu::EngineStatus status = engine->probe();
    if (status.is_usable) return std::move(engine);
    log.info("engine {} is not used: {}", engine->name(), status.reason);
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", engine->name(), status.reason);
    if (hint.empty()) hint = status.hint;
  }
  if (reasons.empty()) return fail(ErrorCode::kInvalidArgument, "there is no engine called \"{}\"", name);
  return std::unexpected(Error{ErrorCode::kUnsupported, "no processor engine is usable (" + reasons + ")", hint});
}

}  // namespace bygone::machine
