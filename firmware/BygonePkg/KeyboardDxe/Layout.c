/** @file
  Set 1 scan codes to UEFI keys, United States layout: what a firmware menu needs. Hosts that know the character send it instead
  (KEY_UNICODE).

  SPDX-License-Identifier: Apache-2.0
**/
#include "Keyboard.h"

/// Codes 0x01 to 0x39, without and with shift. 0: no character.
STATIC CONST CHAR8  mPlain[] =
  "\0\0" "1234567890-=\b\t" "qwertyuiop[]\r\0" "asdfghjkl;'`\0\\" "zxcvbnm,./\0*\0 ";
STATIC CONST CHAR8  mShifted[] =
  "\0\0" "!@#$%^&*()_+\b\t" "QWERTYUIOP{}\r\0" "ASDFGHJKL:\"~\0|" "ZXCVBNM<>?\0*\0 ";

/// The keypad, 0x47 to 0x53.
STATIC CONST CHAR8  mKeypad[] = "789-456+1230.";
STATIC CONST UINT8  mKeypadScan[] = {
  SCAN_HOME, SCAN_UP,  SCAN_PAGE_UP,  SCAN_NULL,   SCAN_LEFT,  SCAN_NULL,  SCAN_RIGHT, SCAN_NULL,
  SCAN_END,  SCAN_DOWN, SCAN_PAGE_DOWN, SCAN_INSERT, SCAN_DELETE
};

#define CODE_ESC           0x01
#define CODE_LEFT_CONTROL  0x1D
#define CODE_LEFT_SHIFT    0x2A
#define CODE_RIGHT_SHIFT   0x36
#define CODE_PRINT         0x37              ///< with E0; without, the keypad's asterisk
#define CODE_LEFT_ALT      0x38
#define CODE_CAPS_LOCK     0x3A
#define CODE_F1            0x3B
#define CODE_F10           0x44
#define CODE_NUM_LOCK      0x45
#define CODE_SCROLL_LOCK   0x46
#define CODE_KEYPAD_FIRST  0x47
#define CODE_KEYPAD_LAST   0x53
#define CODE_F11           0x57
#define CODE_F12           0x58
#define CODE_LEFT_LOGO     0x5B
#define CODE_RIGHT_LOGO    0x5C
#define CODE_MENU          0x5D

/// Returns the shift bit of a modifier key, 0 for another key.
STATIC UINT32
ShiftBit (
  IN UINT16   Code,
  IN BOOLEAN  Extended
  )
{
  switch (Code) {
    case CODE_LEFT_SHIFT:
      return Extended ? 0 : EFI_LEFT_SHIFT_PRESSED;
    case CODE_RIGHT_SHIFT:
      return Extended ? 0 : EFI_RIGHT_SHIFT_PRESSED;
    case CODE_LEFT_CONTROL:
      return Extended ? EFI_RIGHT_CONTROL_PRESSED : EFI_LEFT_CONTROL_PRESSED;
    case CODE_LEFT_ALT:
      return Extended ? EFI_RIGHT_ALT_PRESSED : EFI_LEFT_ALT_PRESSED;
    case CODE_LEFT_LOGO:
      return EFI_LEFT_LOGO_PRESSED;
    case CODE_RIGHT_LOGO:
      return EFI_RIGHT_LOGO_PRESSED;
    case CODE_MENU:
      return EFI_MENU_KEY_PRESSED;
    case CODE_PRINT:
      return Extended ? EFI_SYS_REQ_PRESSED : 0;
    default:
      return 0;
  }
}

STATIC BOOLEAN
ToggleKey (
  IN OUT KEYBOARD  *Keyboard,
  IN     UINT16    Code
  )
{
  switch (Code) {
    case CODE_CAPS_LOCK:
      Keyboard->Toggle ^= EFI_CAPS_LOCK_ACTIVE;
      return TRUE;
    case CODE_NUM_LOCK:
      Keyboard->Toggle ^= EFI_NUM_LOCK_ACTIVE;
      return TRUE;
    case CODE_SCROLL_LOCK:
      Keyboard->Toggle ^= EFI_SCROLL_LOCK_ACTIVE;
      return TRUE;
    default:
      return FALSE;
  }
}

STATIC VOID
TranslateCharacter (
  IN  CONST KEYBOARD  *Keyboard,
  IN  UINT16          Code,
  OUT EFI_INPUT_KEY   *Key
  )
{
  BOOLEAN  Shift;
  CHAR8    Character;

  Shift     = (BOOLEAN)((Keyboard->Shift & (EFI_LEFT_SHIFT_PRESSED | EFI_RIGHT_SHIFT_PRESSED)) != 0);
  Character = mPlain[Code];
  if ((Character >= 'a') && (Character <= 'z') && ((Keyboard->Toggle & EFI_CAPS_LOCK_ACTIVE) != 0)) {
    Shift = (BOOLEAN)!Shift;
  }

  if (Shift) {
    Character = mShifted[Code];
  }

  if ((Keyboard->Shift & (EFI_LEFT_CONTROL_PRESSED | EFI_RIGHT_CONTROL_PRESSED)) != 0) {
    // Control characters for the shell's line editor.
    if ((mPlain[Code] >= 'a') && (mPlain[Code] <= 'z')) {
      Character = mPlain[Code] - 'a' + 1;
    }
  }

  Key->UnicodeChar = (CHAR16)(UINT8)Character;
}

/// Returns FALSE if the code means no key.
STATIC BOOLEAN
Translate (
  IN  CONST KEYBOARD  *Keyboard,
  IN  UINT16          Code,
  IN  BOOLEAN         Extended,
  OUT EFI_INPUT_KEY   *Key
  )
{
  Key->ScanCode    = SCAN_NULL;
  Key->UnicodeChar = CHAR_NULL;
  if (Code == CODE_ESC) {
    Key->ScanCode = SCAN_ESC;
  } else if ((Code >= CODE_F1) && (Code <= CODE_F10)) {
    Key->ScanCode = (UINT16)(SCAN_F1 + (Code - CODE_F1));
  } else if (Code == CODE_F11) {
    Key->ScanCode = SCAN_F11;
  } else if (Code == CODE_F12) {
    Key->ScanCode = SCAN_F12;
  } else if ((Code >= CODE_KEYPAD_FIRST) && (Code <= CODE_KEYPAD_LAST)) {
    Key->ScanCode = mKeypadScan[Code - CODE_KEYPAD_FIRST];
    if (!Extended && (((Keyboard->Toggle & EFI_NUM_LOCK_ACTIVE) != 0) || (Key->ScanCode == SCAN_NULL))) {
      Key->ScanCode    = SCAN_NULL;
      Key->UnicodeChar = (CHAR16)mKeypad[Code - CODE_KEYPAD_FIRST];
    }
  } else if (Code < sizeof (mPlain) - 1) {
    TranslateCharacter (Keyboard, Code, Key);
  }

  return (BOOLEAN)((Key->ScanCode != SCAN_NULL) || (Key->UnicodeChar != CHAR_NULL));
}

VOID
KeyboardHandleKey (
  IN OUT KEYBOARD               *Keyboard,
  IN     CONST KEYBOARD_PACKET  *Packet
  )
{
  EFI_KEY_DATA  Data;
  UINT16        Code;
  UINT32        Flags;
  UINT32        Bit;
  BOOLEAN       Changed;

  Code  = Packet->u.Key.Code;
  Flags = Packet->u.Key.Flags;
  if ((Flags & KEY_E1) != 0) {
    return;                                  // Pause: no UEFI key for its two halves
  }

  ZeroMem (&Data, sizeof (Data));
  Changed = FALSE;
  if ((Flags & KEY_UNICODE) != 0) {
    if ((Flags & KEY_BREAK) != 0) {
      return;
    }

    Data.Key.UnicodeChar = Code;
  } else {
    Code &= 0x7F;
    Bit   = ShiftBit (Code, (BOOLEAN)((Flags & KEY_E0) != 0));
    if (Bit != 0) {
      Keyboard->Shift = ((Flags & KEY_BREAK) != 0) ? Keyboard->Shift & ~Bit : Keyboard->Shift | Bit;
      Changed         = TRUE;
    } else if ((Flags & KEY_BREAK) != 0) {
      return;
    } else if (((Flags & KEY_E0) == 0) && ToggleKey (Keyboard, Code)) {
      KeyboardSendLeds (Keyboard);
      Changed = TRUE;
    } else if (!Translate (Keyboard, Code, (BOOLEAN)((Flags & KEY_E0) != 0), &Data.Key)) {
      return;
    }
  }

  if (Changed && !Keyboard->Partial) {
    return;
  }

  Data.KeyState.KeyShiftState  = EFI_SHIFT_STATE_VALID | Keyboard->Shift;
  Data.KeyState.KeyToggleState = EFI_TOGGLE_STATE_VALID | Keyboard->Toggle;
  if (Keyboard->Partial) {
    Data.KeyState.KeyToggleState |= EFI_KEY_STATE_EXPOSED;
  }

  KeyboardDeliver (Keyboard, &Data);
}
