// Driver binding and the storage service's start-up conversation:
//
//   BEGIN_INITIALIZATION -> QUERY_PROTOCOL_VERSION -> QUERY_PROPERTIES -> END_INITIALIZATION -> EXECUTE_SRB...
//
// SPDX-License-Identifier: Apache-2.0
#include "Storage.h"

namespace bygone::storage {
namespace {

constexpr UINTN kRingPages = 32;  ///< control page and 124 KiB: room for several of the largest requests' page lists
constexpr UINT64 kStartTimeoutNs = 10000000000;
constexpr UINT16 kVersions[] = {0x0602, 0x0600, 0x0501};

}  // namespace

EFI_STATUS Storage::transact(Packet& packet, void* data, UINTN data_bytes, UINT64 timeout_ns) {
  const UINT64 sent = ++last_transaction_;
  EFI_STATUS status = channel_.request(packet, sizeof packet, sent, data, data_bytes);
  if (EFI_ERROR(status)) return status;
  // An answer to a request that has been given up on, or news about units, is none.
  Packet answer;
  status = channel_.wait_for(answer, timeout_ns, [sent](const Packet&, ChannelPacketType type, UINT64 transaction) {
    return type == ChannelPacketType::kCompletion && transaction == sent;
  });
  if (!EFI_ERROR(status)) packet = answer;
  return status;
}

EFI_STATUS Storage::control(Packet& packet, Operation operation) {
  packet.operation = operation;
  packet.flags = kWantsCompletion;
  packet.status = 0;
  const EFI_STATUS status = transact(packet, nullptr, 0, kStartTimeoutNs);
  if (EFI_ERROR(status)) return status;
  return packet.operation == Operation::kCompleteIo && packet.status == 0 ? EFI_SUCCESS : EFI_DEVICE_ERROR;
}

EFI_STATUS Storage::negotiate() {
  Packet begin = {};
  EFI_STATUS status = control(begin, Operation::kBeginInitialization);
  if (EFI_ERROR(status)) return status;
  status = EFI_INCOMPATIBLE_VERSION;
  for (const UINT16 version : kVersions) {
    Packet packet = {};
    packet.version = version;
    status = control(packet, Operation::kQueryProtocolVersion);
    if (!EFI_ERROR(status)) break;
  }
  for (const Operation operation : {Operation::kQueryProperties, Operation::kEndInitialization}) {
    if (EFI_ERROR(status)) return status;
    Packet packet = {};
    status = control(packet, operation);
  }
  return status;
}

EFI_STATUS Storage::start(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller) {
  const EFI_STATUS status = channel_.open(binding, controller, kRingPages, nullptr, [this] { return negotiate(); });
  if (EFI_ERROR(status)) return status;
  offer_pass_through();
  find_units();
  return gBS->InstallMultipleProtocolInterfaces(&controller, kProtocol, static_cast<Protocol*>(this), nullptr);
}

EFI_STATUS Storage::withdraw(EFI_HANDLE controller) {
  return gBS->UninstallMultipleProtocolInterfaces(controller, kProtocol, static_cast<Protocol*>(this), nullptr);
}

}  // namespace bygone::storage

extern "C" EFI_STATUS EFIAPI StorageEntry(EFI_HANDLE image, EFI_SYSTEM_TABLE* system) {
  return bygone::ChannelBinding<bygone::storage::Storage>::install(image, system);
}
