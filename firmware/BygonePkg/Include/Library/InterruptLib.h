/** @file
  A short way into an interrupt handler. EDK II's own entry saves everything that a dump of a fault may want to show: control and
  debug registers too, each of which may cost an exit, and CR8, whose restoring with an interrupt pending QEMU's emulation of
  nested virtualization (7.2) does not survive. Interrupts that come a hundred times a second need none of it.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_INTERRUPT_LIB_H_
#define BYGONE_INTERRUPT_LIB_H_

#include <Uefi.h>

/// Runs with interrupts off, on the stack of what it interrupts; the registers that a call may change are saved around it.
typedef
VOID
(EFIAPI *INTERRUPT_HANDLER)(
  VOID
  );

/// Points the vector's gate at Handler; one vector for each driver that this library is linked to. The table must be CpuDxe's already.
VOID
InterruptInstall (
  IN UINT8              Vector,
  IN INTERRUPT_HANDLER  Handler
  );

/// Tells the local APIC that the interrupt has been handled: one exit from the guest. LocalApicLib's function asks the processor twice
/// over which kind of APIC it has and where, which makes seven.
VOID
InterruptEnd (
  VOID
  );

#endif
