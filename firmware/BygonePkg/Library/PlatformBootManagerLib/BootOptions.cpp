// Keeps out of the boot options what EDK II finds but nobody would boot from: the ISO 9660 view of a DVD. The DVD itself has an option
// already, which tries El Torito's image first and then this view.
// SPDX-License-Identifier: Apache-2.0
#include "PlatformBootManager.h"

extern "C" {
#include <Protocol/PlatformBootManager.h>
}

namespace bygone::boot {
namespace {

using Option = EFI_BOOT_MANAGER_LOAD_OPTION;

bool is_iso9660_node(const EFI_DEVICE_PATH_PROTOCOL& node) {
  if (DevicePathType(&node) != MEDIA_DEVICE_PATH || DevicePathSubType(&node) != MEDIA_VENDOR_DP) return false;
  if (DevicePathNodeLength(&node) < sizeof(VENDOR_DEVICE_PATH)) return false;
  return CompareGuid(&reinterpret_cast<const VENDOR_DEVICE_PATH&>(node).Guid, &gBygoneIso9660NodeGuid);
}

bool is_iso9660_view(const Option& option) {
  for (auto* node = option.FilePath; !IsDevicePathEnd(node); node = NextDevicePathNode(node)) {
    if (is_iso9660_node(*node)) return true;
  }
  return false;
}

EFI_STATUS copy(const Option& from, Option& to) {
  return EfiBootManagerInitializeLoadOption(&to, from.OptionNumber, from.OptionType, from.Attributes, from.Description, from.FilePath,
                                            from.OptionalData, from.OptionalDataSize);
}

EFI_STATUS EFIAPI refresh_all(const Option* options, const UINTN count, Option** updated, UINTN* updated_count) {
  auto kept = Pool<Option>::create_array(MAX(count, 1));
  if (!kept) return EFI_OUT_OF_RESOURCES;
  UINTN kept_count = 0;
  for (UINTN index = 0; index < count; ++index) {
    if (is_iso9660_view(options[index])) continue;
    const EFI_STATUS status = copy(options[index], kept[kept_count]);
    if (EFI_ERROR(status)) {
      EfiBootManagerFreeLoadOptions(kept.release(), kept_count);
      return status;
    }
    ++kept_count;
  }
  *updated = kept.release();
  *updated_count = kept_count;
  return EFI_SUCCESS;
}

EDKII_PLATFORM_BOOT_MANAGER_PROTOCOL protocol = {EDKII_PLATFORM_BOOT_MANAGER_PROTOCOL_REVISION, refresh_all};

}  // namespace

void filter_boot_options() {
  EFI_HANDLE handle = nullptr;
  gBS->InstallMultipleProtocolInterfaces(&handle, &gEdkiiPlatformBootManagerProtocolGuid, &protocol, nullptr);
}

}  // namespace bygone::boot
