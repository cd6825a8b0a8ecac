// What BDS asks the platform. Boot order is the host's and the guest's business, kept in the ordinary variables; here only new devices are
// added to it. Nothing waits, and nothing is connected that booting does not need.
// SPDX-License-Identifier: Apache-2.0
#include "PlatformBootManager.h"

#include <BygoneBlob.h>
#include <BygoneText.h>

extern "C" {
#include <Guid/EventGroup.h>
#include <Library/BootLogoLib.h>
#include <Library/PlatformBootManagerLib.h>
#include <Protocol/BlockIo.h>
}

namespace bygone::boot {
namespace {

auto shell_name = wide("UEFI Shell");

EFI_STATUS menu(EFI_BOOT_MANAGER_LOAD_OPTION& option) { return EfiBootManagerGetBootManagerMenu(&option); }

/// Whether nobody has chosen yet what to boot. BootOrder alone does not tell: EDK II puts its menu there before anything is asked.
bool has_nothing_to_boot() {
  for (const auto& option : BootOptions()) {
    const bool is_active = (option.Attributes & LOAD_OPTION_ACTIVE) != 0;
    if (is_active && (option.Attributes & LOAD_OPTION_CATEGORY) == LOAD_OPTION_CATEGORY_BOOT) return false;
  }
  return true;
}

/// Enter ends the wait for a key, ESC opens the menu.
void register_keys() {
  EFI_INPUT_KEY enter = {SCAN_NULL, CHAR_CARRIAGE_RETURN};
  EfiBootManagerRegisterContinueKeyOption(0, &enter, nullptr);
  if (const LoadOption option(menu); option) {
    EFI_INPUT_KEY escape = {SCAN_ESC, CHAR_NULL};
    EfiBootManagerAddKeyOptionVariable(nullptr, static_cast<UINT16>(option.OptionNumber), 0, &escape, nullptr);
  }
}

/// The shell, for the menu's list: hidden from automatic booting, so it is not "active".
void register_shell() {
  const auto* const image = protocol_of<EFI_LOADED_IMAGE_PROTOCOL>(gImageHandle, gEfiLoadedImageProtocolGuid);
  if (image == nullptr) return;
  MEDIA_FW_VOL_FILEPATH_DEVICE_PATH file;
  EfiInitializeFwVolDevicepathNode(&file, &gUefiShellFileGuid);
  const Pool<EFI_DEVICE_PATH_PROTOCOL> path(AppendDevicePathNode(DevicePathFromHandle(image->DeviceHandle), &file.Header));
  if (!path) return;
  LoadOption shell([&path](EFI_BOOT_MANAGER_LOAD_OPTION& option) {
    return EfiBootManagerInitializeLoadOption(&option, LoadOptionNumberUnassigned, LoadOptionTypeBoot, 0, shell_name.characters, path.get(),
                                              nullptr, 0);
  });
  if (shell && !BootOptions().has(shell)) EfiBootManagerAddLoadOptionVariable(&shell, MAX_UINTN);
}

/// What is tried first.
enum class MediaRank { kFixed, kOther };

MediaRank rank(const EFI_BOOT_MANAGER_LOAD_OPTION& option) {
  EFI_DEVICE_PATH_PROTOCOL* path = option.FilePath;
  EFI_HANDLE handle = nullptr;
  if (EFI_ERROR(gBS->LocateDevicePath(&gEfiBlockIoProtocolGuid, &path, &handle))) return MediaRank::kOther;
  const auto* const device = protocol_of<EFI_BLOCK_IO_PROTOCOL>(handle, gEfiBlockIoProtocolGuid);
  return device == nullptr || device->Media->RemovableMedia ? MediaRank::kOther : MediaRank::kFixed;
}

INTN EFIAPI disks_first(const void* left, const void* right) {
  const auto& first = *static_cast<const EFI_BOOT_MANAGER_LOAD_OPTION*>(left);
  const auto& second = *static_cast<const EFI_BOOT_MANAGER_LOAD_OPTION*>(right);
  const MediaRank first_rank = rank(first);
  const MediaRank second_rank = rank(second);
  if (first_rank != second_rank) return first_rank < second_rank ? -1 : 1;
  return first.OptionNumber < second.OptionNumber ? -1 : 1;
}

void start_menu() {
  if (LoadOption option(menu); option) EfiBootManagerBoot(&option);
}

void start_shell() {
  for (auto& option : BootOptions()) {
    if (StrCmp(option.Description, shell_name.characters) == 0) EfiBootManagerBoot(&option);
  }
}

}  // namespace
}  // namespace bygone::boot

using namespace bygone;
using namespace bygone::boot;

void EFIAPI PlatformBootManagerBeforeConsole() {
  EfiEventGroupSignal(&gEfiEndOfDxeEventGroupGuid);
  describe_consoles();
  register_keys();
}

void EFIAPI PlatformBootManagerAfterConsole() {
  catch_faults();
  filter_boot_options();
  publish_logo();
  BootLogoEnableLogo();

  for_each_channel(kStorageInterface, [](EFI_HANDLE handle) { gBS->ConnectController(handle, nullptr, nullptr, TRUE); });
  const bool is_first_boot = has_nothing_to_boot();
  EfiBootManagerRefreshAllBootOption();
  // EDK II lists removable media first; a machine with a system on its disk shall start that.
  if (is_first_boot) EfiBootManagerSortLoadOptionVariable(LoadOptionTypeBoot, disks_first);
  register_shell();
}

void EFIAPI PlatformBootManagerWaitCallback(UINT16 seconds) {
  AsciiPrint("\rBygone: starting in %d s. ESC: menu, Enter: start now  ", UINT32{seconds});
}

void EFIAPI PlatformBootManagerUnableToBoot() {
  gST->ConOut->ClearScreen(gST->ConOut);
  AsciiPrint("Bygone: nothing to boot. No disk and no DVD has a boot loader for this machine\r\n");
  AsciiPrint("(\\EFI\\BOOT\\BOOTX64.EFI, or a boot entry of its own).\r\n");
  // A machine without a bus has no screen and no disks to choose from in a menu.
  if (Handles(gBygoneVmbusChannelProtocolGuid).is_empty()) start_shell();
  if (blob::here().flags().has_no_front_page()) gRT->ResetSystem(EfiResetCold, EFI_NOT_FOUND, 0, nullptr);
  for (;;) start_menu();
}
