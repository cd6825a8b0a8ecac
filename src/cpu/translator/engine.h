// The software engine: x86-64 guests on an x86-64 host without hardware virtualization.
#pragma once

#include <memory>

#include "cpu/partition.h"

namespace bygone::cpu::translator {

/// Threading: the engine from one thread at a time; partitions as cpu/partition.h says.
[[nodiscard]] std::unique_ptr<Engine> create_engine();

}  // namespace bygone::cpu::translator
