/** @file
  What BDS asks the platform. Boot order is the host's and the guest's business, kept in the ordinary variables; here only new devices
  are added to it. Nothing waits, and nothing is connected that booting does not need.

  SPDX-License-Identifier: Apache-2.0
**/
#include "PlatformBootManager.h"
#include <Guid/EventGroup.h>
#include <Guid/GlobalVariable.h>
#include <Library/BootLogoLib.h>
#include <Protocol/BlockIo.h>
#include <Protocol/LoadedImage.h>

STATIC CONST EFI_GUID  mStorageInterface = {
  0xba6163d9, 0x04a1, 0x4d29, { 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f }
};

/// Whether nobody has chosen yet what to boot. BootOrder alone does not tell: EDK II puts its menu there before anything is asked.
STATIC BOOLEAN
HasNothingToBoot (
  VOID
  )
{
  EFI_BOOT_MANAGER_LOAD_OPTION  *Options;
  UINTN                         Count;
  UINTN                         Index;
  BOOLEAN                       Nothing;

  Nothing = TRUE;
  Options = EfiBootManagerGetLoadOptions (&Count, LoadOptionTypeBoot);
  for (Index = 0; Index < Count; Index++) {
    if (((Options[Index].Attributes & LOAD_OPTION_ACTIVE) != 0) &&
        ((Options[Index].Attributes & LOAD_OPTION_CATEGORY) == LOAD_OPTION_CATEGORY_BOOT))
    {
      Nothing = FALSE;
    }
  }

  EfiBootManagerFreeLoadOptions (Options, Count);
  return Nothing;
}

VOID
EFIAPI
PlatformBootManagerBeforeConsole (
  VOID
  )
{
  EFI_BOOT_MANAGER_LOAD_OPTION  Menu;
  EFI_INPUT_KEY                 Escape;
  EFI_INPUT_KEY                 Enter;

  EfiEventGroupSignal (&gEfiEndOfDxeEventGroupGuid);
  ConsoleDescribe ();

  Enter.ScanCode    = SCAN_NULL;
  Enter.UnicodeChar = CHAR_CARRIAGE_RETURN;
  EfiBootManagerRegisterContinueKeyOption (0, &Enter, NULL);

  Escape.ScanCode    = SCAN_ESC;
  Escape.UnicodeChar = CHAR_NULL;
  if (!EFI_ERROR (EfiBootManagerGetBootManagerMenu (&Menu))) {
    EfiBootManagerAddKeyOptionVariable (NULL, (UINT16)Menu.OptionNumber, 0, &Escape, NULL);
    EfiBootManagerFreeLoadOption (&Menu);
  }
}

STATIC VOID
Connect (
  IN EFI_HANDLE  Handle
  )
{
  gBS->ConnectController (Handle, NULL, NULL, TRUE);
}

/// The shell, for the menu's list: hidden from automatic booting, so it is not "active".
STATIC VOID
RegisterShell (
  VOID
  )
{
  EFI_BOOT_MANAGER_LOAD_OPTION       *Options;
  EFI_BOOT_MANAGER_LOAD_OPTION       Shell;
  MEDIA_FW_VOL_FILEPATH_DEVICE_PATH  File;
  EFI_LOADED_IMAGE_PROTOCOL          *Image;
  EFI_DEVICE_PATH_PROTOCOL           *Path;
  UINTN                              Count;

  if (EFI_ERROR (gBS->HandleProtocol (gImageHandle, &gEfiLoadedImageProtocolGuid, (VOID **)&Image))) {
    return;
  }

  EfiInitializeFwVolDevicepathNode (&File, &gUefiShellFileGuid);
  Path = AppendDevicePathNode (DevicePathFromHandle (Image->DeviceHandle), (EFI_DEVICE_PATH_PROTOCOL *)&File);
  if (Path == NULL) {
    return;
  }

  if (!EFI_ERROR (
         EfiBootManagerInitializeLoadOption (
           &Shell,
           LoadOptionNumberUnassigned,
           LoadOptionTypeBoot,
           0,
           L"UEFI Shell",
           Path,
           NULL,
           0
           )
         ))
  {
    Options = EfiBootManagerGetLoadOptions (&Count, LoadOptionTypeBoot);
    if (EfiBootManagerFindLoadOption (&Shell, Options, Count) == -1) {
      EfiBootManagerAddLoadOptionVariable (&Shell, MAX_UINTN);
    }

    EfiBootManagerFreeLoadOptions (Options, Count);
    EfiBootManagerFreeLoadOption (&Shell);
  }

  FreePool (Path);
}

/// 0: a fixed disk or a file; 1: other media.
STATIC UINTN
MediaRank (
  IN CONST EFI_BOOT_MANAGER_LOAD_OPTION  *Option
  )
{
  EFI_DEVICE_PATH_PROTOCOL  *Path;
  EFI_HANDLE                Handle;
  EFI_BLOCK_IO_PROTOCOL     *BlockIo;

  Path = Option->FilePath;
  if (EFI_ERROR (gBS->LocateDevicePath (&gEfiBlockIoProtocolGuid, &Path, &Handle)) ||
      EFI_ERROR (gBS->HandleProtocol (Handle, &gEfiBlockIoProtocolGuid, (VOID **)&BlockIo)))
  {
    return 1;
  }

  return BlockIo->Media->RemovableMedia ? 1 : 0;
}

STATIC INTN
EFIAPI
DisksFirst (
  IN CONST VOID  *Left,
  IN CONST VOID  *Right
  )
{
  CONST EFI_BOOT_MANAGER_LOAD_OPTION  *First;
  CONST EFI_BOOT_MANAGER_LOAD_OPTION  *Second;
  UINTN                               FirstRank;
  UINTN                               SecondRank;

  First      = Left;
  Second     = Right;
  FirstRank  = MediaRank (First);
  SecondRank = MediaRank (Second);
  if (FirstRank != SecondRank) {
    return (FirstRank < SecondRank) ? -1 : 1;
  }

  return (First->OptionNumber < Second->OptionNumber) ? -1 : 1;
}

VOID
EFIAPI
PlatformBootManagerAfterConsole (
  VOID
  )
{
  BOOLEAN  FirstBoot;

  FaultsCatch ();
  BootOptionsFilter ();
  LogoPublish ();
  BootLogoEnableLogo ();

  ForEachChannel (&mStorageInterface, Connect);
  FirstBoot = HasNothingToBoot ();
  EfiBootManagerRefreshAllBootOption ();
  if (FirstBoot) {
    // EDK II lists removable media first; a machine with a system on its disk shall start that.
    EfiBootManagerSortLoadOptionVariable (LoadOptionTypeBoot, DisksFirst);
  }

  RegisterShell ();
}

VOID
EFIAPI
PlatformBootManagerWaitCallback (
  IN UINT16  TimeoutRemain
  )
{
  Print (L"\rBygone: starting in %d s. ESC: menu, Enter: start now  ", TimeoutRemain);
}

STATIC VOID
StartMenu (
  VOID
  )
{
  EFI_BOOT_MANAGER_LOAD_OPTION  Menu;

  if (!EFI_ERROR (EfiBootManagerGetBootManagerMenu (&Menu))) {
    EfiBootManagerBoot (&Menu);
    EfiBootManagerFreeLoadOption (&Menu);
  }
}

STATIC VOID
StartShell (
  VOID
  )
{
  EFI_BOOT_MANAGER_LOAD_OPTION  *Options;
  UINTN                         Count;
  UINTN                         Index;

  Options = EfiBootManagerGetLoadOptions (&Count, LoadOptionTypeBoot);
  for (Index = 0; Index < Count; ++Index) {
    if (StrCmp (Options[Index].Description, L"UEFI Shell") == 0) {
      EfiBootManagerBoot (&Options[Index]);
    }
  }

  EfiBootManagerFreeLoadOptions (Options, Count);
}

VOID
EFIAPI
PlatformBootManagerUnableToBoot (
  VOID
  )
{
  EFI_HANDLE  *Channels;
  UINTN       Count;

  gST->ConOut->ClearScreen (gST->ConOut);
  Print (L"Bygone: nothing to boot. No disk and no DVD has a boot loader for this machine\r\n");
  Print (L"(\\EFI\\BOOT\\BOOTX64.EFI, or a boot entry of its own).\r\n");

  if (EFI_ERROR (gBS->LocateHandleBuffer (ByProtocol, &gBygoneVmbusChannelProtocolGuid, NULL, &Count, &Channels))) {
    // A machine without a bus has no screen and no disks to choose from in a menu.
    StartShell ();
  }

  if ((BlobFlagsValue () & BLOB_FLAG_NO_FRONT_PAGE) != 0) {
    gRT->ResetSystem (EfiResetCold, EFI_NOT_FOUND, 0, NULL);
  }

  for ( ; ;) {
    StartMenu ();
  }
}
