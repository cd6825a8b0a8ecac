// EFI_SIMPLE_TEXT_INPUT(_EX)_PROTOCOL (UEFI 2.10, 12.2 and 12.3). The queue is filled at TPL_NOTIFY by the channel's event.
// SPDX-License-Identifier: Apache-2.0
#include "Keyboard.h"

namespace bygone::keyboard {
namespace {

using Protocol = Keyboard::Protocol;
using ProtocolEx = Keyboard::ProtocolEx;

Keyboard& keyboard_of(Protocol* self) { return *static_cast<Keyboard*>(self); }
Keyboard& keyboard_of(ProtocolEx* self) { return *static_cast<Keyboard*>(self); }

/// A registration without states matches the key in any of them.
bool matches(const EFI_KEY_DATA& registered, const EFI_KEY_DATA& key) {
  const EFI_KEY_STATE& wanted = registered.KeyState;
  return registered.Key.ScanCode == key.Key.ScanCode && registered.Key.UnicodeChar == key.Key.UnicodeChar &&
         (wanted.KeyShiftState == 0 || wanted.KeyShiftState == key.KeyState.KeyShiftState) &&
         (wanted.KeyToggleState == 0 || wanted.KeyToggleState == key.KeyState.KeyToggleState);
}

EFI_STATUS EFIAPI read_key_ex(ProtocolEx* self, EFI_KEY_DATA* key) {
  return key == nullptr ? EFI_INVALID_PARAMETER : keyboard_of(self).read(*key);
}

EFI_STATUS EFIAPI read_key(Protocol* self, EFI_INPUT_KEY* key) {
  if (key == nullptr) return EFI_INVALID_PARAMETER;
  EFI_KEY_DATA data;
  do {
    const EFI_STATUS status = keyboard_of(self).read(data);
    if (EFI_ERROR(status)) return status;
    // The old protocol has no way to say "only a shift key".
  } while (data.Key.ScanCode == SCAN_NULL && data.Key.UnicodeChar == CHAR_NULL);
  *key = data.Key;
  return EFI_SUCCESS;
}

template <typename AnyProtocol>
EFI_STATUS EFIAPI reset_keyboard(AnyProtocol* self, BOOLEAN) {
  keyboard_of(self).reset();
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI set_toggles(ProtocolEx* self, EFI_KEY_TOGGLE_STATE* state) {
  if (state == nullptr) return EFI_INVALID_PARAMETER;
  if ((*state & EFI_TOGGLE_STATE_VALID) == 0) return EFI_UNSUPPORTED;
  keyboard_of(self).set_state(*state);
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI register_notification(ProtocolEx* self, EFI_KEY_DATA* key, EFI_KEY_NOTIFY_FUNCTION function, void** handle) {
  if (key == nullptr || function == nullptr || handle == nullptr) return EFI_INVALID_PARAMETER;
  auto notification = Pool<Notification>::create();
  if (!notification) return EFI_OUT_OF_RESOURCES;
  notification->key = *key;
  notification->function = function;
  *handle = notification.get();
  keyboard_of(self).add(notification.release());
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI unregister_notification(ProtocolEx* self, void* handle) {
  return keyboard_of(self).remove(handle) ? EFI_SUCCESS : EFI_INVALID_PARAMETER;
}

}  // namespace

EFI_KEY_STATE Keyboard::state() const {
  return {EFI_SHIFT_STATE_VALID | shift_, static_cast<EFI_KEY_TOGGLE_STATE>(EFI_TOGGLE_STATE_VALID | toggle_)};
}

EFI_STATUS Keyboard::read(EFI_KEY_DATA& key) {
  const RaisedTpl quiet(TPL_NOTIFY);
  if (queue_.is_empty()) {
    key = {};
    key.KeyState = state();
    return EFI_NOT_READY;
  }
  key = queue_.pop();
  return EFI_SUCCESS;
}

void Keyboard::reset() {
  const RaisedTpl quiet(TPL_NOTIFY);
  queue_.clear();
  shift_ = 0;
}

void Keyboard::set_state(EFI_KEY_TOGGLE_STATE state) {
  toggle_ = state & (EFI_SCROLL_LOCK_ACTIVE | EFI_NUM_LOCK_ACTIVE | EFI_CAPS_LOCK_ACTIVE);
  reports_partial_ = (state & EFI_KEY_STATE_EXPOSED) != 0;
  send_leds();
}

void Keyboard::add(Notification* notification) {
  const RaisedTpl quiet(TPL_NOTIFY);
  Notification** end = &notifications_;
  while (*end != nullptr) end = &(*end)->next;
  *end = notification;
}

bool Keyboard::remove(const void* notification) {
  Pool<Notification> removed;  // freed when the level is back
  const RaisedTpl quiet(TPL_NOTIFY);
  Notification** link = &notifications_;
  while (*link != nullptr && *link != notification) link = &(*link)->next;
  if (*link == nullptr) return false;
  *removed.out() = *link;
  *link = removed->next;
  return true;
}

void Keyboard::deliver(const EFI_KEY_DATA& key) {
  if (queue_.push(key)) {
    gBS->SignalEvent(wait_.get());
    gBS->SignalEvent(wait_ex_.get());
  }
  for (const Notification* each = notifications_; each != nullptr;) {
    const Notification* const next = each->next;  // the function may end its own registration
    EFI_KEY_DATA copy = key;
    if (matches(each->key, key)) each->function(&copy);
    each = next;
  }
}

/// The wait events are signalled again while keys are left: a reader may take one key a wait.
void Keyboard::on_wait(EFI_EVENT event) {
  if (!queue_.is_empty()) gBS->SignalEvent(event);
}

void Keyboard::offer_text_input() {
  wait_.create<&Keyboard::on_wait>(EVT_NOTIFY_WAIT, TPL_NOTIFY, *this);
  wait_ex_.create<&Keyboard::on_wait>(EVT_NOTIFY_WAIT, TPL_NOTIFY, *this);
  static_cast<Protocol&>(*this) = {reset_keyboard<Protocol>, read_key, wait_.get()};
  static_cast<ProtocolEx&>(*this) = {reset_keyboard<ProtocolEx>, read_key_ex,           wait_ex_.get(),
                                     set_toggles,                register_notification, unregister_notification};
}

Keyboard::~Keyboard() {
  while (notifications_ != nullptr) {
    const Pool<Notification> first(notifications_);
    notifications_ = first->next;
  }
}

}  // namespace bygone::keyboard
