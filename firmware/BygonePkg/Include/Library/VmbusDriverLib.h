// What every driver of a VMBus channel does the same way: finding its channel, opening it with the conversation that starts the service,
// waiting for an answer, closing it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <BygoneCxx.h>
#include <Protocol/VmbusChannel.h>

extern "C" {
#include <Library/DebugLib.h>
#include <Library/TimerLib.h>
#include <Library/UefiLib.h>
#include <Protocol/DriverBinding.h>
}

namespace bygone {

/// An event of the firmware, closed with its owner.
class Event {
 public:
  constexpr Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() {
    if (event_ != nullptr) gBS->CloseEvent(event_);
  }
  /// `method(event)` runs at `level` when an event with EVT_NOTIFY_SIGNAL is signalled, or one with EVT_NOTIFY_WAIT waited for.
  template <auto method, typename Owner>
  EFI_STATUS create(UINT32 type, EFI_TPL level, Owner& owner) {
    return gBS->CreateEvent(type, level, notify<method, Owner>, &owner, &event_);
  }
  EFI_EVENT get() const { return event_; }

 private:
  template <auto method, typename Owner>
  static void EFIAPI notify(EFI_EVENT event, void* owner) {
    (static_cast<Owner*>(owner)->*method)(event);
  }

  EFI_EVENT event_ = nullptr;
};

/// The controller's channel, from open() until it is closed with its owner.
class Channel {
 public:
  Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() { close(); }

  /// A binding's Supported(): the controller is a free channel of that interface.
  static EFI_STATUS supports(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller, const EFI_GUID& interface);

  /// `event`: signalled when the host signals the channel; null for a driver that only waits. `negotiate()` is the conversation that starts
  /// the service; it runs at TPL_NOTIFY, so that the event does not take the answers away, and its failure closes the channel again.
  template <typename Negotiate>
  EFI_STATUS open(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller, UINTN ring_pages, EFI_EVENT event, Negotiate negotiate) {
    EFI_STATUS status = take_and_open(binding, controller, ring_pages, event);
    if (EFI_ERROR(status)) return status;
    {
      const RaisedTpl quiet(TPL_NOTIFY);
      status = negotiate();
    }
    if (EFI_ERROR(status)) close();
    return status;
  }
  /// The first `bytes` of a packet, to which no answer is expected.
  template <typename Packet>
  EFI_STATUS send(const Packet& packet, UINTN bytes) {
    return channel_->send(channel_, &packet, bytes, nullptr, 0, 0, FALSE);
  }
  /// With memory that the host may use until it completes the transaction.
  template <typename Packet>
  EFI_STATUS request(const Packet& packet, UINTN bytes, UINT64 transaction, void* data = nullptr, UINTN data_bytes = 0) {
    return channel_->send(channel_, &packet, bytes, data, data_bytes, transaction, TRUE);
  }
  /// What the host has not filled of the packet is zeros. EFI_NOT_READY: there is none.
  template <typename Packet>
  EFI_STATUS receive(Packet& packet) {
    return receive(&packet, sizeof packet, nullptr, nullptr);
  }
  /// Receives until `is_answer(packet, type, transaction)`; that has dealt with what is none. 0 ns: waits for ever.
  template <typename Packet, typename IsAnswer>
  EFI_STATUS wait_for(Packet& packet, UINT64 timeout_ns, IsAnswer is_answer) {
    const UINT64 start = GetPerformanceCounter();
    for (;;) {
      ChannelPacketType type = {};
      UINT64 transaction = 0;
      const EFI_STATUS status = wait_since(start, timeout_ns, &packet, sizeof packet, type, transaction);
      if (EFI_ERROR(status) || is_answer(packet, type, transaction)) return status;
    }
  }

 private:
  EFI_STATUS take_and_open(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller, UINTN ring_pages, EFI_EVENT event);
  void close();
  EFI_STATUS receive(void* packet, UINTN bytes, ChannelPacketType* type, UINT64* transaction);
  EFI_STATUS wait_since(UINT64 start, UINT64 timeout_ns, void* packet, UINTN bytes, ChannelPacketType& type, UINT64& transaction);

  EFI_DRIVER_BINDING_PROTOCOL* binding_ = nullptr;
  EFI_HANDLE controller_ = nullptr;
  ChannelProtocol* channel_ = nullptr;  ///< stays when it is closed: events that come late are answered EFI_NOT_STARTED
  bool is_open_ = false;
};

/// The binding of a driver for channels of Device::kInterface. A Device derives from the protocol that it is found by, Device::Protocol of
/// the GUID *Device::kProtocol, and has `EFI_STATUS start(binding, controller)`, which opens its channel and installs its protocols, and
/// `EFI_STATUS withdraw(controller)`, which takes these away; its destructor does the rest.
template <typename Device>
class ChannelBinding {
 public:
  static EFI_STATUS install(EFI_HANDLE image, EFI_SYSTEM_TABLE* system) {
    static EFI_DRIVER_BINDING_PROTOCOL binding = {supported, start, stop, 0x10, nullptr, nullptr};
    return EfiLibInstallDriverBinding(image, system, &binding, image);
  }

 private:
  static EFI_STATUS EFIAPI supported(EFI_DRIVER_BINDING_PROTOCOL* self, EFI_HANDLE controller, EFI_DEVICE_PATH_PROTOCOL*) {
    return Channel::supports(self, controller, Device::kInterface);
  }
  static EFI_STATUS EFIAPI start(EFI_DRIVER_BINDING_PROTOCOL* self, EFI_HANDLE controller, EFI_DEVICE_PATH_PROTOCOL*) {
    auto device = Pool<Device>::create();
    if (!device) return EFI_OUT_OF_RESOURCES;
    const EFI_STATUS status = device->start(self, controller);
    if (EFI_ERROR(status)) {
      DEBUG((DEBUG_ERROR, "%a: %r\n", Device::kName, status));
      return status;
    }
    device.release();
    return EFI_SUCCESS;
  }
  static EFI_STATUS EFIAPI stop(EFI_DRIVER_BINDING_PROTOCOL*, EFI_HANDLE controller, UINTN, EFI_HANDLE*) {
    void* interface = nullptr;
    EFI_STATUS status = gBS->HandleProtocol(controller, Device::kProtocol, &interface);
    if (EFI_ERROR(status)) return status;
    auto* const device = static_cast<Device*>(static_cast<typename Device::Protocol*>(interface));
    status = device->withdraw(controller);
    if (EFI_ERROR(status)) return status;
    const Pool<Device> ended(device);
    return EFI_SUCCESS;
  }
};

}  // namespace bygone
