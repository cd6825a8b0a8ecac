/** @file
  The firmware helper's port pair (docs/firmware-interface.md, "Helper ports"). Usable at run time.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_HELPER_PORT_LIB_H_
#define BYGONE_HELPER_PORT_LIB_H_

#define HELPER_GENERATION_ID_LOW   0x0E
#define HELPER_GENERATION_ID_HIGH  0x0F
#define HELPER_BOOT_FINALIZE       0x1A
#define HELPER_NVRAM_COMMAND       0x24
#define HELPER_DEBUG_STRING        0x36

VOID
EFIAPI
HelperWrite (
  IN UINT32  Selector,
  IN UINT32  Value
  );

UINT32
EFIAPI
HelperRead (
  IN UINT32  Selector
  );

#endif
