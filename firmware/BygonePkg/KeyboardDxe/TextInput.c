/** @file
  EFI_SIMPLE_TEXT_INPUT(_EX)_PROTOCOL (UEFI 2.10, 12.2 and 12.3). The queue is filled at TPL_NOTIFY by the channel's event.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Keyboard.h"

STATIC BOOLEAN
Matches (
  IN CONST EFI_KEY_DATA  *Registered,
  IN CONST EFI_KEY_DATA  *Key
  )
{
  if ((Registered->Key.ScanCode != Key->Key.ScanCode) || (Registered->Key.UnicodeChar != Key->Key.UnicodeChar)) {
    return FALSE;
  }

  // A registration without states matches the key in any of them.
  if ((Registered->KeyState.KeyShiftState != 0) &&
      (Registered->KeyState.KeyShiftState != Key->KeyState.KeyShiftState))
  {
    return FALSE;
  }

  return (BOOLEAN)((Registered->KeyState.KeyToggleState == 0) ||
                   (Registered->KeyState.KeyToggleState == Key->KeyState.KeyToggleState));
}

VOID
KeyboardDeliver (
  IN OUT KEYBOARD            *Keyboard,
  IN     CONST EFI_KEY_DATA  *Key
  )
{
  LIST_ENTRY       *Link;
  KEYBOARD_NOTIFY  *Notify;
  EFI_KEY_DATA     Copy;

  if (Keyboard->Count < KEYBOARD_QUEUE) {
    Keyboard->Queue[(Keyboard->First + Keyboard->Count) % KEYBOARD_QUEUE] = *Key;
    ++Keyboard->Count;
    gBS->SignalEvent (Keyboard->TextIn.WaitForKey);
    gBS->SignalEvent (Keyboard->TextInEx.WaitForKeyEx);
  }

  for (Link = GetFirstNode (&Keyboard->Notifications);
       !IsNull (&Keyboard->Notifications, Link);
       Link = GetNextNode (&Keyboard->Notifications, Link))
  {
    Notify = BASE_CR (Link, KEYBOARD_NOTIFY, Link);
    if (Matches (&Notify->Key, Key)) {
      Copy = *Key;
      Notify->Function (&Copy);
    }
  }
}

STATIC EFI_STATUS
EFIAPI
ReadKeyEx (
  IN  EFI_SIMPLE_TEXT_INPUT_EX_PROTOCOL  *This,
  OUT EFI_KEY_DATA                       *KeyData
  )
{
  KEYBOARD    *Keyboard;
  EFI_TPL     Tpl;
  EFI_STATUS  Status;

  if (KeyData == NULL) {
    return EFI_INVALID_PARAMETER;
  }

  Keyboard = KEYBOARD_FROM_TEXT_IN_EX (This);
  Tpl      = gBS->RaiseTPL (TPL_NOTIFY);
  if (Keyboard->Count == 0) {
    ZeroMem (KeyData, sizeof (*KeyData));
    KeyData->KeyState.KeyShiftState  = EFI_SHIFT_STATE_VALID | Keyboard->Shift;
    KeyData->KeyState.KeyToggleState = EFI_TOGGLE_STATE_VALID | Keyboard->Toggle;
    Status                           = EFI_NOT_READY;
  } else {
    *KeyData        = Keyboard->Queue[Keyboard->First];
    Keyboard->First = (Keyboard->First + 1) % KEYBOARD_QUEUE;
    --Keyboard->Count;
    Status = EFI_SUCCESS;
  }

  gBS->RestoreTPL (Tpl);
  return Status;
}

STATIC EFI_STATUS
EFIAPI
ReadKey (
  IN  EFI_SIMPLE_TEXT_INPUT_PROTOCOL  *This,
  OUT EFI_INPUT_KEY                   *Key
  )
{
  KEYBOARD      *Keyboard;
  EFI_KEY_DATA  Data;
  EFI_STATUS    Status;

  if (Key == NULL) {
    return EFI_INVALID_PARAMETER;
  }

  Keyboard = KEYBOARD_FROM_TEXT_IN (This);
  do {
    Status = ReadKeyEx (&Keyboard->TextInEx, &Data);
    if (EFI_ERROR (Status)) {
      return Status;
    }

    // The old protocol has no way to say "only a shift key".
  } while ((Data.Key.ScanCode == SCAN_NULL) && (Data.Key.UnicodeChar == CHAR_NULL));

  *Key = Data.Key;
  return EFI_SUCCESS;
}

STATIC VOID
Empty (
  IN OUT KEYBOARD  *Keyboard
  )
{
  EFI_TPL  Tpl;

  Tpl             = gBS->RaiseTPL (TPL_NOTIFY);
  Keyboard->Count = 0;
  Keyboard->Shift = 0;
  gBS->RestoreTPL (Tpl);
}

STATIC EFI_STATUS
EFIAPI
Reset (
  IN EFI_SIMPLE_TEXT_INPUT_PROTOCOL  *This,
  IN BOOLEAN                         ExtendedVerification
  )
{
  Empty (KEYBOARD_FROM_TEXT_IN (This));
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
ResetEx (
  IN EFI_SIMPLE_TEXT_INPUT_EX_PROTOCOL  *This,
  IN BOOLEAN                            ExtendedVerification
  )
{
  Empty (KEYBOARD_FROM_TEXT_IN_EX (This));
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
SetState (
  IN EFI_SIMPLE_TEXT_INPUT_EX_PROTOCOL  *This,
  IN EFI_KEY_TOGGLE_STATE               *KeyToggleState
  )
{
  KEYBOARD  *Keyboard;

  if (KeyToggleState == NULL) {
    return EFI_INVALID_PARAMETER;
  }

  if ((*KeyToggleState & EFI_TOGGLE_STATE_VALID) == 0) {
    return EFI_UNSUPPORTED;
  }

  Keyboard          = KEYBOARD_FROM_TEXT_IN_EX (This);
  Keyboard->Toggle  = *KeyToggleState & (EFI_SCROLL_LOCK_ACTIVE | EFI_NUM_LOCK_ACTIVE | EFI_CAPS_LOCK_ACTIVE);
  Keyboard->Partial = (BOOLEAN)((*KeyToggleState & EFI_KEY_STATE_EXPOSED) != 0);
  KeyboardSendLeds (Keyboard);
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
RegisterKeyNotify (
  IN  EFI_SIMPLE_TEXT_INPUT_EX_PROTOCOL  *This,
  IN  EFI_KEY_DATA                       *KeyData,
  IN  EFI_KEY_NOTIFY_FUNCTION            Function,
  OUT VOID                               **NotifyHandle
  )
{
  KEYBOARD         *Keyboard;
  KEYBOARD_NOTIFY  *Notify;
  EFI_TPL          Tpl;

  if ((KeyData == NULL) || (Function == NULL) || (NotifyHandle == NULL)) {
    return EFI_INVALID_PARAMETER;
  }

  Notify = AllocateZeroPool (sizeof (*Notify));
  if (Notify == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  Keyboard         = KEYBOARD_FROM_TEXT_IN_EX (This);
  Notify->Key      = *KeyData;
  Notify->Function = Function;
  Tpl              = gBS->RaiseTPL (TPL_NOTIFY);
  InsertTailList (&Keyboard->Notifications, &Notify->Link);
  gBS->RestoreTPL (Tpl);
  *NotifyHandle = Notify;
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
UnregisterKeyNotify (
  IN EFI_SIMPLE_TEXT_INPUT_EX_PROTOCOL  *This,
  IN VOID                               *NotifyHandle
  )
{
  KEYBOARD    *Keyboard;
  LIST_ENTRY  *Link;
  EFI_TPL     Tpl;
  EFI_STATUS  Status;

  Keyboard = KEYBOARD_FROM_TEXT_IN_EX (This);
  Status   = EFI_INVALID_PARAMETER;
  Tpl      = gBS->RaiseTPL (TPL_NOTIFY);
  for (Link = GetFirstNode (&Keyboard->Notifications);
       !IsNull (&Keyboard->Notifications, Link);
       Link = GetNextNode (&Keyboard->Notifications, Link))
  {
    if (BASE_CR (Link, KEYBOARD_NOTIFY, Link) == NotifyHandle) {
      RemoveEntryList (Link);
      Status = EFI_SUCCESS;
      break;
    }
  }

  gBS->RestoreTPL (Tpl);
  if (!EFI_ERROR (Status)) {
    FreePool (NotifyHandle);
  }

  return Status;
}

/// The wait events are signalled again while keys are left: a reader may take one key a wait.
STATIC VOID
EFIAPI
OnWait (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  if (((KEYBOARD *)Context)->Count != 0) {
    gBS->SignalEvent (Event);
  }
}

VOID
KeyboardInitializeTextInput (
  IN OUT KEYBOARD  *Keyboard
  )
{
  InitializeListHead (&Keyboard->Notifications);
  Keyboard->TextIn.Reset                 = Reset;
  Keyboard->TextIn.ReadKeyStroke         = ReadKey;
  Keyboard->TextInEx.Reset               = ResetEx;
  Keyboard->TextInEx.ReadKeyStrokeEx     = ReadKeyEx;
  Keyboard->TextInEx.SetState            = SetState;
  Keyboard->TextInEx.RegisterKeyNotify   = RegisterKeyNotify;
  Keyboard->TextInEx.UnregisterKeyNotify = UnregisterKeyNotify;
  gBS->CreateEvent (EVT_NOTIFY_WAIT, TPL_NOTIFY, OnWait, Keyboard, &Keyboard->TextIn.WaitForKey);
  gBS->CreateEvent (EVT_NOTIFY_WAIT, TPL_NOTIFY, OnWait, Keyboard, &Keyboard->TextInEx.WaitForKeyEx);
}

VOID
KeyboardFreeTextInput (
  IN OUT KEYBOARD  *Keyboard
  )
{
  LIST_ENTRY  *Link;

  while (!IsListEmpty (&Keyboard->Notifications)) {
    Link = GetFirstNode (&Keyboard->Notifications);
    RemoveEntryList (Link);
    FreePool (BASE_CR (Link, KEYBOARD_NOTIFY, Link));
  }

  gBS->CloseEvent (Keyboard->TextIn.WaitForKey);
  gBS->CloseEvent (Keyboard->TextInEx.WaitForKeyEx);
}
