#include "machine/engine_choice.h"

#include "cpu/kvm/engine.h"
#include "cpu/translator/engine.h"

namespace bygone::machine {

std::vector<std::unique_ptr<cpu::Engine>> create_engines() {
  std::vector<std::unique_ptr<cpu::Engine>> engines;
  engines.push_back(cpu::kvm::create_engine());
  engines.push_back(cpu::translator::create_engine());
  return engines;
}

cpu::EngineStatus engine_status(cpu::Engine& engine, const ProbeCache& cache) {
  if (const auto known = cache.find(engine.name())) {
    // Fast yesterday is no use when the device is gone or closed to us today; asking for the features opens it.
    if (!known->is_usable || engine.supported_cpuid()) return *known;
  }
  const cpu::EngineStatus status = engine.probe();
  cache.keep(engine.name(), status);
  return status;
}

Result<std::unique_ptr<cpu::Engine>> choose_engine(std::vector<std::unique_ptr<cpu::Engine>> engines,
                                                   std::string_view name, const ProbeCache& cache, const Log& log) {
  std::string reasons, hint, names = "auto";
  for (std::unique_ptr<cpu::Engine>& engine : engines) {
    names += fmt::format(", {}", engine->name());
    if (name != "auto" && name != engine->name()) continue;
    const cpu::EngineStatus status = engine_status(*engine, cache);
    if (status.is_usable) return std::move(engine);
    if (name == engine->name() && status.million_instructions_per_second > 0) {
      // Asked for by name, and it runs: slow is the person's choice.
      log.warning("engine {}: {}", name, status.reason);
      return std::move(engine);
    }
    log.info("engine {} is not used: {}", engine->name(), status.reason);
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", engine->name(), status.reason);
    if (hint.empty()) hint = status.hint;
  }
  if (reasons.empty()) {
    return fail(ErrorCode::kInvalidArgument, "there is no engine called \"{}\"; there are {}", name, names);
  }
  return std::unexpected(Error{ErrorCode::kUnsupported, "no processor engine is usable (" + reasons + ")", hint});
}

Result<std::unique_ptr<cpu::Engine>> create_lockstep_engine(std::uint64_t instructions) {
  return cpu::translator::create_engine({.lockstep_instructions = instructions});
}

Result<std::unique_ptr<cpu::Engine>> choose_engine(std::string_view name, const Log& log) {
  return choose_engine(create_engines(), name, ProbeCache::of_user(), log);
}

}  // namespace bygone::machine
