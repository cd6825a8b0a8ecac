// From a definition to the options of a machine: opens what it names. Threading: plain functions.
#pragma once

#include "library/library.h"
#include "machine/gen2/machine.h"

namespace bygone::programs::vm {

/// Opens disks and images; `com1` is what "console" means. Errors: what can't be opened, named.
[[nodiscard]] Result<machine::gen2::MachineOptions> machine_options(const library::Definition& definition, const library::MachineFolder& folder,
                                                                    const machine::gen2::SerialOptions& console);

}  // namespace bygone::programs::vm
