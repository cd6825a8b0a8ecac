/** @file
  Driver binding and the channel of the synthetic keyboard: PROTOCOL_REQUEST -> PROTOCOL_RESPONSE -> EVENT...

  SPDX-License-Identifier: Apache-2.0
**/
#include "Keyboard.h"
#include <Guid/ConsoleInDevice.h>
#include <Library/TimerLib.h>

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

STATIC EFI_STATUS
Receive (
  IN  KEYBOARD         *Keyboard,
  OUT KEYBOARD_PACKET  *Packet
  )
{
  UINTN  Bytes;

  ZeroMem (Packet, sizeof (*Packet));
  Bytes = sizeof (*Packet);
  return Keyboard->Channel->Receive (Keyboard->Channel, Packet, &Bytes, NULL, NULL);
}

STATIC VOID
EFIAPI
OnChannel (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  KEYBOARD_PACKET  Packet;

  while (!EFI_ERROR (Receive (Context, &Packet))) {
    if (Packet.Type == KeyboardEvent) {
      KeyboardHandleKey (Context, &Packet);
    }
  }
}

STATIC EFI_STATUS
Negotiate (
  IN KEYBOARD  *Keyboard
  )
{
  KEYBOARD_PACKET  Packet;
  EFI_STATUS       Status;
  UINT64           Start;

  ZeroMem (&Packet, sizeof (Packet));
  Packet.Type      = KeyboardProtocolRequest;
  Packet.u.Version = KEYBOARD_VERSION;
  Status           = Keyboard->Channel->Send (Keyboard->Channel, &Packet, 8, NULL, 0, 1, TRUE);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Start = GetPerformanceCounter ();
  while (GetTimeInNanoSecond (GetPerformanceCounter () - Start) < START_TIMEOUT_NS) {
    Status = Receive (Keyboard, &Packet);
    if (Status == EFI_NOT_READY) {
      Keyboard->Channel->Wait (Keyboard->Channel);
    } else if (EFI_ERROR (Status)) {
      return Status;
    } else if (Packet.Type == KeyboardProtocolResponse) {
      return ((Packet.u.Accepted & BIT0) != 0) ? EFI_SUCCESS : EFI_INCOMPATIBLE_VERSION;
    }
  }

  return EFI_TIMEOUT;
}

STATIC EFI_STATUS
EFIAPI
KeyboardSupported (
  IN EFI_DRIVER_BINDING_PROTOCOL  *This,
  IN EFI_HANDLE                   Controller,
  IN EFI_DEVICE_PATH_PROTOCOL     *Remaining OPTIONAL
  )
{
  BYGONE_VMBUS_CHANNEL_PROTOCOL  *Channel;
  EFI_STATUS                     Status;

  Status = gBS->OpenProtocol (
                  Controller,
                  &gBygoneVmbusChannelProtocolGuid,
                  (VOID **)&Channel,
                  This->DriverBindingHandle,
                  Controller,
                  EFI_OPEN_PROTOCOL_BY_DRIVER
                  );
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Status = CompareGuid (&Channel->InterfaceType, &mKeyboardInterface) ? EFI_SUCCESS : EFI_UNSUPPORTED;
  gBS->CloseProtocol (Controller, &gBygoneVmbusChannelProtocolGuid, This->DriverBindingHandle, Controller);
  return Status;
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
  Status = gBS->OpenProtocol (
                  Controller,
                  &gBygoneVmbusChannelProtocolGuid,
                  (VOID **)&Keyboard->Channel,
                  This->DriverBindingHandle,
                  Controller,
                  EFI_OPEN_PROTOCOL_BY_DRIVER
                  );
  if (EFI_ERROR (Status)) {
    Free (Keyboard);
    return Status;
  }

  Status = Keyboard->Channel->Open (Keyboard->Channel, RING_PAGES, Keyboard->ChannelEvent);
  if (!EFI_ERROR (Status)) {
    // The event would take the answer away: its level keeps it off while we wait for it.
    EFI_TPL  Tpl = gBS->RaiseTPL (TPL_NOTIFY);

    Status = Negotiate (Keyboard);
    gBS->RestoreTPL (Tpl);
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
    }

    if (EFI_ERROR (Status)) {
      DEBUG ((DEBUG_ERROR, "keyboard: %r\n", Status));
      Keyboard->Channel->Close (Keyboard->Channel);
    }
  }

  if (EFI_ERROR (Status)) {
    gBS->CloseProtocol (Controller, &gBygoneVmbusChannelProtocolGuid, This->DriverBindingHandle, Controller);
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

  Keyboard->Channel->Close (Keyboard->Channel);
  gBS->CloseProtocol (Controller, &gBygoneVmbusChannelProtocolGuid, This->DriverBindingHandle, Controller);
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
