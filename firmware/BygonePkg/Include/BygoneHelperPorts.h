// The firmware helper's port pair (docs/firmware-interface.md, "Helper ports"): selector, then data. Usable at run time: an operating
// system never uses these ports in an interrupt handler, so the pair needs no lock.
// SPDX-License-Identifier: Apache-2.0
#pragma once

extern "C" {
#include <Uefi.h>
#include <Library/IoLib.h>
}

namespace bygone::helper {

enum class Selector : UINT32 {
  kGenerationIdLow = 0x0E,
  kGenerationIdHigh = 0x0F,
  kBootFinalize = 0x1A,
  kNvramCommand = 0x24,
  kDebugString = 0x36,
};

constexpr UINTN kSelectorPort = 0x28;
constexpr UINTN kDataPort = 0x2C;

inline void write(Selector selector, UINT32 value) {
  IoWrite32(kSelectorPort, static_cast<UINT32>(selector));
  IoWrite32(kDataPort, value);
}

}  // namespace bygone::helper
