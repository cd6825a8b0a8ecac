// Set 1 scan codes to UEFI keys, United States layout: what a firmware menu needs. Hosts that know the character send it instead.
// SPDX-License-Identifier: Apache-2.0
#include "Keyboard.h"

namespace bygone::keyboard {
namespace {

/// Codes 0x00 to 0x39, without and with shift. 0: no character.
constexpr char kPlain[] = "\0\0" "1234567890-=\b\t" "qwertyuiop[]\r\0" "asdfghjkl;'`\0\\" "zxcvbnm,./\0*\0 ";
constexpr char kShifted[] = "\0\0" "!@#$%^&*()_+\b\t" "QWERTYUIOP{}\r\0" "ASDFGHJKL:\"~\0|" "ZXCVBNM<>?\0*\0 ";
static_assert(sizeof kPlain == 0x39 + 2 && sizeof kShifted == sizeof kPlain);

constexpr UINT16 kCharacterCodes = sizeof kPlain - 1;

enum Code : UINT16 {
  kEsc = 0x01,
  kLeftControl = 0x1D,
  kLeftShift = 0x2A,
  kRightShift = 0x36,
  kPrint = 0x37,  ///< with E0; without, the keypad's asterisk
  kLeftAlt = 0x38,
  kCapsLock = 0x3A,
  kF1 = 0x3B,
  kF10 = 0x44,
  kNumLock = 0x45,
  kScrollLock = 0x46,
  kKeypadFirst = 0x47,
  kKeypadLast = 0x53,
  kF11 = 0x57,
  kF12 = 0x58,
  kLeftLogo = 0x5B,
  kRightLogo = 0x5C,
  kMenu = 0x5D,
};

struct KeypadKey {
  char with_num_lock;
  UINT16 scan_code;
};

constexpr KeypadKey kKeypad[] = {
    {'7', SCAN_HOME}, {'8', SCAN_UP},  {'9', SCAN_PAGE_UP}, {'-', SCAN_NULL},      {'4', SCAN_LEFT},   {'5', SCAN_NULL},   {'6', SCAN_RIGHT},
    {'+', SCAN_NULL}, {'1', SCAN_END}, {'2', SCAN_DOWN},    {'3', SCAN_PAGE_DOWN}, {'0', SCAN_INSERT}, {'.', SCAN_DELETE},
};
static_assert(ARRAY_SIZE(kKeypad) == kKeypadLast - kKeypadFirst + 1);

constexpr UINT32 kAnyShift = EFI_LEFT_SHIFT_PRESSED | EFI_RIGHT_SHIFT_PRESSED;
constexpr UINT32 kAnyControl = EFI_LEFT_CONTROL_PRESSED | EFI_RIGHT_CONTROL_PRESSED;

/// The shift bit of a modifier key, 0 for another key.
constexpr UINT32 shift_bit(UINT16 code, bool has_e0) {
  switch (code) {
    case kLeftShift: return has_e0 ? 0 : EFI_LEFT_SHIFT_PRESSED;
    case kRightShift: return has_e0 ? 0 : EFI_RIGHT_SHIFT_PRESSED;
    case kLeftControl: return has_e0 ? EFI_RIGHT_CONTROL_PRESSED : EFI_LEFT_CONTROL_PRESSED;
    case kLeftAlt: return has_e0 ? EFI_RIGHT_ALT_PRESSED : EFI_LEFT_ALT_PRESSED;
    case kLeftLogo: return EFI_LEFT_LOGO_PRESSED;
    case kRightLogo: return EFI_RIGHT_LOGO_PRESSED;
    case kMenu: return EFI_MENU_KEY_PRESSED;
    case kPrint: return has_e0 ? EFI_SYS_REQ_PRESSED : 0;
    default: return 0;
  }
}

constexpr bool is_letter(char character) { return character >= 'a' && character <= 'z'; }

CHAR16 character_of(UINT16 code, UINT32 shift, EFI_KEY_TOGGLE_STATE toggle) {
  const char plain = kPlain[code];
  // Control characters for the shell's line editor.
  if ((shift & kAnyControl) != 0 && is_letter(plain)) return static_cast<CHAR16>(plain - 'a' + 1);
  const bool is_inverted = is_letter(plain) && (toggle & EFI_CAPS_LOCK_ACTIVE) != 0;
  const bool is_shifted = ((shift & kAnyShift) != 0) != is_inverted;
  return static_cast<CHAR16>(is_shifted ? kShifted[code] : plain);
}

EFI_INPUT_KEY key_of(UINT16 code, bool has_e0, UINT32 shift, EFI_KEY_TOGGLE_STATE toggle) {
  const auto scan = [](UINTN scan_code) { return EFI_INPUT_KEY{static_cast<UINT16>(scan_code), CHAR_NULL}; };
  if (code == kEsc) return scan(SCAN_ESC);
  if (code >= kF1 && code <= kF10) return scan(SCAN_F1 + (code - kF1));
  if (code == kF11) return scan(SCAN_F11);
  if (code == kF12) return scan(SCAN_F12);
  if (code >= kKeypadFirst && code <= kKeypadLast) {
    const KeypadKey& key = kKeypad[code - kKeypadFirst];
    const bool is_character = !has_e0 && ((toggle & EFI_NUM_LOCK_ACTIVE) != 0 || key.scan_code == SCAN_NULL);
    return is_character ? EFI_INPUT_KEY{SCAN_NULL, static_cast<CHAR16>(key.with_num_lock)} : scan(key.scan_code);
  }
  return {SCAN_NULL, code < kCharacterCodes ? character_of(code, shift, toggle) : CHAR16{CHAR_NULL}};
}

}  // namespace

bool Keyboard::toggle(UINT16 code) {
  switch (code) {
    case kCapsLock: toggle_ ^= EFI_CAPS_LOCK_ACTIVE; return true;
    case kNumLock: toggle_ ^= EFI_NUM_LOCK_ACTIVE; return true;
    case kScrollLock: toggle_ ^= EFI_SCROLL_LOCK_ACTIVE; return true;
    default: return false;
  }
}

bool Keyboard::understand(const KeyEvent& event, EFI_INPUT_KEY& key, bool& changes_state) {
  if (event.has_e1()) return false;  // Pause: no UEFI key for its two halves
  if (event.is_character()) {
    key.UnicodeChar = event.code;
    return !event.is_break();
  }
  const UINT16 code = event.code & 0x7F;
  if (const UINT32 bit = shift_bit(code, event.has_e0()); bit != 0) {
    shift_ = event.is_break() ? shift_ & ~bit : shift_ | bit;
    changes_state = true;
    return true;
  }
  if (event.is_break()) return false;
  if (!event.has_e0() && toggle(code)) {
    send_leds();
    changes_state = true;
    return true;
  }
  key = key_of(code, event.has_e0(), shift_, toggle_);
  return key.ScanCode != SCAN_NULL || key.UnicodeChar != CHAR_NULL;
}

void Keyboard::handle(const KeyEvent& event) {
  EFI_KEY_DATA data = {};
  bool changes_state = false;
  if (!understand(event, data.Key, changes_state) || (changes_state && !reports_partial_)) return;
  data.KeyState = state();
  if (reports_partial_) data.KeyState.KeyToggleState |= EFI_KEY_STATE_EXPOSED;
  deliver(data);
}

}  // namespace bygone::keyboard
