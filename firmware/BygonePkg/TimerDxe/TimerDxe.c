/** @file
  The firmware's one clock tick. Synthetic timer 0 in direct mode where the hypervisor offers it (one MSR write to arm, no
  message slot shared with VMBus), else the local APIC's periodic timer.

  SPDX-License-Identifier: Apache-2.0
**/
#include <PiDxe.h>
#include <BygoneHyperV.h>
#include <Library/BaseLib.h>
#include <Library/DebugLib.h>
#include <Library/InterruptLib.h>
#include <Library/LocalApicLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Protocol/Timer.h>

#define TIMER_VECTOR           0x40
#define DEFAULT_PERIOD         100000        ///< 10 ms in 100 ns units
#define DEFAULT_APIC_FREQUENCY 1000000000ULL
#define UNITS_PER_SECOND       10000000

STATIC EFI_TIMER_NOTIFY  mNotify;
STATIC UINT64            mPeriod;
STATIC BOOLEAN           mSynthetic;
STATIC UINT64            mApicFrequency = DEFAULT_APIC_FREQUENCY;
STATIC BOOLEAN           mInTick;
STATIC UINT64            mMissedTicks;

STATIC VOID
Detect (
  VOID
  )
{
  UINT32  Eax;
  UINT32  Ecx;
  UINT32  Edx;

  AsmCpuid (1, NULL, NULL, &Ecx, NULL);
  if ((Ecx & BIT31) == 0) {
    return;
  }

  AsmCpuid (HV_CPUID_INTERFACE, &Eax, NULL, NULL, NULL);
  if (Eax != SIGNATURE_32 ('H', 'v', '#', '1')) {
    return;
  }

  AsmCpuid (HV_CPUID_FEATURES, &Eax, NULL, NULL, &Edx);
  mSynthetic = (BOOLEAN)(((Eax & HV_FEATURE_SYNTHETIC_TIMERS) != 0) && ((Edx & HV_FEATURE_EDX_DIRECT_TIMERS) != 0));
  if ((Eax & HV_FEATURE_FREQUENCY_MSRS) != 0) {
    mApicFrequency = AsmReadMsr64 (HV_MSR_APIC_FREQUENCY);
  }
}

STATIC VOID
EFIAPI
OnTick (
  VOID
  )
{
  EFI_TPL  Tpl;
  UINT64   Ticks;

  InterruptEnd ();
  // Lowering the level below runs event handlers with interrupts enabled, and on a busy host ticks come in bursts: a tick that
  // interrupts one is only counted, so that they never pile up on the stack.
  if (mInTick) {
    ++mMissedTicks;
    return;
  }

  mInTick      = TRUE;
  Ticks        = 1 + mMissedTicks;
  mMissedTicks = 0;
  Tpl          = gBS->RaiseTPL (TPL_HIGH_LEVEL);
  if (mNotify != NULL) {
    mNotify (MultU64x64 (mPeriod, Ticks));
  }

  gBS->RestoreTPL (Tpl);
  DisableInterrupts ();
  mInTick = FALSE;
}

STATIC EFI_STATUS
EFIAPI
RegisterHandler (
  IN EFI_TIMER_ARCH_PROTOCOL  *This,
  IN EFI_TIMER_NOTIFY         NotifyFunction
  )
{
  if ((NotifyFunction == NULL) == (mNotify == NULL)) {
    return (NotifyFunction == NULL) ? EFI_INVALID_PARAMETER : EFI_ALREADY_STARTED;
  }

  mNotify = NotifyFunction;
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
SetTimerPeriod (
  IN EFI_TIMER_ARCH_PROTOCOL  *This,
  IN UINT64                   TimerPeriod
  )
{
  UINT64  Ticks;

  if (mSynthetic) {
    AsmWriteMsr64 (HV_MSR_STIMER0_CONFIG, 0);
    if (TimerPeriod != 0) {
      AsmWriteMsr64 (
        HV_MSR_STIMER0_CONFIG,
        HV_STIMER_PERIODIC | HV_STIMER_LAZY | HV_STIMER_AUTO_ENABLE | HV_STIMER_DIRECT | (TIMER_VECTOR << 4)
        );
      AsmWriteMsr64 (HV_MSR_STIMER0_COUNT, TimerPeriod);
    }
  } else if (TimerPeriod == 0) {
    DisableApicTimerInterrupt ();
  } else {
    Ticks = DivU64x32 (MultU64x64 (mApicFrequency, TimerPeriod), UNITS_PER_SECOND);
    if ((Ticks == 0) || (Ticks > MAX_UINT32)) {
      return EFI_UNSUPPORTED;
    }

    InitializeApicTimer (1, (UINT32)Ticks, TRUE, TIMER_VECTOR);
    EnableApicTimerInterrupt ();
  }

  // A tick whose handlers were left for good, for they faulted, is over with this.
  mInTick      = FALSE;
  mMissedTicks = 0;
  mPeriod      = TimerPeriod;
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
GetTimerPeriod (
  IN  EFI_TIMER_ARCH_PROTOCOL  *This,
  OUT UINT64                   *TimerPeriod
  )
{
  if (TimerPeriod == NULL) {
    return EFI_INVALID_PARAMETER;
  }

  *TimerPeriod = mPeriod;
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
GenerateSoftInterrupt (
  IN EFI_TIMER_ARCH_PROTOCOL  *This
  )
{
  return EFI_UNSUPPORTED;
}

STATIC EFI_TIMER_ARCH_PROTOCOL  mTimer = { RegisterHandler, SetTimerPeriod, GetTimerPeriod, GenerateSoftInterrupt };

STATIC VOID
EFIAPI
OnExitBootServices (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  SetTimerPeriod (&mTimer, 0);
}

EFI_STATUS
EFIAPI
TimerEntry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  EFI_STATUS  Status;
  EFI_EVENT   Event;
  EFI_HANDLE  Handle;

  Detect ();
  InitializeLocalApicSoftwareEnable (TRUE);
  // Nothing is wired to the local interrupt pins that the firmware wants.
  DisableLvtInterrupts ();
  InterruptInstall (TIMER_VECTOR, OnTick);
  Status = SetTimerPeriod (&mTimer, DEFAULT_PERIOD);

  if (!EFI_ERROR (Status)) {
    // The core's own handling of ExitBootServices needs no tick any more.
    Status = gBS->CreateEvent (EVT_SIGNAL_EXIT_BOOT_SERVICES, TPL_CALLBACK, OnExitBootServices, NULL, &Event);
  }

  if (EFI_ERROR (Status)) {
    return Status;
  }

  Handle = NULL;
  return gBS->InstallMultipleProtocolInterfaces (&Handle, &gEfiTimerArchProtocolGuid, &mTimer, NULL);
}
