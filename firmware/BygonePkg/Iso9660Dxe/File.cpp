// EFI_FILE_PROTOCOL (UEFI 2.10, 13.5) on a volume that cannot be written.
// SPDX-License-Identifier: Apache-2.0
#include "Iso9660.h"

extern "C" {
#include <Guid/FileInfo.h>
#include <Guid/FileSystemInfo.h>
#include <Guid/FileSystemVolumeLabelInfo.h>
#include <Library/BaseLib.h>
}

namespace bygone::iso9660 {
namespace {

constexpr UINTN kPathCharacters = 1024;  ///< with the 0

struct File : EFI_FILE_PROTOCOL {
  MountedVolume* volume;
  Entry entry;
  std::uint64_t position;
  CHAR16 path[kPathCharacters];  ///< from the root; empty for the root itself
};

File& file_of(EFI_FILE_PROTOCOL* self) { return *static_cast<File*>(self); }

EFI_STATUS open_path(MountedVolume& volume, const CHAR16* path, EFI_FILE_PROTOCOL** to);

EFI_STATUS EFIAPI open(EFI_FILE_PROTOCOL* self, EFI_FILE_PROTOCOL** to, CHAR16* name, UINT64 mode, UINT64) {
  constexpr CHAR16 kBackslash[] = {'\\', 0};
  if (to == nullptr || name == nullptr) return EFI_INVALID_PARAMETER;
  if (mode != EFI_FILE_MODE_READ) return EFI_WRITE_PROTECTED;
  CHAR16 path[kPathCharacters];
  path[0] = 0;
  if (name[0] != '\\') StrCpyS(path, kPathCharacters, file_of(self).path);
  if (EFI_ERROR(StrCatS(path, kPathCharacters, kBackslash)) || EFI_ERROR(StrCatS(path, kPathCharacters, name)) ||
      PathCleanUpDirectories(path) == nullptr) {
    return EFI_NOT_FOUND;
  }
  return open_path(*file_of(self).volume, path, to);
}

EFI_STATUS EFIAPI close(EFI_FILE_PROTOCOL* self) {
  const Pool<File> file(&file_of(self));
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI remove(EFI_FILE_PROTOCOL* self) {
  close(self);
  return EFI_WARN_DELETE_FAILURE;
}

/// A place for `needed` bytes in the caller's buffer. Null sets the size that it takes: the answer is EFI_BUFFER_TOO_SMALL.
template <typename T>
T* place_in(void* buffer, UINTN* bytes, UINTN needed) {
  const bool fits = *bytes >= needed;
  *bytes = needed;
  if (!fits) return nullptr;
  ZeroMem(buffer, needed);
  return static_cast<T*>(buffer);
}

EFI_TIME time_of(const Time& time) {
  EFI_TIME to = {};
  to.Year = time.year;
  to.Month = time.month;
  to.Day = time.day;
  to.Hour = time.hour;
  to.Minute = time.minute;
  to.Second = time.second;
  to.TimeZone = time.has_zone ? time.minutes_to_utc : static_cast<INT16>(EFI_UNSPECIFIED_TIMEZONE);
  return to;
}

EFI_STATUS describe(const Entry& entry, UINTN* bytes, void* buffer) {
  auto* const information = place_in<EFI_FILE_INFO>(buffer, bytes, SIZE_OF_EFI_FILE_INFO + entry.name.bytes());
  if (information == nullptr) return EFI_BUFFER_TOO_SMALL;
  information->Size = *bytes;
  information->FileSize = entry.bytes;
  information->PhysicalSize = ALIGN_VALUE(UINT64{entry.bytes}, kSectorBytes);
  information->Attribute = EFI_FILE_READ_ONLY | (entry.is_directory ? EFI_FILE_DIRECTORY : 0);
  information->CreateTime = information->LastAccessTime = information->ModificationTime = time_of(entry.time);
  CopyMem(information->FileName, entry.name.data(), entry.name.bytes());
  return EFI_SUCCESS;
}

EFI_STATUS read_directory(File& file, UINTN* bytes, void* buffer) {
  Entry entry;
  std::uint64_t position = file.position;
  const Outcome outcome = next_entry(*file.volume, file.volume->contents(), file.entry, position, entry);
  if (outcome == Outcome::kEnd) {
    *bytes = 0;
    return EFI_SUCCESS;
  }
  if (outcome != Outcome::kFound) return file.volume->status_of(outcome);
  const EFI_STATUS status = describe(entry, bytes, buffer);
  if (!EFI_ERROR(status)) file.position = position;
  return status;
}

EFI_STATUS EFIAPI read(EFI_FILE_PROTOCOL* self, UINTN* bytes, void* buffer) {
  File& file = file_of(self);
  if (file.entry.is_directory) return read_directory(file, bytes, buffer);
  if (file.position > file.entry.bytes) return EFI_DEVICE_ERROR;  // UEFI 2.10, 13.5, Read(): the position is past the end
  const UINTN part = MIN(*bytes, file.entry.bytes - file.position);
  const Outcome outcome = file.volume->read(file.entry.offset + file.position, buffer, part);
  if (outcome != Outcome::kFound) return file.volume->status_of(outcome);
  *bytes = part;
  file.position += part;
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI write(EFI_FILE_PROTOCOL* self, UINTN*, void*) {
  return file_of(self).entry.is_directory ? EFI_UNSUPPORTED : EFI_WRITE_PROTECTED;
}

EFI_STATUS EFIAPI get_position(EFI_FILE_PROTOCOL* self, UINT64* position) {
  if (file_of(self).entry.is_directory) return EFI_UNSUPPORTED;
  *position = file_of(self).position;
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI set_position(EFI_FILE_PROTOCOL* self, UINT64 position) {
  File& file = file_of(self);
  if (file.entry.is_directory && position != 0) return EFI_UNSUPPORTED;
  file.position = position == MAX_UINT64 ? file.entry.bytes : position;
  return EFI_SUCCESS;
}

EFI_STATUS describe(const MountedVolume& volume, UINTN* bytes, void* buffer) {
  const Label& label = volume.contents().label;
  auto* const information = place_in<EFI_FILE_SYSTEM_INFO>(buffer, bytes, SIZE_OF_EFI_FILE_SYSTEM_INFO + label.bytes());
  if (information == nullptr) return EFI_BUFFER_TOO_SMALL;
  information->Size = *bytes;
  information->ReadOnly = TRUE;
  information->VolumeSize = volume.bytes();
  information->BlockSize = kSectorBytes;
  CopyMem(information->VolumeLabel, label.data(), label.bytes());
  return EFI_SUCCESS;
}

EFI_STATUS give_label(const Label& label, UINTN* bytes, void* buffer) {
  void* const to = place_in<CHAR16>(buffer, bytes, label.bytes());
  if (to == nullptr) return EFI_BUFFER_TOO_SMALL;
  CopyMem(to, label.data(), label.bytes());
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI get_info(EFI_FILE_PROTOCOL* self, EFI_GUID* type, UINTN* bytes, void* buffer) {
  const File& file = file_of(self);
  if (CompareGuid(type, &gEfiFileInfoGuid)) return describe(file.entry, bytes, buffer);
  if (CompareGuid(type, &gEfiFileSystemInfoGuid)) return describe(*file.volume, bytes, buffer);
  if (CompareGuid(type, &gEfiFileSystemVolumeLabelInfoIdGuid)) return give_label(file.volume->contents().label, bytes, buffer);
  return EFI_UNSUPPORTED;
}

EFI_STATUS EFIAPI set_info(EFI_FILE_PROTOCOL*, EFI_GUID*, UINTN, void*) { return EFI_WRITE_PROTECTED; }

EFI_STATUS EFIAPI flush(EFI_FILE_PROTOCOL*) { return EFI_SUCCESS; }

constexpr EFI_FILE_PROTOCOL kFunctions = {
    EFI_FILE_PROTOCOL_REVISION, open, close, remove, read, write, get_position, set_position, get_info, set_info, flush,
    nullptr, nullptr, nullptr, nullptr};

EFI_STATUS open_path(MountedVolume& volume, const CHAR16* path, EFI_FILE_PROTOCOL** to) {
  auto file = Pool<File>::create();
  if (!file) return EFI_OUT_OF_RESOURCES;
  static_cast<EFI_FILE_PROTOCOL&>(*file) = kFunctions;
  file->volume = &volume;
  const Outcome outcome = find(volume, volume.contents(), path, file->entry);
  if (outcome != Outcome::kFound) return volume.status_of(outcome);
  StrCpyS(file->path, kPathCharacters, path);
  for (UINTN length = StrLen(path); length != 0 && path[length - 1] == '\\'; --length) file->path[length - 1] = 0;
  *to = file.release();
  return EFI_SUCCESS;
}

}  // namespace

EFI_STATUS EFIAPI open_volume(EFI_SIMPLE_FILE_SYSTEM_PROTOCOL* self, EFI_FILE_PROTOCOL** root) {
  constexpr CHAR16 kRoot[] = {0};
  return open_path(*static_cast<MountedVolume*>(self), kRoot, root);
}

}  // namespace bygone::iso9660
