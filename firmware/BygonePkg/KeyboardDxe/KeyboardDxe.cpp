// Driver binding and the channel of the synthetic keyboard: PROTOCOL_REQUEST -> PROTOCOL_RESPONSE -> EVENT...
// SPDX-License-Identifier: Apache-2.0
#include "Keyboard.h"

namespace bygone::keyboard {
namespace {

constexpr UINTN kRingPages = 4;
constexpr UINT64 kStartTimeoutNs = 5000000000;

}  // namespace

void Keyboard::send_leds() {
  Packet packet = {};
  packet.type = PacketType::kSetLeds;
  // EFI: scroll, num, caps from bit 0; the channel takes the same order.
  packet.leds = toggle_ & 7U;
  channel_.send(packet, kShortPacketBytes);
}

void Keyboard::on_channel(EFI_EVENT) {
  Packet packet;
  while (!EFI_ERROR(channel_.receive(packet))) {
    if (packet.type == PacketType::kEvent) handle(packet.key);
  }
}

EFI_STATUS Keyboard::negotiate() {
  Packet packet = {};
  packet.type = PacketType::kProtocolRequest;
  packet.version = kVersion;
  EFI_STATUS status = channel_.request(packet, kShortPacketBytes, 1);
  if (EFI_ERROR(status)) return status;
  status = channel_.wait_for(packet, kStartTimeoutNs,
                             [](const Packet& answer, ChannelPacketType, UINT64) { return answer.type == PacketType::kProtocolResponse; });
  if (EFI_ERROR(status)) return status;
  return (packet.accepted & kAccepted) != 0 ? EFI_SUCCESS : EFI_INCOMPATIBLE_VERSION;
}

EFI_STATUS Keyboard::start(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller) {
  offer_text_input();
  channel_event_.create<&Keyboard::on_channel>(EVT_NOTIFY_SIGNAL, TPL_NOTIFY, *this);
  const EFI_STATUS status = channel_.open(binding, controller, kRingPages, channel_event_.get(), [this] { return negotiate(); });
  if (EFI_ERROR(status)) return status;
  return gBS->InstallMultipleProtocolInterfaces(&controller, kProtocol, static_cast<Protocol*>(this), &gEfiSimpleTextInputExProtocolGuid,
                                                static_cast<ProtocolEx*>(this), &gEfiConsoleInDeviceGuid, nullptr, nullptr);
}

EFI_STATUS Keyboard::withdraw(EFI_HANDLE controller) {
  return gBS->UninstallMultipleProtocolInterfaces(controller, kProtocol, static_cast<Protocol*>(this), &gEfiSimpleTextInputExProtocolGuid,
                                                  static_cast<ProtocolEx*>(this), &gEfiConsoleInDeviceGuid, nullptr, nullptr);
}

}  // namespace bygone::keyboard

extern "C" EFI_STATUS EFIAPI KeyboardEntry(EFI_HANDLE image, EFI_SYSTEM_TABLE* system) {
  return bygone::ChannelBinding<bygone::keyboard::Keyboard>::install(image, system);
}
