// See VmbusDriverLib.h.
// SPDX-License-Identifier: Apache-2.0
#include <Library/VmbusDriverLib.h>

namespace bygone {
namespace {

EFI_STATUS take(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller, ChannelProtocol*& channel) {
  void* interface = nullptr;
  const EFI_STATUS status = gBS->OpenProtocol(controller, &gBygoneVmbusChannelProtocolGuid, &interface, binding->DriverBindingHandle,
                                              controller, EFI_OPEN_PROTOCOL_BY_DRIVER);
  if (!EFI_ERROR(status)) channel = static_cast<ChannelProtocol*>(interface);
  return status;
}

void give_back(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller) {
  gBS->CloseProtocol(controller, &gBygoneVmbusChannelProtocolGuid, binding->DriverBindingHandle, controller);
}

}  // namespace

EFI_STATUS Channel::supports(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller, const EFI_GUID& interface) {
  ChannelProtocol* channel = nullptr;
  const EFI_STATUS status = take(binding, controller, channel);
  if (EFI_ERROR(status)) return status;
  const bool is_ours = CompareGuid(&channel->interface_type, &interface);
  give_back(binding, controller);
  return is_ours ? EFI_SUCCESS : EFI_UNSUPPORTED;
}

EFI_STATUS Channel::take_and_open(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller, UINTN ring_pages, EFI_EVENT event) {
  EFI_STATUS status = take(binding, controller, channel_);
  if (EFI_ERROR(status)) return status;
  status = channel_->open(channel_, ring_pages, event);
  if (EFI_ERROR(status)) {
    give_back(binding, controller);
    return status;
  }
  binding_ = binding;
  controller_ = controller;
  is_open_ = true;
  return EFI_SUCCESS;
}

void Channel::close() {
  if (!is_open_) return;
  is_open_ = false;
  channel_->close(channel_);
  give_back(binding_, controller_);
}

EFI_STATUS Channel::receive(void* packet, UINTN bytes, ChannelPacketType* type, UINT64* transaction) {
  ZeroMem(packet, bytes);
  return channel_->receive(channel_, packet, &bytes, type, transaction);
}

/// Receives one packet, waiting for it until it is `timeout_ns` after `start`; 0: for ever.
EFI_STATUS Channel::wait_since(UINT64 start, UINT64 timeout_ns, void* packet, UINTN bytes, ChannelPacketType& type,
                               UINT64& transaction) {
  for (;;) {
    const EFI_STATUS status = receive(packet, bytes, &type, &transaction);
    if (status != EFI_NOT_READY) return status;
    if (timeout_ns != 0 && GetTimeInNanoSecond(GetPerformanceCounter() - start) > timeout_ns) return EFI_TIMEOUT;
    channel_->wait(channel_);
  }
}

}  // namespace bygone
