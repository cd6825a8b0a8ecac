/** @file
  Selector, then data. An interrupt handler of an operating system never uses these ports, so the pair needs no lock.

  SPDX-License-Identifier: Apache-2.0
**/
#include <Uefi.h>
#include <Library/HelperPortLib.h>
#include <Library/IoLib.h>

#define HELPER_SELECTOR_PORT  0x28
#define HELPER_DATA_PORT      0x2C

VOID
EFIAPI
HelperWrite (
  IN UINT32  Selector,
  IN UINT32  Value
  )
{
  IoWrite32 (HELPER_SELECTOR_PORT, Selector);
  IoWrite32 (HELPER_DATA_PORT, Value);
}

UINT32
EFIAPI
HelperRead (
  IN UINT32  Selector
  )
{
  IoWrite32 (HELPER_SELECTOR_PORT, Selector);
  return IoRead32 (HELPER_DATA_PORT);
}
