/** @file
  The synthetic keyboard's packets (Linux drivers/input/serio/hyperv-keyboard.c describes the same wire format) and the driver's
  state.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_KEYBOARD_H_
#define BYGONE_KEYBOARD_H_

#include <Uefi.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/DebugLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiLib.h>
#include <Protocol/SimpleTextIn.h>
#include <Protocol/SimpleTextInEx.h>
#include <Protocol/VmbusChannel.h>

enum {
  KeyboardProtocolRequest  = 1,
  KeyboardProtocolResponse = 2,
  KeyboardEvent            = 3,
  KeyboardSetLeds          = 4
};

#define KEYBOARD_VERSION  0x00010000

#define KEY_UNICODE  BIT0
#define KEY_BREAK    BIT1
#define KEY_E0       BIT2
#define KEY_E1       BIT3

#pragma pack(1)

typedef struct {
  UINT32    Type;
  union {
    UINT32    Version;
    UINT32    Accepted;      ///< bit 0
    UINT32    Leds;
    struct {
      UINT16    Code;        ///< set 1 scan code, or a character
      UINT16    Reserved;
      UINT32    Flags;
    } Key;
  } u;
} KEYBOARD_PACKET;

#pragma pack()

#define KEYBOARD_SIGNATURE  SIGNATURE_32 ('b', 'y', 'k', 'b')
#define KEYBOARD_QUEUE      64

typedef struct {
  LIST_ENTRY                 Link;
  EFI_KEY_DATA               Key;
  EFI_KEY_NOTIFY_FUNCTION    Function;
} KEYBOARD_NOTIFY;

typedef struct {
  UINT32                               Signature;
  BYGONE_VMBUS_CHANNEL_PROTOCOL        *Channel;
  EFI_EVENT                            ChannelEvent;
  EFI_SIMPLE_TEXT_INPUT_PROTOCOL       TextIn;
  EFI_SIMPLE_TEXT_INPUT_EX_PROTOCOL    TextInEx;
  EFI_KEY_DATA                         Queue[KEYBOARD_QUEUE];
  UINTN                                First;
  UINTN                                Count;
  UINT32                               Shift;          ///< EFI_*_PRESSED bits
  EFI_KEY_TOGGLE_STATE                 Toggle;
  BOOLEAN                              Partial;        ///< report keys that are only shift or toggle changes
  LIST_ENTRY                           Notifications;
} KEYBOARD;

#define KEYBOARD_FROM_TEXT_IN(TextIn_)       (CR (TextIn_, KEYBOARD, TextIn, KEYBOARD_SIGNATURE))
#define KEYBOARD_FROM_TEXT_IN_EX(TextInEx_)  (CR (TextInEx_, KEYBOARD, TextInEx, KEYBOARD_SIGNATURE))

/// Takes one key event from the host into the state; queues and notifies what it means.
VOID
KeyboardHandleKey (
  IN OUT KEYBOARD               *Keyboard,
  IN     CONST KEYBOARD_PACKET  *Packet
  );

/// Fills in both protocols.
VOID
KeyboardInitializeTextInput (
  IN OUT KEYBOARD  *Keyboard
  );

VOID
KeyboardFreeTextInput (
  IN OUT KEYBOARD  *Keyboard
  );

/// A finished key, to the queue and to whoever asked for it.
VOID
KeyboardDeliver (
  IN OUT KEYBOARD            *Keyboard,
  IN     CONST EFI_KEY_DATA  *Key
  );

/// Tells the host which lights shall burn.
VOID
KeyboardSendLeds (
  IN KEYBOARD  *Keyboard
  );

#endif
