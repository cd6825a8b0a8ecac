// See InterruptLib.h.
// SPDX-License-Identifier: Apache-2.0
#include <Library/InterruptLib.h>

extern "C" {
#include <Library/LocalApicLib.h>

/// Entry.nasm: calls the handler.
void EFIAPI InterruptEntry();
bygone::interrupt::Handler gInterruptHandler;
}

namespace bygone::interrupt {
namespace {

constexpr UINTN kApicEoi = 0xB0;  ///< in the local APIC's page
constexpr UINT32 kX2ApicEoiMsr = 0x80B;

/// In the local APIC's page; null: there is none, for the APIC is used by MSRs.
volatile UINT32* end_of_interrupt;

}  // namespace

void end() {
  if (end_of_interrupt != nullptr) {
    *end_of_interrupt = 0;
  } else {
    AsmWriteMsr64(kX2ApicEoiMsr, 0);
  }
}

void install(UINT8 vector, Handler handler) {
  const bool has_page = GetApicMode() != LOCAL_APIC_MODE_X2APIC;
  end_of_interrupt = has_page ? reinterpret_cast<volatile UINT32*>(GetLocalApicBaseAddress() + kApicEoi) : nullptr;
  gInterruptHandler = handler;
  const auto entry = reinterpret_cast<UINTN>(InterruptEntry);
  const InterruptsOff quiet;
  IA32_DESCRIPTOR table = {};
  AsmReadIdtr(&table);
  auto& gate = reinterpret_cast<IA32_IDT_GATE_DESCRIPTOR*>(table.Base)[vector];
  gate.Bits.OffsetLow = static_cast<UINT16>(entry);
  gate.Bits.OffsetHigh = static_cast<UINT16>(entry >> 16);
  gate.Bits.OffsetUpper = static_cast<UINT32>(entry >> 32);
}

}  // namespace bygone::interrupt
