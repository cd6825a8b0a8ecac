// The storage service's packets (Linux drivers/scsi/storvsc_drv.c describes the same wire format) and the driver's state.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Library/VmbusDriverLib.h>

#include <array>

extern "C" {
#include <Protocol/DevicePath.h>
#include <Protocol/ScsiPassThruExt.h>
}

namespace bygone::storage {

enum class Operation : UINT32 {
  kCompleteIo = 1,
  kRemoveDevice = 2,
  kExecuteSrb = 3,
  kBeginInitialization = 7,
  kEndInitialization = 8,
  kQueryProtocolVersion = 9,
  kQueryProperties = 10,
};

constexpr UINT32 kWantsCompletion = BIT0;

enum class Direction : UINT8 { kOut = 0, kIn = 1, kNone = 2 };

constexpr UINT32 kSrbNoSynchronousTransfer = 0x08;
constexpr UINT32 kSrbDataIn = 0x40;
constexpr UINT32 kSrbDataOut = 0x80;

/// In SrbStatus, without its upper two bits.
enum class SrbStatus : UINT8 {
  kSuccess = 0x01,
  kAborted = 0x02,
  kError = 0x04,
  kNoDevice = 0x08,
  kTimeout = 0x09,
  kDataOverrun = 0x12,
  kInvalidLun = 0x20,
};
constexpr UINT8 kSrbStatusMask = 0x3F;
constexpr UINT8 kSrbSenseValid = 0x80;

constexpr UINT8 kSenseBytes = 20;
constexpr UINT8 kCdbBytes = 16;

#pragma pack(1)

struct Srb {
  UINT16 length;
  UINT8 srb_status;
  UINT8 scsi_status;
  UINT8 port;
  UINT8 path;
  UINT8 target;
  UINT8 lun;
  UINT8 cdb_length;
  UINT8 sense_length;
  Direction direction;
  UINT8 reserved;
  UINT32 data_bytes;
  UINT8 cdb_or_sense[kSenseBytes];  ///< of the request, of the completion
  UINT16 reserved2;
  UINT8 queue_tag;
  UINT8 queue_action;
  UINT32 flags;
  UINT32 timeout_seconds;
  UINT32 sort_key;
};

struct Packet {
  Operation operation;
  UINT32 flags;
  UINT32 status;
  union {
    Srb srb;
    UINT16 version;  ///< major in the high byte
  };
};

#pragma pack()

static_assert(sizeof(Srb) == 52, "the request of Windows 8 and later");
static_assert(sizeof(Packet) == 64, "the packet of Windows 8 and later");

class Storage : public EFI_EXT_SCSI_PASS_THRU_PROTOCOL {
 public:
  static constexpr EFI_GUID kInterface = kStorageInterface;
  static constexpr EFI_GUID* kProtocol = &gEfiExtScsiPassThruProtocolGuid;
  static constexpr char kName[] = "storage";
  using Protocol = EFI_EXT_SCSI_PASS_THRU_PROTOCOL;
  static constexpr UINTN kMaximumLuns = 64;

  EFI_STATUS start(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller);
  EFI_STATUS withdraw(EFI_HANDLE controller);

  /// Sends a packet and waits for its completion. One request is in flight at a time.
  /// `packet`: in the request, out the completion. 0 ns: waits for ever.
  EFI_STATUS transact(Packet& packet, void* data, UINTN data_bytes, UINT64 timeout_ns);

  UINTN lun_count() const { return lun_count_; }
  UINT8 lun(UINTN index) const { return luns_[index]; }

 private:
  EFI_STATUS control(Packet& packet, Operation operation);
  EFI_STATUS negotiate();
  /// Fills in the protocol's functions and mode.
  void offer_pass_through();
  /// Asks the adapter which units exist.
  void find_units();
  void add_unit(UINT8 lun);

  Channel channel_;
  EFI_EXT_SCSI_PASS_THRU_MODE mode_;
  UINT64 last_transaction_;
  std::array<UINT8, kMaximumLuns> luns_;
  UINTN lun_count_;
};

}  // namespace bygone::storage
