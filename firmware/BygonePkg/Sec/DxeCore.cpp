// Finds the DXE core in the main volume (PI 1.7 volume 3, firmware file system 2) and loads it.
// SPDX-License-Identifier: Apache-2.0
#include "Sec.h"

extern "C" {
#include <Library/PeCoffLib.h>
#include <Pi/PiFirmwareFile.h>
#include <Pi/PiFirmwareVolume.h>
}

namespace bygone::sec {
namespace {

/// What lies at an offset from a header.
template <typename T, typename Header>
const T& at(const Header& header, UINTN offset) {
  return *reinterpret_cast<const T*>(reinterpret_cast<UINTN>(&header) + offset);
}

UINTN size_of(const EFI_FFS_FILE_HEADER& file) { return IS_FFS_FILE2(&file) ? FFS_FILE2_SIZE(&file) : FFS_FILE_SIZE(&file); }
UINTN header_size_of(const EFI_FFS_FILE_HEADER& file) { return IS_FFS_FILE2(&file) ? sizeof(EFI_FFS_FILE_HEADER2) : sizeof file; }

UINTN size_of(const EFI_COMMON_SECTION_HEADER& section) {
  return IS_SECTION2(&section) ? SECTION2_SIZE(&section) : SECTION_SIZE(&section);
}
UINTN header_size_of(const EFI_COMMON_SECTION_HEADER& section) {
  return IS_SECTION2(&section) ? sizeof(EFI_COMMON_SECTION_HEADER2) : sizeof section;
}

UINTN first_file_offset(const EFI_FIRMWARE_VOLUME_HEADER& volume) {
  if (volume.ExtHeaderOffset == 0) return volume.HeaderLength;
  return volume.ExtHeaderOffset + at<EFI_FIRMWARE_VOLUME_EXT_HEADER>(volume, volume.ExtHeaderOffset).ExtHeaderSize;
}

/// Null: there is none. Free space at the volume's end reads as a file of all ones.
const EFI_FFS_FILE_HEADER* find_dxe_core(const EFI_FIRMWARE_VOLUME_HEADER& volume) {
  constexpr UINTN kFreeSpace = 0xFFFFFF;
  for (UINTN offset = ALIGN_VALUE(first_file_offset(volume), 8); offset + sizeof(EFI_FFS_FILE_HEADER) < volume.FvLength;) {
    const auto& file = at<EFI_FFS_FILE_HEADER>(volume, offset);
    if (file.Type == EFI_FV_FILETYPE_DXE_CORE) return &file;
    const UINTN size = size_of(file);
    if (size < sizeof file || size == kFreeSpace) break;
    offset = ALIGN_VALUE(offset + size, 8);
  }
  return nullptr;
}

/// The image in a file's section for one; null: there is none.
const void* find_image(const EFI_FFS_FILE_HEADER& file) {
  const UINTN end = size_of(file);
  for (UINTN offset = header_size_of(file); offset + sizeof(EFI_COMMON_SECTION_HEADER) < end;) {
    const auto& section = at<EFI_COMMON_SECTION_HEADER>(file, offset);
    if (section.Type == EFI_SECTION_PE32) return &at<UINT8>(section, header_size_of(section));
    if (size_of(section) < sizeof section) break;
    offset = ALIGN_VALUE(offset + size_of(section), 4);
  }
  return nullptr;
}

/// Its memory too is for `image` to say.
RETURN_STATUS load(PE_COFF_LOADER_IMAGE_CONTEXT& image, HobList& hobs) {
  RETURN_STATUS status = PeCoffLoaderGetImageInfo(&image);
  if (RETURN_ERROR(status)) return status;
  image.ImageAddress = reinterpret_cast<UINTN>(hobs.take_pages(EFI_SIZE_TO_PAGES(image.ImageSize)));
  status = PeCoffLoaderLoadImage(&image);
  return RETURN_ERROR(status) ? status : PeCoffLoaderRelocateImage(&image);
}

}  // namespace

void* load_dxe_core(HobList& hobs, const EFI_FIRMWARE_VOLUME_HEADER& volume) {
  if (volume.Signature != EFI_FVH_SIGNATURE) fail("no firmware volume at 0x%lx", reinterpret_cast<UINTN>(&volume));
  const EFI_FFS_FILE_HEADER* const file = find_dxe_core(volume);
  const void* const pe = file != nullptr ? find_image(*file) : nullptr;
  if (pe == nullptr) fail("no DXE core in the firmware volume");

  PE_COFF_LOADER_IMAGE_CONTEXT image;
  ZeroMem(&image, sizeof image);
  image.Handle = const_cast<void*>(pe);  // it is only read
  image.ImageRead = PeCoffLoaderImageReadFromMemory;
  const RETURN_STATUS status = load(image, hobs);
  if (RETURN_ERROR(status)) fail("the DXE core does not load: status 0x%lx", status);
  hobs.add_core(file->Name, image.ImageAddress, ALIGN_VALUE(image.ImageSize, EFI_PAGE_SIZE), image.EntryPoint);
  return reinterpret_cast<void*>(image.EntryPoint);
}

}  // namespace bygone::sec
