// EFI_EXT_SCSI_PASS_THRU_PROTOCOL (UEFI 2.10, 15.7) on the storage channel. Blocking only: the SCSI disk driver above copes.
// SPDX-License-Identifier: Apache-2.0
#include "Storage.h"

extern "C" {
#include <Library/BaseLib.h>
#include <Library/DevicePathLib.h>
}

namespace bygone::storage {
namespace {

using Request = EFI_EXT_SCSI_PASS_THRU_SCSI_REQUEST_PACKET;
using Protocol = EFI_EXT_SCSI_PASS_THRU_PROTOCOL;

/// The largest transfer of one request. ScsiDisk asks again with less when told so.
constexpr UINT32 kMaximumTransfer = SIZE_4MB;

/// Of Request::Timeout.
constexpr UINT64 kTicksOfSecond = 10000000;
constexpr UINT64 kNanosecondsOfTick = 100;

constexpr UINT8 kReportLuns = 0xA0;  ///< SPC-4, 6.33
constexpr UINTN kReportHeaderBytes = 8;
constexpr UINTN kReportEntryBytes = 8;
constexpr UINTN kReportBytes = kReportHeaderBytes + kReportEntryBytes * Storage::kMaximumLuns;

Storage& storage_of(Protocol* self) { return *static_cast<Storage*>(self); }

struct Verdict {
  UINT8 adapter;
  EFI_STATUS status;
};

Verdict judge(const Srb& srb) {
  switch (SrbStatus{static_cast<UINT8>(srb.srb_status & kSrbStatusMask)}) {
    case SrbStatus::kSuccess: return {EFI_EXT_SCSI_STATUS_HOST_ADAPTER_OK, EFI_SUCCESS};
    case SrbStatus::kDataOverrun: return {EFI_EXT_SCSI_STATUS_HOST_ADAPTER_DATA_OVERRUN_UNDERRUN, EFI_SUCCESS};
    case SrbStatus::kNoDevice:
    case SrbStatus::kInvalidLun: return {EFI_EXT_SCSI_STATUS_HOST_ADAPTER_SELECTION_TIMEOUT, EFI_TIMEOUT};
    case SrbStatus::kTimeout:
    case SrbStatus::kAborted: return {EFI_EXT_SCSI_STATUS_HOST_ADAPTER_TIMEOUT, EFI_TIMEOUT};
    default: break;
  }
  // The target's own status says what is wrong, if there is one.
  const bool target_says = srb.scsi_status != 0;
  return {static_cast<UINT8>(target_says ? EFI_EXT_SCSI_STATUS_HOST_ADAPTER_OK : EFI_EXT_SCSI_STATUS_HOST_ADAPTER_OTHER), EFI_DEVICE_ERROR};
}

EFI_STATUS take_completion(const Srb& srb, Request& request) {
  const Verdict verdict = judge(srb);
  request.TargetStatus = srb.scsi_status;
  request.HostAdapterStatus = verdict.adapter;
  const UINT8 claimed = (srb.srb_status & kSrbSenseValid) != 0 ? srb.sense_length : UINT8{0};
  const UINT8 bytes = MIN(MIN(claimed, kSenseBytes), request.SenseDataLength);
  if (request.SenseData != nullptr) CopyMem(request.SenseData, srb.cdb_or_sense, bytes);
  request.SenseDataLength = bytes;
  return verdict.status;
}

Packet packet_for(const Request& request, UINT64 lun, UINT32 data_bytes) {
  Packet packet = {};
  packet.operation = Operation::kExecuteSrb;
  packet.flags = kWantsCompletion;
  packet.srb.length = sizeof packet.srb;
  packet.srb.lun = static_cast<UINT8>(lun);
  packet.srb.cdb_length = request.CdbLength;
  packet.srb.sense_length = kSenseBytes;
  packet.srb.data_bytes = data_bytes;
  packet.srb.flags = kSrbNoSynchronousTransfer;
  packet.srb.timeout_seconds = static_cast<UINT32>(request.Timeout / kTicksOfSecond);
  CopyMem(packet.srb.cdb_or_sense, request.Cdb, request.CdbLength);
  if (data_bytes == 0) {
    packet.srb.direction = Direction::kNone;
  } else if (request.DataDirection == EFI_EXT_SCSI_DATA_DIRECTION_READ) {
    packet.srb.direction = Direction::kIn;
    packet.srb.flags |= kSrbDataIn;
  } else {
    packet.srb.direction = Direction::kOut;
    packet.srb.flags |= kSrbDataOut;
  }
  return packet;
}

EFI_STATUS EFIAPI pass_through(Protocol* self, UINT8* target, UINT64 lun, Request* request, EFI_EVENT event) {
  if (request == nullptr || request->Cdb == nullptr || request->CdbLength == 0 || request->CdbLength > kCdbBytes ||
      request->DataDirection > EFI_EXT_SCSI_DATA_DIRECTION_WRITE || target[0] != 0 || lun >= Storage::kMaximumLuns) {
    return EFI_INVALID_PARAMETER;
  }
  const bool is_read = request->DataDirection == EFI_EXT_SCSI_DATA_DIRECTION_READ;
  void* const data = is_read ? request->InDataBuffer : request->OutDataBuffer;
  UINT32& data_bytes = is_read ? request->InTransferLength : request->OutTransferLength;
  if (data_bytes > kMaximumTransfer) {
    data_bytes = kMaximumTransfer;
    return EFI_BAD_BUFFER_SIZE;
  }
  if (data_bytes != 0 && data == nullptr) return EFI_INVALID_PARAMETER;

  Packet packet = packet_for(*request, lun, data_bytes);
  EFI_STATUS status = EFI_SUCCESS;
  {
    const RaisedTpl one_at_a_time(TPL_CALLBACK);  // requests may come from timer events
    status = storage_of(self).transact(packet, data, data_bytes, request->Timeout * kNanosecondsOfTick);
  }
  if (EFI_ERROR(status)) {
    request->HostAdapterStatus = EFI_EXT_SCSI_STATUS_HOST_ADAPTER_TIMEOUT_COMMAND;
    request->SenseDataLength = 0;
    return status == EFI_TIMEOUT ? EFI_TIMEOUT : EFI_DEVICE_ERROR;
  }
  data_bytes = MIN(data_bytes, packet.srb.data_bytes);
  status = take_completion(packet.srb, *request);
  if (!EFI_ERROR(status) && event != nullptr) gBS->SignalEvent(event);
  return status;
}

bool is_first(const UINT8* target) {
  for (UINTN index = 0; index < TARGET_MAX_BYTES; ++index) {
    if (target[index] != 0xFF) return false;
  }
  return true;
}

EFI_STATUS EFIAPI get_next_target_lun(Protocol* self, UINT8** target, UINT64* lun) {
  const Storage& storage = storage_of(self);
  UINTN index = 0;
  if (!is_first(*target)) {
    if ((*target)[0] != 0) return EFI_INVALID_PARAMETER;
    while (index < storage.lun_count() && storage.lun(index) != *lun) ++index;
    ++index;
  }
  if (index >= storage.lun_count()) return EFI_NOT_FOUND;
  ZeroMem(*target, TARGET_MAX_BYTES);
  *lun = storage.lun(index);
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI build_device_path(Protocol*, UINT8* target, UINT64 lun, EFI_DEVICE_PATH_PROTOCOL** path) {
  if (path == nullptr) return EFI_INVALID_PARAMETER;
  if (target[0] != 0 || lun >= Storage::kMaximumLuns) return EFI_NOT_FOUND;
  auto* const node = reinterpret_cast<SCSI_DEVICE_PATH*>(CreateDeviceNode(MESSAGING_DEVICE_PATH, MSG_SCSI_DP, sizeof(SCSI_DEVICE_PATH)));
  if (node == nullptr) return EFI_OUT_OF_RESOURCES;
  node->Pun = target[0];
  node->Lun = static_cast<UINT16>(lun);
  *path = &node->Header;
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI get_target_lun(Protocol*, EFI_DEVICE_PATH_PROTOCOL* path, UINT8** target, UINT64* lun) {
  if (path == nullptr || target == nullptr || *target == nullptr || lun == nullptr) return EFI_INVALID_PARAMETER;
  if (DevicePathType(path) != MESSAGING_DEVICE_PATH || DevicePathSubType(path) != MSG_SCSI_DP ||
      DevicePathNodeLength(path) != sizeof(SCSI_DEVICE_PATH)) {
    return EFI_UNSUPPORTED;
  }
  const auto* const node = reinterpret_cast<const SCSI_DEVICE_PATH*>(path);
  if (node->Pun != 0 || node->Lun >= Storage::kMaximumLuns) return EFI_NOT_FOUND;
  ZeroMem(*target, TARGET_MAX_BYTES);
  *lun = node->Lun;
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI reset_channel(Protocol*) { return EFI_UNSUPPORTED; }

EFI_STATUS EFIAPI reset_target_lun(Protocol*, UINT8*, UINT64) { return EFI_UNSUPPORTED; }

EFI_STATUS EFIAPI get_next_target(Protocol*, UINT8** target) {
  if (!is_first(*target)) return EFI_NOT_FOUND;
  ZeroMem(*target, TARGET_MAX_BYTES);
  return EFI_SUCCESS;
}

UINT32 big_endian_32(const UINT8* from) {
  return static_cast<UINT32>(from[0]) << 24 | static_cast<UINT32>(from[1]) << 16 | static_cast<UINT32>(from[2]) << 8 | from[3];
}

}  // namespace

void Storage::add_unit(UINT8 lun) {
  if (lun_count_ < luns_.size()) luns_[lun_count_++] = lun;
}

void Storage::find_units() {
  const auto list = Pool<UINT8>::create_array(kReportBytes);
  if (!list) return;
  UINT8 target[TARGET_MAX_BYTES] = {};
  UINT8 cdb[12] = {kReportLuns};
  cdb[8] = kReportBytes >> 8;
  cdb[9] = kReportBytes & 0xFF;
  Request request = {};
  request.Timeout = 10 * kTicksOfSecond;
  request.Cdb = cdb;
  request.CdbLength = sizeof cdb;
  request.InDataBuffer = list.get();
  request.InTransferLength = kReportBytes;
  if (EFI_ERROR(pass_through(this, target, 0, &request, nullptr)) || request.TargetStatus != 0) {
    // An adapter that does not know: the bus driver's INQUIRY sorts out which exist.
    for (UINT8 lun = 0; lun < 8; ++lun) add_unit(lun);
    return;
  }
  const UINTN bytes = MIN(big_endian_32(list.get()), kReportBytes - kReportHeaderBytes);
  for (UINTN index = 0; index < bytes / kReportEntryBytes; ++index) {
    const UINT8 lun = list[kReportHeaderBytes + kReportEntryBytes * index + 1];  // single-level addressing: the unit is the second byte
    if (lun < kMaximumLuns) add_unit(lun);
  }
}

void Storage::offer_pass_through() {
  mode_.AdapterId = 64;
  mode_.Attributes = EFI_EXT_SCSI_PASS_THRU_ATTRIBUTES_PHYSICAL | EFI_EXT_SCSI_PASS_THRU_ATTRIBUTES_LOGICAL;
  mode_.IoAlign = 0;
  static_cast<Protocol&>(*this) = {&mode_,         pass_through,     get_next_target_lun, build_device_path, get_target_lun,
                                   reset_channel, reset_target_lun, get_next_target};
}

}  // namespace bygone::storage
