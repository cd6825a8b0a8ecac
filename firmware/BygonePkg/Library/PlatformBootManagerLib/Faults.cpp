// A boot loader that faults shall not take the machine down: its image is ended as if it had returned an error, and the boot manager goes
// on. So is one under which the firmware itself faults, for it may have been called with anything. A fault when no boot loader runs is the
// firmware's own: it is told, and the machine starts over.
//
//   exception (on the fault stack) -> message -> return address := recover(), on a stack of its own -> Exit() of the application that runs
//   -> boot manager
//
// SPDX-License-Identifier: Apache-2.0
#include "PlatformBootManager.h"

#include <BygoneText.h>

extern "C" {
#include <Protocol/Timer.h>
}

namespace bygone::boot {
namespace {

/// All exceptions, also those that no processor raises yet: a program may by INT, as it may have learned to call a BIOS.
constexpr UINT8 kExceptions = 32;
constexpr UINTN kGiveUpMicroseconds = 2000000;  ///< for a person to read why

UINT64 fault_address;
Text<160> message;
bool gives_up;

/// Whose code lies at an address.
struct Owner {
  EFI_HANDLE application = nullptr;  ///< for what is no application's, the one loaded last; null: there is none
  bool is_driver = false;
};

Owner owner_of(UINT64 address) {
  Owner owner;
  EFI_HANDLE holder = nullptr;
  for (const EFI_HANDLE handle : Handles(gEfiLoadedImageProtocolGuid)) {
    const auto* const image = protocol_of<EFI_LOADED_IMAGE_PROTOCOL>(handle, gEfiLoadedImageProtocolGuid);
    if (image == nullptr) continue;
    if (is_application(*image)) {
      owner.application = handle;
      if (holds(*image, address)) holder = handle;
    } else if (holds(*image, address)) {
      owner.is_driver = true;
    }
  }
  if (holder != nullptr) owner.application = holder;
  return owner;
}

/// The clock ticks again if the fault was in something that a tick has called.
void restart_timer() {
  auto* const timer = locate<EFI_TIMER_ARCH_PROTOCOL>(gEfiTimerArchProtocolGuid);
  UINT64 period = 0;
  if (timer != nullptr && !EFI_ERROR(timer->GetTimerPeriod(timer, &period))) timer->SetTimerPeriod(timer, period);
}

void tell() {
  if (gST->ConOut != nullptr) gST->ConOut->OutputString(gST->ConOut, message.data());
}

[[noreturn]] void start_over() {
  for (;;) gRT->ResetSystem(EfiResetCold, EFI_ABORTED, 0, nullptr);
}

/// Does not return for the application that runs, and takes away one that was only loaded.
void end(EFI_HANDLE application) {
  applications::silence(application);
  gBS->Exit(application, EFI_ABORTED, 0, nullptr);
}

/// Runs on the recovery stack, as if the application had called it, at a level at which nothing that it has registered is called.
[[noreturn]] void EFIAPI recover() {
  gBS->RaiseTPL(TPL_HIGH_LEVEL);
  gBS->RestoreTPL(TPL_NOTIFY);
  restart_timer();
  tell();
  EFI_HANDLE application = owner_of(fault_address).application;
  end(application);
  for (EFI_HANDLE before = nullptr; application != nullptr && application != before;) {
    before = application;
    application = owner_of(0).application;
    end(application);
  }
  // None of them was running after all: nothing sane is left to do.
  start_over();
}

/// A fault of the firmware's own: says it where someone may look, and starts over.
[[noreturn]] void give_up() {
  if (!gives_up) {
    gives_up = true;
    tell();
  }
  gBS->Stall(kGiveUpMicroseconds);
  start_over();
}

const CHAR8* culprit(const Owner& owner) {
  if (owner.application == nullptr) return "the firmware";
  return owner.is_driver ? "what the boot loader called" : "the boot loader";
}

void describe(const CHAR8* culprit, EFI_EXCEPTION_TYPE vector, const EFI_SYSTEM_CONTEXT_X64& registers) {
  const auto number = static_cast<UINT32>(vector);
  if (number == EXCEPT_IA32_PAGE_FAULT) {
    message.print("\r\nBygone: %a faulted: exception %d, error 0x%lx, at 0x%lx, address 0x%lx\r\n", culprit, number,
                  registers.ExceptionData, registers.Rip, registers.Cr2);
  } else {
    message.print("\r\nBygone: %a faulted: exception %d, error 0x%lx, at 0x%lx\r\n", culprit, number, registers.ExceptionData,
                  registers.Rip);
  }
}

void EFIAPI on_fault(EFI_EXCEPTION_TYPE vector, EFI_SYSTEM_CONTEXT context) {
  EFI_SYSTEM_CONTEXT_X64& registers = *context.SystemContextX64;
  fault_address = registers.Rip;
  const Owner owner = fault_stacks::hold(registers.Rsp) ? Owner{} : owner_of(registers.Rip);
  describe(culprit(owner), vector, registers);
  if (owner.application == nullptr) give_up();
  registers.Rip = reinterpret_cast<UINTN>(recover);
  registers.Rsp = fault_stacks::recovery_top();
  registers.Rflags &= ~UINT64{BIT10 | BIT8};  // direction, trap
}

}  // namespace

void catch_faults() {
  applications::watch();
  auto* const cpu = locate<EFI_CPU_ARCH_PROTOCOL>(gEfiCpuArchProtocolGuid);
  if (cpu == nullptr || EFI_ERROR(fault_stacks::prepare(*cpu, kExceptions))) return;
  for (UINT8 vector = 0; vector < kExceptions; ++vector) cpu->RegisterInterruptHandler(cpu, vector, on_fault);
}

}  // namespace bygone::boot
