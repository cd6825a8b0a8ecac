// Which engine runs a machine: the one that was asked for, or the best one that works here.
// Threading: plain functions; engines are probed one after the other.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "cpu/partition.h"
#include "machine/probe_cache.h"
#include "support/log.h"

namespace bygone::machine {

/// All engines, in the order of preference.
[[nodiscard]] std::vector<std::unique_ptr<cpu::Engine>> create_engines();

/// What is known of an engine: from the cache when it still holds, else by probing (up to 300 ms), which the cache then keeps.
[[nodiscard]] cpu::EngineStatus engine_status(cpu::Engine& engine, const ProbeCache& cache);

/// `name` is "auto", "kvm" or "software". Errors: kInvalidArgument (no such engine), kUnsupported with the engine's reason.
[[nodiscard]] Result<std::unique_ptr<cpu::Engine>> choose_engine(std::string_view name, const Log& log);

/// The software engine, which compares its translator with its interpreter; one processor. `instructions`: when to compare memory.
[[nodiscard]] Result<std::unique_ptr<cpu::Engine>> create_lockstep_engine(std::uint64_t instructions);

/// The same among given engines; for tests.
[[nodiscard]] Result<std::unique_ptr<cpu::Engine>> choose_engine(std::vector<std::unique_ptr<cpu::Engine>> engines,
                                                                 std::string_view name, const ProbeCache& cache,
                                                                 const Log& log);

}  // namespace bygone::machine
