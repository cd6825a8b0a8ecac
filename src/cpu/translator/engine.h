// The software engine: x86-64 guests on an x86-64 host without hardware virtualization.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu/partition.h"

namespace bygone::cpu::translator {

/// Which tiers run guest code. For tests, which want one of them for code that runs once.
enum class Tiers : std::uint8_t {
  kBoth,             ///< what is visited again is translated
  kInterpreter,
  kTranslateAtOnce,  ///< at the first visit
};

struct EngineOptions {
  Tiers tiers = Tiers::kBoth;
  /// Not 0: every translation is compared with the interpreter, and memory after so many instructions (lockstep.h).
  std::uint64_t lockstep_instructions = 0;
};

/// Threading: the engine from one thread at a time; partitions as cpu/partition.h says.
[[nodiscard]] std::unique_ptr<Engine> create_engine(const EngineOptions& options = {});

}  // namespace bygone::cpu::translator
