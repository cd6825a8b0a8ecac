// A medium with an ISO 9660 volume as UEFI sees it. What stands on the medium: Format.h.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <BygoneCxx.h>

extern "C" {
#include <PiDxe.h>
#include <Protocol/BlockIo.h>
#include <Protocol/DevicePath.h>
#include <Protocol/SimpleFileSystem.h>
}

#include "Format.h"

namespace bygone::iso9660 {

class MountedVolume : public EFI_SIMPLE_FILE_SYSTEM_PROTOCOL {
 public:
  /// Publishes a file system for the device, if there is a volume on its medium. Never freed once it is published: a file may be open.
  static void mount(EFI_HANDLE device, EFI_BLOCK_IO_PROTOCOL* block_io);
  /// Takes volumes away whose medium is another now. Their memory stays: a file of theirs may still be open, and fails when it is read.
  static void unmount_changed();
  static bool is_mounted(EFI_HANDLE device);

  MountedVolume() = default;
  MountedVolume(const MountedVolume&) = delete;
  MountedVolume& operator=(const MountedVolume&) = delete;
  ~MountedVolume();

  /// As Format.h wants it of a medium.
  Outcome read(UINT64 offset, void* to, UINTN bytes);
  /// An outcome as UEFI says it.
  EFI_STATUS status_of(Outcome outcome) const;
  const Volume& contents() const { return volume_; }
  UINT64 bytes() const { return bytes_; }

 private:
  bool take(EFI_HANDLE device, EFI_BLOCK_IO_PROTOCOL* block_io);
  bool publish();
  bool is_current() const { return block_io_->Media->MediaPresent && block_io_->Media->MediaId == media_id_; }

  MountedVolume* next_ = nullptr;
  EFI_HANDLE device_ = nullptr;
  EFI_HANDLE handle_ = nullptr;
  EFI_BLOCK_IO_PROTOCOL* block_io_ = nullptr;
  UINT32 media_id_ = 0;
  UINT64 bytes_ = 0;  ///< of the medium
  EFI_STATUS read_error_ = EFI_SUCCESS;  ///< what the last kUnreadable was
  EFI_DEVICE_PATH_PROTOCOL* path_ = nullptr;
  UINT8* sector_ = nullptr;  ///< for parts of sectors
  Volume volume_;
};

/// EFI_SIMPLE_FILE_SYSTEM_PROTOCOL's only function.
EFI_STATUS EFIAPI open_volume(EFI_SIMPLE_FILE_SYSTEM_PROTOCOL* self, EFI_FILE_PROTOCOL** root);

}  // namespace bygone::iso9660
