// Reset and power off through the power management ports.
// SPDX-License-Identifier: Apache-2.0
extern "C" {
#include <Uefi.h>
#include <Library/BaseLib.h>
#include <Library/CpuLib.h>
#include <Library/IoLib.h>
#include <Library/ResetSystemLib.h>
}

namespace {

constexpr UINTN kPm1ControlPort = 0x404;
constexpr UINT16 kPm1SleepEnable = BIT13;  ///< with sleep type 0: S5
constexpr UINTN kResetPort = 0x433;

/// Until the host has done it.
[[noreturn]] void stop() {
  for (;;) CpuSleep();
}

[[noreturn]] void reset() {
  IoWrite8(kResetPort, 1);
  stop();
}

[[noreturn]] void power_off() {
  IoWrite16(kPm1ControlPort, kPm1SleepEnable);
  stop();
}

}  // namespace

// This machine has one reset.
void EFIAPI ResetCold() { reset(); }
void EFIAPI ResetWarm() { reset(); }
void EFIAPI ResetPlatformSpecific(UINTN, void*) { reset(); }
void EFIAPI ResetShutdown() { power_off(); }

void EFIAPI ResetSystem(EFI_RESET_TYPE type, EFI_STATUS, UINTN, void*) {
  if (type == EfiResetShutdown) power_off();
  reset();
}
