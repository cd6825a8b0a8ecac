// One VMBus channel as a device driver sees it: open, packets out, packets in, wait.
//
// The driver opens the channel when it starts and closes it when it stops. Packets are copied; data buffers of send() are given to the host
// in place until the completion for their transaction has been received.
//
// TPL: all functions at or below TPL_NOTIFY. The event given to open() is signalled from an interrupt.
// SPDX-License-Identifier: Apache-2.0
#pragma once

extern "C" {
#include <Uefi.h>

extern EFI_GUID gBygoneVmbusChannelProtocolGuid;
}

namespace bygone {

enum class ChannelPacketType : UINT16 { kInBand = 6, kGpaDirect = 9, kCompletion = 11 };

/// Interface types: which device is at the other end.
constexpr EFI_GUID kKeyboardInterface = {0xf912ad6d, 0x2b17, 0x48ea, {0xbd, 0x65, 0xf9, 0x27, 0xa6, 0x1c, 0x76, 0x84}};
constexpr EFI_GUID kStorageInterface = {0xba6163d9, 0x04a1, 0x4d29, {0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f}};
constexpr EFI_GUID kVideoInterface = {0xda0a7802, 0xe377, 0x4aac, {0x8e, 0x77, 0x05, 0x58, 0xeb, 0x10, 0x73, 0xf8}};

struct ChannelProtocol {
  EFI_GUID interface_type;
  EFI_GUID interface_instance;

  /// `ring_pages`: size of each of the two rings, control page included. `event`: signalled when the host signals the channel; null for a
  /// driver that only waits.
  EFI_STATUS(EFIAPI* open)(ChannelProtocol* self, UINTN ring_pages, EFI_EVENT event);

  void(EFIAPI* close)(ChannelProtocol* self);

  /// `data`: memory that the host may read and write until completion, or null. `completes`: the host shall answer with a completion.
  /// EFI_NOT_READY: the ring is full.
  EFI_STATUS(EFIAPI* send)(ChannelProtocol* self, const void* packet, UINTN packet_bytes, void* data, UINTN data_bytes, UINT64 transaction,
                           BOOLEAN completes);

  /// `bytes`: in the packet's room, out what was written of the payload; a longer one is cut. `type` and `transaction` may be null.
  /// EFI_NOT_READY: there is none. EFI_DEVICE_ERROR: the ring is damaged; close the channel.
  EFI_STATUS(EFIAPI* receive)(ChannelProtocol* self, void* packet, UINTN* bytes, ChannelPacketType* type, UINT64* transaction);

  /// Returns when a packet may have come: at once if one is there, else after the next interrupt.
  void(EFIAPI* wait)(ChannelProtocol* self);
};

}  // namespace bygone
