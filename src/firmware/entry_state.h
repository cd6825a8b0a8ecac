// What loaders hand over: the registers that the boot processor starts with.
#pragma once

#include "cpu/state.h"

namespace bygone::firmware {

struct EntryState {
  cpu::GeneralRegisters general;
  cpu::SystemRegisters system;
};

}  // namespace bygone::firmware
