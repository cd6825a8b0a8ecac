// The bus driver's parts.
//
//   HyperV.cpp   hypercall page, message and event pages, the interrupt
//   Bus.cpp      negotiation, offers, waiting for answers, unload
//   Channel.cpp  the channel protocol on one offer
//   Ring.cpp     the ring pair's layout and indexes
//
// One processor. Messages are taken only by the bus's waits, at any level up to TPL_NOTIFY; the interrupt handler touches nothing but the
// event flags.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <BygoneCxx.h>
#include <Protocol/VmbusChannel.h>

extern "C" {
#include <PiDxe.h>
#include <Library/BaseLib.h>
#include <Library/DebugLib.h>
#include <Protocol/DevicePath.h>
}

#include "Messages.h"

namespace bygone::vmbus {

/// Orders a store before a later load, which the processor may otherwise swap: EDK II's MemoryFence stops only the compiler.
inline void full_fence() { __asm__ __volatile__("lock; orl $0, (%%rsp)" ::: "memory", "cc"); }

/// The hypervisor's interface (HyperV.cpp).
namespace hypervisor {

EFI_STATUS start();

/// Everything off, in the order that leaves no page registered that the operating system may reuse.
void stop();

EFI_STATUS post_message(Connection connection, const void* message, UINTN bytes);
void signal_event(UINT32 connection_id);

/// Takes the message in the slot, if there is one.
bool take_message(Payload& payload);

/// Sleeps until the next interrupt unless is_ready() says that there is something to do.
template <typename IsReady>
void idle(IsReady is_ready) {
  if (!GetInterruptState()) {
    CpuPause();
    return;
  }
  // With interrupts off between the look and the sleep, one that comes in between ends the sleep at once: STI takes effect after HLT has
  // begun.
  DisableInterrupts();
  if (is_ready()) {
    EnableInterrupts();
    return;
  }
  __asm__ __volatile__("sti; hlt" ::: "memory");
}

/// The event to signal when the host signals this channel; null for none.
void set_event(UINT32 relid, EFI_EVENT event);

}  // namespace hypervisor

/// The conversation with the host (Bus.cpp).
namespace bus {

EFI_STATUS post(const void* message, UINTN bytes);
template <typename T>
EFI_STATUS post(const T& message) {
  return post(&message, sizeof message);
}

/// The next message of any type, or a timeout.
EFI_STATUS next_message(Payload& payload);

/// Waits for an Answer that is_mine(answer) accepts. Other messages that arrive are dropped: the bus has one conversation at a time.
template <typename Answer, typename IsMine>
EFI_STATUS wait_for(Answer& answer, IsMine is_mine) {
  for (;;) {
    Payload payload;
    const EFI_STATUS status = next_message(payload);
    if (EFI_ERROR(status)) {
      DEBUG((DEBUG_ERROR, "VMBus: no answer of type %d\n", static_cast<UINT32>(Answer::kType)));
      return status;
    }
    const Answer* const received = payload.as<Answer>();
    if (received == nullptr || !is_mine(*received)) continue;
    answer = *received;
    return EFI_SUCCESS;
  }
}

UINT32 new_gpadl();

}  // namespace bus

/// A channel's handle, with its protocol (Channel.cpp).
EFI_STATUS publish_channel(const Offer& offer);

struct Part {
  const void* bytes;
  UINTN count;
};

/// One direction of a channel: the control page and the data behind it. Both indexes are bytes into the data; the ring is never completely
/// full. Each packet is followed by 8 bytes that hold where it began.
class Ring {
 public:
  void format(UINT8* pages, UINTN page_count);

  /// Appends one packet: the header, whose lengths are filled in here, what stands before the payload, and the payload.
  /// `signal`: the host has to be told. EFI_NOT_READY: no room.
  EFI_STATUS send(PacketHeader header, Part range, Part pages, Part payload, bool& signal);

  /// Takes one packet.
  /// `bytes`: in the payload's capacity, out what was written. EFI_NOT_READY: the ring is empty; EFI_DEVICE_ERROR: indexes or lengths make
  /// no sense.
  EFI_STATUS receive(PacketHeader& header, void* payload, UINTN& bytes, bool& signal);

  bool is_empty() const { return control_->read_index == control_->write_index; }

 private:
  UINT32 copy_in(UINT32 index, Part part);
  void copy_out(UINT32 index, void* to, UINTN count) const;

  volatile RingControl* control_ = nullptr;
  UINT8* data_ = nullptr;
  UINT32 size_ = 0;
};

}  // namespace bygone::vmbus
