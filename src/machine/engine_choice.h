// Which engine runs a machine: the one that was asked for, or the best one that works here.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "cpu/partition.h"
#include "support/log.h"

namespace bygone::machine {

/// All engines, in the order of preference.
[[nodiscard]] std::vector<std::unique_ptr<cpu::Engine>> create_engines();

/// `name` is "auto", "kvm" or "software". Errors: kInvalidArgument (no such engine), kUnsupported with the engine's reason.
[[nodiscard]] Result<std::unique_ptr<cpu::Engine>> choose_engine(std::string_view name, const Log& log);

}  // namespace bygone::machine
