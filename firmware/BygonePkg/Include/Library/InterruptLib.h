// A short way into an interrupt handler. EDK II's own entry saves everything that a dump of a fault may want to show: control and debug
// registers too, each of which may cost an exit, and CR8, whose restoring with an interrupt pending QEMU's emulation of nested
// virtualization (7.2) does not survive. Interrupts that come a hundred times a second need none of it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

extern "C" {
#include <Uefi.h>
#include <Library/BaseLib.h>
}

namespace bygone {

/// Interrupts are off while it lives, and afterwards as they were.
class InterruptsOff {
 public:
  InterruptsOff() : were_enabled_(SaveAndDisableInterrupts()) {}
  InterruptsOff(const InterruptsOff&) = delete;
  InterruptsOff& operator=(const InterruptsOff&) = delete;
  ~InterruptsOff() { SetInterruptState(were_enabled_); }

 private:
  const BOOLEAN were_enabled_;
};

namespace interrupt {

/// Runs with interrupts off, on the stack of what it interrupts; the registers that a call may change are saved around it.
using Handler = void(EFIAPI*)();

/// Points the vector's gate at the handler; one vector for each driver that this library is linked to. The table must be CpuDxe's already.
void install(UINT8 vector, Handler handler);

/// Tells the local APIC that the interrupt has been handled: one exit from the guest. LocalApicLib's function asks the processor twice over
/// which kind of APIC it has and where, which makes seven.
void end();

}  // namespace interrupt
}  // namespace bygone
