/** @file
  Which devices are consoles: decided anew at each boot from what the host offers.

  SPDX-License-Identifier: Apache-2.0
**/
#include "PlatformBootManager.h"
#include <Guid/TtyTerm.h>
#include <Guid/SerialPortLibVendor.h>
#include <Library/IoLib.h>

STATIC CONST EFI_GUID  mVideoInterface = {
  0xda0a7802, 0xe377, 0x4aac, { 0x8e, 0x77, 0x05, 0x58, 0xeb, 0x10, 0x73, 0xf8 }
};
STATIC CONST EFI_GUID  mKeyboardInterface = {
  0xf912ad6d, 0x2b17, 0x48ea, { 0xbd, 0x65, 0xf9, 0x27, 0xa6, 0x1c, 0x76, 0x84 }
};

#define COM1_LINE_STATUS  0x3FD

#pragma pack(1)
typedef struct {
  VENDOR_DEVICE_PATH          Serial;
  UART_DEVICE_PATH            Uart;
  VENDOR_DEVICE_PATH          Terminal;
  EFI_DEVICE_PATH_PROTOCOL    End;
} SERIAL_CONSOLE_PATH;
#pragma pack()

#define NODE_LENGTH(Type_)  { (UINT8)sizeof (Type_), 0 }

STATIC SERIAL_CONSOLE_PATH  mSerialConsole = {
  { { HARDWARE_DEVICE_PATH, HW_VENDOR_DP, NODE_LENGTH (VENDOR_DEVICE_PATH) }, EDKII_SERIAL_PORT_LIB_VENDOR_GUID },
  { { MESSAGING_DEVICE_PATH, MSG_UART_DP, NODE_LENGTH (UART_DEVICE_PATH) }, 0, 115200, 8, 1, 1 },
  { { MESSAGING_DEVICE_PATH, MSG_VENDOR_DP, NODE_LENGTH (VENDOR_DEVICE_PATH) }, EFI_TTY_TERM_GUID },
  { END_DEVICE_PATH_TYPE, END_ENTIRE_DEVICE_PATH_SUBTYPE, NODE_LENGTH (EFI_DEVICE_PATH_PROTOCOL) }
};

VOID
ForEachChannel (
  IN CONST EFI_GUID  *InterfaceType,
  IN VOID            (*Function)(
    EFI_HANDLE  Handle
    )
  )
{
  BYGONE_VMBUS_CHANNEL_PROTOCOL  *Channel;
  EFI_HANDLE                     *Handles;
  UINTN                          Count;
  UINTN                          Index;

  if (EFI_ERROR (gBS->LocateHandleBuffer (ByProtocol, &gBygoneVmbusChannelProtocolGuid, NULL, &Count, &Handles))) {
    return;
  }

  for (Index = 0; Index < Count; ++Index) {
    if (!EFI_ERROR (gBS->HandleProtocol (Handles[Index], &gBygoneVmbusChannelProtocolGuid, (VOID **)&Channel)) &&
        CompareGuid (&Channel->InterfaceType, InterfaceType))
    {
      Function (Handles[Index]);
    }
  }

  FreePool (Handles);
}

STATIC VOID
UseAsScreen (
  IN EFI_HANDLE  Handle
  )
{
  EfiBootManagerUpdateConsoleVariable (ConOut, DevicePathFromHandle (Handle), NULL);
}

STATIC VOID
UseAsKeyboard (
  IN EFI_HANDLE  Handle
  )
{
  EfiBootManagerUpdateConsoleVariable (ConIn, DevicePathFromHandle (Handle), NULL);
}

VOID
ConsoleDescribe (
  VOID
  )
{
  EFI_DEVICE_PATH_PROTOCOL  *Serial;

  ForEachChannel (&mVideoInterface, UseAsScreen);
  ForEachChannel (&mKeyboardInterface, UseAsKeyboard);

  Serial = (EFI_DEVICE_PATH_PROTOCOL *)&mSerialConsole;
  if (IoRead8 (COM1_LINE_STATUS) != 0xFF) {
    EfiBootManagerUpdateConsoleVariable (ConOut, Serial, NULL);
    EfiBootManagerUpdateConsoleVariable (ConIn, Serial, NULL);
    EfiBootManagerUpdateConsoleVariable (ErrOut, Serial, NULL);
  } else {
    EfiBootManagerUpdateConsoleVariable (ConOut, NULL, Serial);
    EfiBootManagerUpdateConsoleVariable (ConIn, NULL, Serial);
    EfiBootManagerUpdateConsoleVariable (ErrOut, NULL, Serial);
  }
}
