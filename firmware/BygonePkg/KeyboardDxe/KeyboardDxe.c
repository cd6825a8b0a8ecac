/** @file
  Driver binding and the channel of the synthetic keyboard: PROTOCOL_REQUEST -> PROTOCOL_RESPONSE -> EVENT...

  SPDX-License-Identifier: Apache-2.0
**/
#include "Keyboard.h"
#include <Guid/ConsoleInDevice.h>
#include <Library/VmbusDriverLib.h>

STATIC CONST EFI_GUID  mKeyboardInterface = {
  0xf912ad6d, 0x2b17, 0x48ea, { 0xbd, 0x65, 0xf9, 0x27, 0xa6, 0x1c, 0x76, 0x84 }
};

#define RING_PAGES        4
#define START_TIMEOUT_NS  5000000000ULL

VOID
KeyboardSendLeds (
  IN KEYBOARD  *Keyboard
  )
{
  KEYBOARD_PACKET  Packet;

  ZeroMem (&Packet, sizeof (Packet));
  Packet.Type = KeyboardSetLeds;
  // EFI: scroll, num, caps from bit 0; the channel takes the same order.
  Packet.u.Leds = Keyboard->Toggle & 7;
  Keyboard->Channel->Send (Keyboard->Channel, &Packet, 8, NULL, 0, 0, FALSE);
}

STATIC VOID
EFIAPI
OnChannel (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  KEYBOARD         *Keyboard;
  KEYBOARD_PACKET  Packet;

  Keyboard = Context;
  while (!EFI_ERROR (VmbusDriverReceive (Keyboard->Channel, &Packet, sizeof (Packet), NULL, NULL))) {
    if (Packet.Type == KeyboardEvent) {
      KeyboardHandleKey (Keyboard, &Packet);
    }
  }
}

STATIC BOOLEAN
IsProtocolResponse (
  IN OUT VOID        *Driver,
  IN     CONST VOID  *Packet,
  IN     UINT16      Type,
  IN     UINT64      Transaction
  )
{
  return (BOOLEAN)(((CONST KEYBOARD_PACKET *)Packet)->Type == KeyboardProtocolResponse);
}

STATIC EFI_STATUS
Negotiate (
  IN OUT VOID  *Driver
  )
{
  KEYBOARD         *Keyboard;
  KEYBOARD_PACKET  Packet;
  EFI_STATUS       Status;

  Keyboard = Driver;
  ZeroMem (&Packet, sizeof (Packet));
  Packet.Type      = KeyboardProtocolRequest;
  Packet.u.Version = KEYBOARD_VERSION;
  Status           = Keyboard->Channel->Send (Keyboard->Channel, &Packet, 8, NULL, 0, 1, TRUE);
  if (!EFI_ERROR (Status)) {
    Status = VmbusDriverWaitFor (
               Keyboard->Channel,
               &Packet,
               sizeof (Packet),
               START_TIMEOUT_NS,
               IsProtocolResponse,
               NULL
               );
  }

  if (!EFI_ERROR (Status) && ((Packet.u.Accepted & BIT0) == 0)) {
    Status = EFI_INCOMPATIBLE_VERSION;
  }

  return Status;
}

STATIC EFI_STATUS
EFIAPI
KeyboardSupported (
  IN EFI_DRIVER_BINDING_PROTOCOL  *This,
  IN EFI_HANDLE                   Controller,
  IN EFI_DEVICE_PATH_PROTOCOL     *Remaining OPTIONAL
  )
{
  return VmbusDriverSupports (This, Controller, &mKeyboardInterface);
}

STATIC VOID
Free (
  IN KEYBOARD  *Keyboard
  )
{
  KeyboardFreeTextInput (Keyboard);
  gBS->CloseEvent (Keyboard->ChannelEvent);
  FreePool (Keyboard);
}

STATIC EFI_STATUS
EFIAPI
KeyboardStart (
  IN EFI_DRIVER_BINDING_PROTOCOL  *This,
  IN EFI_HANDLE                   Controller,
  IN EFI_DEVICE_PATH_PROTOCOL     *Remaining OPTIONAL
  )
{
  KEYBOARD    *Keyboard;
  EFI_STATUS  Status;

  Keyboard = AllocateZeroPool (sizeof (*Keyboard));
  if (Keyboard == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  Keyboard->Signature = KEYBOARD_SIGNATURE;
  KeyboardInitializeTextInput (Keyboard);
  gBS->CreateEvent (EVT_NOTIFY_SIGNAL, TPL_NOTIFY, OnChannel, Keyboard, &Keyboard->ChannelEvent);
  Status = VmbusDriverOpen (
             This,
             Controller,
             &Keyboard->Channel,
             RING_PAGES,
             Keyboard->ChannelEvent,
             Negotiate,
             Keyboard
             );
  if (!EFI_ERROR (Status)) {
    Status = gBS->InstallMultipleProtocolInterfaces (
                    &Controller,
                    &gEfiSimpleTextInProtocolGuid,
                    &Keyboard->TextIn,
                    &gEfiSimpleTextInputExProtocolGuid,
                    &Keyboard->TextInEx,
                    &gEfiConsoleInDeviceGuid,
                    NULL,
                    NULL
                    );
    if (EFI_ERROR (Status)) {
      VmbusDriverClose (This, Controller, Keyboard->Channel);
    }
  }

  if (EFI_ERROR (Status)) {
    DEBUG ((DEBUG_ERROR, "keyboard: %r\n", Status));
    Free (Keyboard);
  }

  return Status;
}

STATIC EFI_STATUS
EFIAPI
KeyboardStop (
  IN EFI_DRIVER_BINDING_PROTOCOL  *This,
  IN EFI_HANDLE                   Controller,
  IN UINTN                        NumberOfChildren,
  IN EFI_HANDLE                   *Children OPTIONAL
  )
{
  EFI_SIMPLE_TEXT_INPUT_PROTOCOL  *TextIn;
  KEYBOARD                        *Keyboard;
  EFI_STATUS                      Status;

  Status = gBS->HandleProtocol (Controller, &gEfiSimpleTextInProtocolGuid, (VOID **)&TextIn);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Keyboard = KEYBOARD_FROM_TEXT_IN (TextIn);
  Status   = gBS->UninstallMultipleProtocolInterfaces (
                    Controller,
                    &gEfiSimpleTextInProtocolGuid,
                    &Keyboard->TextIn,
                    &gEfiSimpleTextInputExProtocolGuid,
                    &Keyboard->TextInEx,
                    &gEfiConsoleInDeviceGuid,
                    NULL,
                    NULL
                    );
  if (EFI_ERROR (Status)) {
    return Status;
  }

  VmbusDriverClose (This, Controller, Keyboard->Channel);
  Free (Keyboard);
  return EFI_SUCCESS;
}

STATIC EFI_DRIVER_BINDING_PROTOCOL  mBinding = { KeyboardSupported, KeyboardStart, KeyboardStop, 0x10, NULL, NULL };

EFI_STATUS
EFIAPI
KeyboardEntry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  return EfiLibInstallDriverBinding (ImageHandle, SystemTable, &mBinding, ImageHandle);
}
