// Hypercalls and the synthetic interrupt controller.
// SPDX-License-Identifier: Apache-2.0
#include "Vmbus.h"

#include <Library/InterruptLib.h>

extern "C" {
#include <Library/SynchronizationLib.h>
#include <Library/TimerLib.h>
}

namespace bygone::vmbus::hypervisor {
namespace {

using hyperv::kPageEnabled;
using hyperv::Msr;
using hyperv::Status;

constexpr UINT8 kVector = 0x41;
constexpr Msr kSintMsr = hyperv::sint_msr(kSint);
constexpr UINT64 kGuestOsId = 0x8B79000000010000;  ///< TLFS 2.6: bit 63 set means "not one of the listed proprietary systems"
constexpr UINTN kPostAttempts = 100;  ///< the host may be short of buffers for a moment: so often, with a pause that grows
constexpr UINTN kEventFlags = 2048;
constexpr UINTN kEventFlagBytes = kEventFlags / 8;

hyperv::Hypercall hypercall;
volatile hyperv::Message* slot;  ///< of our interrupt source
volatile UINT64* event_flags;    ///< of our interrupt source
hyperv::PostMessageInput* post_input;
EFI_EVENT events[kEventFlags];
bool has_auto_eoi;

bool is_present() {
  const hyperv::Features features = hyperv::features();
  if (!features.has_synic() || !features.has_hypercall_msrs()) return false;
  has_auto_eoi = !hyperv::advises_against_auto_eoi();
  return true;
}

/// The host sets a bit and interrupts only if it was clear: what is taken here must be cleared here.
UINT64 take_flags(volatile UINT64& word) {
  UINT64 bits = word;
  while (bits != 0 && InterlockedCompareExchange64(&word, bits, 0) != bits) bits = word;
  return bits;
}

void EFIAPI on_interrupt() {
  if (!has_auto_eoi) interrupt::end();
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
  interrupt::install(kVector, on_interrupt);

  // The hypercall page is the host's code: memory of a kind that is always executable.
  EFI_PHYSICAL_ADDRESS code = 0;
  const EFI_STATUS status = gBS->AllocatePages(AllocateAnyPages, EfiBootServicesCode, 1, &code);
  if (EFI_ERROR(status)) return status;
  Pages messages;
  Pages flags;
  Pages post;
  if (!messages.allocate(1) || !flags.allocate(1) || !post.allocate(1)) return EFI_OUT_OF_RESOURCES;

  hyperv::write(Msr::kGuestOsId, kGuestOsId);
  hyperv::write(Msr::kHypercall, code | kPageEnabled);
  if ((hyperv::read(Msr::kHypercall) & kPageEnabled) == 0) return EFI_DEVICE_ERROR;

  const UINT64 message_page = messages.address(0);
  const UINT64 flag_page = flags.address(0);
  hypercall = reinterpret_cast<hyperv::Hypercall>(code);
  slot = reinterpret_cast<volatile hyperv::Message*>(messages.release()) + kSint;
  event_flags = reinterpret_cast<volatile UINT64*>(flags.release() + kSint * kEventFlagBytes);
  post_input = reinterpret_cast<hyperv::PostMessageInput*>(post.release());
  hyperv::write(Msr::kMessagePage, message_page | kPageEnabled);
  hyperv::write(Msr::kEventFlagsPage, flag_page | kPageEnabled);
  hyperv::write(kSintMsr, kVector | (has_auto_eoi ? hyperv::kSintAutoEoi : 0));
  hyperv::write(Msr::kSynicControl, 1);
  return EFI_SUCCESS;
}

void stop() {
  hyperv::write(kSintMsr, hyperv::kSintMasked | kVector);
  constexpr Msr kOthers[] = {Msr::kSynicControl, Msr::kMessagePage, Msr::kEventFlagsPage, Msr::kHypercall, Msr::kGuestOsId};
  for (const Msr number : kOthers) hyperv::write(number, 0);
}

EFI_STATUS post_message(Connection connection, const void* message, UINTN bytes) {
  if (bytes > sizeof post_input->payload) return EFI_BAD_BUFFER_SIZE;
  for (UINTN attempt = 0; attempt < kPostAttempts; ++attempt) {
    post_input->connection = static_cast<UINT32>(connection);
    post_input->reserved = 0;
    post_input->message_type = kHypervisorMessageType;
    post_input->payload_bytes = static_cast<UINT32>(bytes);
    CopyMem(post_input->payload, message, bytes);
    const auto status = static_cast<Status>(hypercall(hyperv::kCallPostMessage, reinterpret_cast<UINTN>(post_input), 0));
    if (status == Status::kSuccess) return EFI_SUCCESS;
    if (status != Status::kInsufficientBuffers && status != Status::kInsufficientMemory) {
      DEBUG((DEBUG_ERROR, "VMBus: post to connection %d: hypervisor status 0x%x\n", static_cast<UINT32>(connection),
             static_cast<UINT32>(status)));
      return EFI_DEVICE_ERROR;
    }
    MicroSecondDelay(10 * (attempt + 1));
  }
  return EFI_TIMEOUT;
}

void signal_event(UINT32 connection_id) { hypercall(hyperv::kCallSignalEvent | hyperv::kCallFast, connection_id, 0); }

bool take_message(Payload& payload) {
  if (slot->type == 0) return false;
  MemoryFence();
  CopyMem(payload.bytes(), const_cast<UINT8*>(slot->payload), hyperv::kMessagePayloadBytes);
  MemoryFence();
  slot->type = 0;
  full_fence();
  if ((slot->flags & BIT0) != 0) hyperv::write(Msr::kEndOfMessage, 0);
  return true;
}

void set_event(UINT32 relid, EFI_EVENT event) {
  if (relid >= kEventFlags) return;
  const InterruptsOff quiet;
  events[relid] = event;
}

}  // namespace bygone::vmbus::hypervisor
