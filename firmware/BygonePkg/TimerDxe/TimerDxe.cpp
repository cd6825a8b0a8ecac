// The firmware's one clock tick. Synthetic timer 0 in direct mode where the hypervisor offers it (one MSR write to arm, no message slot
// shared with VMBus), else the local APIC's periodic timer.
// SPDX-License-Identifier: Apache-2.0
#include <BygoneHyperV.h>
#include <Library/InterruptLib.h>

extern "C" {
#include <PiDxe.h>
#include <Library/LocalApicLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Protocol/Timer.h>
}

namespace {

namespace hyperv = bygone::hyperv;

constexpr UINT8 kVector = 0x40;
constexpr UINT64 kDefaultPeriod = 100000;  ///< 10 ms in 100 ns units
constexpr UINT64 kDefaultApicFrequency = 1000000000;
constexpr UINT64 kUnitsPerSecond = 10000000;

EFI_TIMER_NOTIFY notify_core;
UINT64 period;
bool is_synthetic;
UINT64 apic_frequency = kDefaultApicFrequency;
bool is_in_tick;
UINT64 missed_ticks;

void detect() {
  const hyperv::Features features = hyperv::features();
  is_synthetic = features.has_synthetic_timers() && features.has_direct_timers();
  if (features.has_frequency_msrs()) apic_frequency = hyperv::read(hyperv::Msr::kApicFrequency);
}

void EFIAPI on_tick() {
  bygone::interrupt::end();
  // Lowering the level below runs event handlers with interrupts enabled, and on a busy host ticks come in bursts: a tick that interrupts
  // one is only counted, so that they never pile up on the stack.
  if (is_in_tick) {
    ++missed_ticks;
    return;
  }
  is_in_tick = true;
  const UINT64 ticks = 1 + missed_ticks;
  missed_ticks = 0;
  const EFI_TPL before = gBS->RaiseTPL(TPL_HIGH_LEVEL);
  if (notify_core != nullptr) notify_core(period * ticks);
  gBS->RestoreTPL(before);
  DisableInterrupts();
  is_in_tick = false;
}

EFI_STATUS EFIAPI register_handler(EFI_TIMER_ARCH_PROTOCOL*, EFI_TIMER_NOTIFY notify) {
  if ((notify == nullptr) == (notify_core == nullptr)) return notify == nullptr ? EFI_INVALID_PARAMETER : EFI_ALREADY_STARTED;
  notify_core = notify;
  return EFI_SUCCESS;
}

void arm_synthetic(UINT64 units) {
  constexpr UINT64 kConfiguration = hyperv::kTimerPeriodic | hyperv::kTimerLazy | hyperv::kTimerAutoEnable | hyperv::kTimerDirect |
                                    UINT64{kVector} << hyperv::kTimerVectorShift;
  hyperv::write(hyperv::Msr::kTimer0Configuration, 0);
  if (units == 0) return;
  hyperv::write(hyperv::Msr::kTimer0Configuration, kConfiguration);
  hyperv::write(hyperv::Msr::kTimer0Count, units);
}

EFI_STATUS arm_apic(UINT64 units) {
  if (units == 0) {
    DisableApicTimerInterrupt();
    return EFI_SUCCESS;
  }
  const UINT64 ticks = apic_frequency * units / kUnitsPerSecond;
  if (ticks == 0 || ticks > MAX_UINT32) return EFI_UNSUPPORTED;
  InitializeApicTimer(1, static_cast<UINT32>(ticks), TRUE, kVector);
  EnableApicTimerInterrupt();
  return EFI_SUCCESS;
}

/// 0: no ticks any more.
EFI_STATUS EFIAPI set_timer_period(EFI_TIMER_ARCH_PROTOCOL*, UINT64 units) {
  if (is_synthetic) {
    arm_synthetic(units);
  } else if (const EFI_STATUS status = arm_apic(units); EFI_ERROR(status)) {
    return status;
  }
  // A tick whose handlers were left for good, for they faulted, is over with this.
  is_in_tick = false;
  missed_ticks = 0;
  period = units;
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI get_timer_period(EFI_TIMER_ARCH_PROTOCOL*, UINT64* units) {
  if (units == nullptr) return EFI_INVALID_PARAMETER;
  *units = period;
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI generate_soft_interrupt(EFI_TIMER_ARCH_PROTOCOL*) { return EFI_UNSUPPORTED; }

EFI_TIMER_ARCH_PROTOCOL protocol = {register_handler, set_timer_period, get_timer_period, generate_soft_interrupt};

void EFIAPI on_exit_boot_services(EFI_EVENT, void*) { set_timer_period(&protocol, 0); }

}  // namespace

extern "C" EFI_STATUS EFIAPI TimerEntry(EFI_HANDLE, EFI_SYSTEM_TABLE*) {
  detect();
  InitializeLocalApicSoftwareEnable(TRUE);
  DisableLvtInterrupts();  // nothing is wired to the local interrupt pins that the firmware wants
  bygone::interrupt::install(kVector, on_tick);
  EFI_STATUS status = set_timer_period(&protocol, kDefaultPeriod);
  if (EFI_ERROR(status)) return status;
  // The core's own handling of ExitBootServices needs no tick any more.
  EFI_EVENT event = nullptr;
  status = gBS->CreateEvent(EVT_SIGNAL_EXIT_BOOT_SERVICES, TPL_CALLBACK, on_exit_boot_services, nullptr, &event);
  if (EFI_ERROR(status)) return status;
  EFI_HANDLE handle = nullptr;
  return gBS->InstallMultipleProtocolInterfaces(&handle, &gEfiTimerArchProtocolGuid, &protocol, nullptr);
}
