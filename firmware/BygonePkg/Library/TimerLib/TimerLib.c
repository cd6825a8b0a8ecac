/** @file
  Time by the TSC: reading it never leaves the guest, unlike the reference counter and the PM timer. Its frequency comes
  from the hypervisor.

  SPDX-License-Identifier: Apache-2.0
**/
#include <Uefi.h>
#include <BygoneHyperV.h>
#include <Library/BaseLib.h>
#include <Library/TimerLib.h>

#define DEFAULT_FREQUENCY  1000000000ULL

STATIC UINT64  mFrequency;

STATIC UINT64
Frequency (
  VOID
  )
{
  UINT32  Eax;
  UINT32  Ebx;
  UINT32  Ecx;

  if (mFrequency != 0) {
    return mFrequency;
  }

  mFrequency = DEFAULT_FREQUENCY;
  AsmCpuid (1, NULL, NULL, &Ecx, NULL);
  if ((Ecx & BIT31) != 0) {
    AsmCpuid (HV_CPUID_INTERFACE, &Eax, NULL, NULL, NULL);
    if (Eax == SIGNATURE_32 ('H', 'v', '#', '1')) {
      AsmCpuid (HV_CPUID_FEATURES, &Eax, NULL, NULL, NULL);
      if ((Eax & HV_FEATURE_FREQUENCY_MSRS) != 0) {
        mFrequency = AsmReadMsr64 (HV_MSR_TSC_FREQUENCY);
      }
    }
  } else {
    AsmCpuid (0, &Eax, NULL, NULL, NULL);
    if (Eax >= 0x15) {
      AsmCpuid (0x15, &Eax, &Ebx, &Ecx, NULL);
      if ((Eax != 0) && (Ebx != 0) && (Ecx != 0)) {
        mFrequency = DivU64x32 (MultU64x32 (Ecx, Ebx), Eax);
      }
    }
  }

  if (mFrequency == 0) {
    mFrequency = DEFAULT_FREQUENCY;
  }

  return mFrequency;
}

STATIC VOID
DelayTicks (
  IN UINT64  Ticks
  )
{
  UINT64  Start;

  Start = AsmReadTsc ();
  while (AsmReadTsc () - Start < Ticks) {
    CpuPause ();
  }
}

UINTN
EFIAPI
MicroSecondDelay (
  IN UINTN  MicroSeconds
  )
{
  DelayTicks (DivU64x32 (MultU64x64 (Frequency (), MicroSeconds), 1000000));
  return MicroSeconds;
}

UINTN
EFIAPI
NanoSecondDelay (
  IN UINTN  NanoSeconds
  )
{
  DelayTicks (DivU64x32 (MultU64x64 (Frequency (), NanoSeconds), 1000000000));
  return NanoSeconds;
}

UINT64
EFIAPI
GetPerformanceCounter (
  VOID
  )
{
  return AsmReadTsc ();
}

UINT64
EFIAPI
GetPerformanceCounterProperties (
  OUT UINT64  *StartValue OPTIONAL,
  OUT UINT64  *EndValue OPTIONAL
  )
{
  if (StartValue != NULL) {
    *StartValue = 0;
  }

  if (EndValue != NULL) {
    *EndValue = MAX_UINT64;
  }

  return Frequency ();
}

UINT64
EFIAPI
GetTimeInNanoSecond (
  IN UINT64  Ticks
  )
{
  UINT64  Remainder;
  UINT64  Seconds;

  Seconds = DivU64x64Remainder (Ticks, Frequency (), &Remainder);
  return MultU64x32 (Seconds, 1000000000) + DivU64x64Remainder (MultU64x32 (Remainder, 1000000000), Frequency (), NULL);
}
