// Hypercalls and the synthetic interrupt controller.
// SPDX-License-Identifier: Apache-2.0
#include "Vmbus.h"

extern "C" {
#include <Library/InterruptLib.h>
#include <Library/SynchronizationLib.h>
#include <Library/TimerLib.h>
}

namespace bygone::vmbus::hypervisor {
namespace {

constexpr UINT8 kVector = 0x41;
constexpr UINT64 kGuestOsId = 0x8B79000000010000;  ///< TLFS 2.6: bit 63 set means "not one of the listed proprietary systems"
constexpr UINT64 kPageEnabled = BIT0;
constexpr UINTN kPostAttempts = 100;  ///< the host may be short of buffers for a moment: so often, with a pause that grows
constexpr UINTN kEventFlags = 2048;
constexpr UINTN kEventFlagBytes = kEventFlags / 8;

HV_HYPERCALL hypercall;
volatile HV_MESSAGE* slot;       ///< of our interrupt source
volatile UINT64* event_flags;    ///< of our interrupt source
HV_POST_MESSAGE_INPUT* post_input;
EFI_EVENT events[kEventFlags];
bool has_auto_eoi;

bool is_present() {
  UINT32 eax = 0;
  UINT32 ecx = 0;
  AsmCpuid(1, nullptr, nullptr, &ecx, nullptr);
  if ((ecx & BIT31) == 0) return false;
  AsmCpuid(HV_CPUID_INTERFACE, &eax, nullptr, nullptr, nullptr);
  if (eax != SIGNATURE_32('H', 'v', '#', '1')) return false;
  constexpr UINT32 kNeeded = HV_FEATURE_SYNIC | HV_FEATURE_HYPERCALL_MSRS;
  AsmCpuid(HV_CPUID_FEATURES, &eax, nullptr, nullptr, nullptr);
  if ((eax & kNeeded) != kNeeded) return false;
  AsmCpuid(HV_CPUID_RECOMMENDATIONS, &eax, nullptr, nullptr, nullptr);
  has_auto_eoi = (eax & HV_RECOMMEND_NO_AUTO_EOI) == 0;
  return true;
}

/// The host sets a bit and interrupts only if it was clear: what is taken here must be cleared here.
UINT64 take_flags(volatile UINT64& word) {
  UINT64 bits = word;
  while (bits != 0 && InterlockedCompareExchange64(&word, bits, 0) != bits) bits = word;
  return bits;
}

void EFIAPI on_interrupt() {
  if (!has_auto_eoi) InterruptEnd();
  bool is_raised = false;
  EFI_TPL before = 0;
  for (UINTN word = 0; word < kEventFlags / 64; ++word) {
    for (UINT64 bits = take_flags(event_flags[word]); bits != 0; bits &= bits - 1) {
      EFI_EVENT const event = events[word * 64 + static_cast<UINTN>(LowBitSet64(bits))];
      if (event == nullptr) continue;
      if (!is_raised) before = gBS->RaiseTPL(TPL_HIGH_LEVEL);
      is_raised = true;
      gBS->SignalEvent(event);
    }
  }
  if (!is_raised) return;
  gBS->RestoreTPL(before);
  DisableInterrupts();
}

}  // namespace

EFI_STATUS start() {
  if (!is_present()) return EFI_UNSUPPORTED;
  InterruptInstall(kVector, on_interrupt);

  // The hypercall page is the host's code: memory of a kind that is always executable.
  EFI_PHYSICAL_ADDRESS code = 0;
  const EFI_STATUS status = gBS->AllocatePages(AllocateAnyPages, EfiBootServicesCode, 1, &code);
  if (EFI_ERROR(status)) return status;
  Pages messages;
  Pages flags;
  Pages post;
  if (!messages.allocate(1) || !flags.allocate(1) || !post.allocate(1)) return EFI_OUT_OF_RESOURCES;

  AsmWriteMsr64(HV_MSR_GUEST_OS_ID, kGuestOsId);
  AsmWriteMsr64(HV_MSR_HYPERCALL, code | kPageEnabled);
  if ((AsmReadMsr64(HV_MSR_HYPERCALL) & kPageEnabled) == 0) return EFI_DEVICE_ERROR;

  const UINT64 message_page = messages.address(0);
  const UINT64 flag_page = flags.address(0);
  hypercall = reinterpret_cast<HV_HYPERCALL>(code);
  slot = reinterpret_cast<volatile HV_MESSAGE*>(messages.release()) + kSint;
  event_flags = reinterpret_cast<volatile UINT64*>(flags.release() + kSint * kEventFlagBytes);
  post_input = reinterpret_cast<HV_POST_MESSAGE_INPUT*>(post.release());
  AsmWriteMsr64(HV_MSR_SIMP, message_page | kPageEnabled);
  AsmWriteMsr64(HV_MSR_SIEFP, flag_page | kPageEnabled);
  AsmWriteMsr64(HV_MSR_SINT0 + kSint, kVector | (has_auto_eoi ? HV_SINT_AUTO_EOI : 0));
  AsmWriteMsr64(HV_MSR_SCONTROL, 1);
  return EFI_SUCCESS;
}

void stop() {
  AsmWriteMsr64(HV_MSR_SINT0 + kSint, HV_SINT_MASKED | kVector);
  constexpr UINT32 kOthers[] = {HV_MSR_SCONTROL, HV_MSR_SIMP, HV_MSR_SIEFP, HV_MSR_HYPERCALL, HV_MSR_GUEST_OS_ID};
  for (const UINT32 number : kOthers) AsmWriteMsr64(number, 0);
}

EFI_STATUS post_message(Connection connection, const void* message, UINTN bytes) {
  if (bytes > sizeof post_input->Payload) return EFI_BAD_BUFFER_SIZE;
  for (UINTN attempt = 0; attempt < kPostAttempts; ++attempt) {
    post_input->ConnectionId = static_cast<UINT32>(connection);
    post_input->Reserved = 0;
    post_input->MessageType = kHypervisorMessageType;
    post_input->PayloadSize = static_cast<UINT32>(bytes);
    CopyMem(post_input->Payload, message, bytes);
    const auto status = static_cast<UINT16>(hypercall(HV_CALL_POST_MESSAGE, reinterpret_cast<UINTN>(post_input), 0));
    if (status == 0) return EFI_SUCCESS;
    if (status != HV_STATUS_INSUFFICIENT_BUFFERS && status != HV_STATUS_INSUFFICIENT_MEMORY) {
      DEBUG((DEBUG_ERROR, "VMBus: post to connection %d: hypervisor status 0x%x\n", static_cast<UINT32>(connection), status));
      return EFI_DEVICE_ERROR;
    }
    MicroSecondDelay(10 * (attempt + 1));
  }
  return EFI_TIMEOUT;
}

void signal_event(UINT32 connection_id) { hypercall(HV_CALL_SIGNAL_EVENT | HV_CALL_FAST, connection_id, 0); }

bool take_message(Payload& payload) {
  if (slot->Type == 0) return false;
  MemoryFence();
  CopyMem(payload.bytes(), const_cast<UINT8*>(slot->Payload), HV_MESSAGE_PAYLOAD);
  MemoryFence();
  slot->Type = 0;
  full_fence();
  if ((slot->Flags & BIT0) != 0) AsmWriteMsr64(HV_MSR_EOM, 0);
  return true;
}

void set_event(UINT32 relid, EFI_EVENT event) {
  if (relid >= kEventFlags) return;
  const BOOLEAN enabled = SaveAndDisableInterrupts();
  events[relid] = event;
  SetInterruptState(enabled);
}

}  // namespace bygone::vmbus::hypervisor
