// Text in UCS-2, as UEFI has it: EDK II's CHAR16 is neither wchar_t nor char16_t, so that a literal needs a way to it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

extern "C" {
#include <Uefi.h>
#include <Library/PrintLib.h>
}

namespace bygone {

template <UINTN count>
struct Wide {
  CHAR16 characters[count];
};

/// An ASCII literal's characters, and the 0 behind them.
template <UINTN count>
constexpr Wide<count> wide(const char (&literal)[count]) {
  Wide<count> text = {};
  for (UINTN index = 0; index < count; ++index) text.characters[index] = static_cast<CHAR16>(literal[index]);
  return text;
}

/// Text that is printed into; what has no room is left away.
template <UINTN capacity>
class Text {
 public:
  /// In PrintLib's format, of ASCII, and with its types of arguments.
  template <typename... Arguments>
  void print(const CHAR8* format, Arguments... arguments) {
    UnicodeSPrintAsciiFormat(characters_, sizeof characters_, format, arguments...);
  }
  CHAR16* data() { return characters_; }

 private:
  CHAR16 characters_[capacity] = {};
};

}  // namespace bygone
