// Media: which devices hold an ISO 9660 volume. They are looked at whenever something is about to be booted, the shell included, and so
// after El Torito's boot images have got their file systems: those are what a DVD boots from first.
// SPDX-License-Identifier: Apache-2.0
#include "Iso9660.h"

extern "C" {
#include <Guid/EventGroup.h>
#include <Library/DevicePathLib.h>
#include <Library/UefiLib.h>
}

namespace bygone::iso9660 {
namespace {

MountedVolume* volumes;

}  // namespace

MountedVolume::~MountedVolume() {
  if (path_ != nullptr) FreePool(path_);
  if (sector_ != nullptr) FreeAlignedPages(sector_, 1);
}

Outcome MountedVolume::read(UINT64 offset, void* to, UINTN bytes) {
  if (offset > bytes_ || bytes > bytes_ - offset) return Outcome::kCorrupted;
  const UINT32 alignment = block_io_->Media->IoAlign;
  auto* at = static_cast<UINT8*>(to);
  while (bytes != 0) {
    const UINTN skip = static_cast<UINTN>(offset % kSectorBytes);
    const bool is_aligned = alignment <= 1 || reinterpret_cast<UINTN>(at) % alignment == 0;
    const bool is_direct = skip == 0 && bytes >= kSectorBytes && is_aligned;
    const UINTN part = is_direct ? bytes - bytes % kSectorBytes : MIN(bytes, kSectorBytes - skip);
    read_error_ = block_io_->ReadBlocks(block_io_, media_id_, offset / kSectorBytes, is_direct ? part : kSectorBytes,
                                        is_direct ? at : sector_);
    if (EFI_ERROR(read_error_)) return Outcome::kUnreadable;
    if (!is_direct) CopyMem(at, sector_ + skip, part);
    at += part;
    offset += part;
    bytes -= part;
  }
  return Outcome::kFound;
}

EFI_STATUS MountedVolume::status_of(Outcome outcome) const {
  switch (outcome) {
    case Outcome::kFound: return EFI_SUCCESS;
    case Outcome::kEnd: return EFI_END_OF_FILE;
    case Outcome::kNotFound: return EFI_NOT_FOUND;
    case Outcome::kUnsupported: return EFI_UNSUPPORTED;
    case Outcome::kUnreadable: return read_error_;
    case Outcome::kCorrupted: break;
  }
  return EFI_VOLUME_CORRUPTED;
}

/// Whether there is memory for the volume, and a volume.
bool MountedVolume::take(EFI_HANDLE device, EFI_BLOCK_IO_PROTOCOL* block_io) {
  Revision = EFI_SIMPLE_FILE_SYSTEM_PROTOCOL_REVISION;
  OpenVolume = open_volume;
  device_ = device;
  block_io_ = block_io;
  media_id_ = block_io->Media->MediaId;
  bytes_ = (block_io->Media->LastBlock + 1) * kSectorBytes;
  sector_ = static_cast<UINT8*>(AllocateAlignedPages(1, MAX(block_io->Media->IoAlign, EFI_PAGE_SIZE)));

  VENDOR_DEVICE_PATH node = {};
  node.Header.Type = MEDIA_DEVICE_PATH;
  node.Header.SubType = MEDIA_VENDOR_DP;
  SetDevicePathNodeLength(&node, sizeof node);
  CopyGuid(&node.Guid, &gBygoneIso9660NodeGuid);
  path_ = AppendDevicePathNode(DevicePathFromHandle(device), &node.Header);
  return sector_ != nullptr && path_ != nullptr && read_descriptors(*this, volume_) == Outcome::kFound;
}

bool MountedVolume::publish() {
  return !EFI_ERROR(gBS->InstallMultipleProtocolInterfaces(&handle_, &gEfiDevicePathProtocolGuid, path_, &gEfiSimpleFileSystemProtocolGuid,
                                                           static_cast<EFI_SIMPLE_FILE_SYSTEM_PROTOCOL*>(this), nullptr));
}

void MountedVolume::mount(EFI_HANDLE device, EFI_BLOCK_IO_PROTOCOL* block_io) {
  auto volume = Pool<MountedVolume>::create();
  if (!volume || !volume->take(device, block_io) || !volume->publish()) return;
  MountedVolume** end = &volumes;
  while (*end != nullptr) end = &(*end)->next_;
  *end = volume.release();
}

void MountedVolume::unmount_changed() {
  for (MountedVolume** link = &volumes; *link != nullptr;) {
    MountedVolume* const volume = *link;
    const bool is_gone =
        !volume->is_current() &&
        !EFI_ERROR(gBS->UninstallMultipleProtocolInterfaces(volume->handle_, &gEfiDevicePathProtocolGuid, volume->path_,
                                                            &gEfiSimpleFileSystemProtocolGuid,
                                                            static_cast<EFI_SIMPLE_FILE_SYSTEM_PROTOCOL*>(volume), nullptr));
    if (is_gone) {
      *link = volume->next_;
    } else {
      link = &volume->next_;
    }
  }
}

bool MountedVolume::is_mounted(EFI_HANDLE device) {
  for (const MountedVolume* volume = volumes; volume != nullptr; volume = volume->next_) {
    if (volume->device_ == device) return true;
  }
  return false;
}

namespace {

bool may_hold_volume(const EFI_BLOCK_IO_MEDIA& media) {
  return media.MediaPresent && !media.LogicalPartition && media.BlockSize == kSectorBytes;
}

void EFIAPI on_ready_to_boot(EFI_EVENT, void*) {
  MountedVolume::unmount_changed();
  Pool<EFI_HANDLE> handles;
  UINTN count = 0;
  if (EFI_ERROR(gBS->LocateHandleBuffer(ByProtocol, &gEfiBlockIoProtocolGuid, nullptr, &count, handles.out()))) return;
  for (UINTN index = 0; index < count; ++index) {
    EFI_HANDLE const device = handles[index];
    void* block_io = nullptr;
    if (EFI_ERROR(gBS->HandleProtocol(device, &gEfiBlockIoProtocolGuid, &block_io))) continue;
    auto* const block = static_cast<EFI_BLOCK_IO_PROTOCOL*>(block_io);
    if (may_hold_volume(*block->Media) && DevicePathFromHandle(device) != nullptr && !MountedVolume::is_mounted(device)) {
      MountedVolume::mount(device, block);
    }
  }
}

}  // namespace
}  // namespace bygone::iso9660

extern "C" EFI_STATUS EFIAPI Iso9660Entry(EFI_HANDLE, EFI_SYSTEM_TABLE*) {
  EFI_EVENT event = nullptr;
  return gBS->CreateEventEx(EVT_NOTIFY_SIGNAL, TPL_CALLBACK, bygone::iso9660::on_ready_to_boot, nullptr, &gEfiEventReadyToBootGuid, &event);
}
