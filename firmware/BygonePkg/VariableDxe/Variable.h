/** @file
  The two stores behind the variable services. Both live in runtime memory and work before and after
  SetVirtualAddressMap; the operating system serializes runtime calls (UEFI 2.10, 8.1).

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_VARIABLE_H_
#define BYGONE_VARIABLE_H_

#include <Uefi.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/DebugLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiRuntimeLib.h>
#include <Library/UefiRuntimeServicesTableLib.h>

#define MAXIMUM_NAME_BYTES  SIZE_2KB
#define MAXIMUM_DATA_BYTES  SIZE_32KB

// Host.c: non-volatile variables, by the helper port.

EFI_STATUS
HostStoreStart (
  VOID
  );

/// FALSE on a host without a store: then all variables are volatile in fact.
BOOLEAN
HostStorePresent (
  VOID
  );

VOID
HostStoreConvert (
  VOID
  );

VOID
HostStoreEnterRuntime (
  VOID
  );

EFI_STATUS
HostGet (
  IN     CONST CHAR16    *Name,
  IN     CONST EFI_GUID  *Vendor,
  OUT    UINT32          *Attributes OPTIONAL,
  IN OUT UINTN           *DataBytes,
  OUT    VOID            *Data OPTIONAL
  );

EFI_STATUS
HostSet (
  IN CONST CHAR16    *Name,
  IN CONST EFI_GUID  *Vendor,
  IN UINT32          Attributes,
  IN UINTN           DataBytes,
  IN CONST VOID      *Data
  );

EFI_STATUS
HostFirstName (
  IN OUT UINTN     *NameBytes,
  OUT    CHAR16    *Name,
  OUT    EFI_GUID  *Vendor
  );

EFI_STATUS
HostNextName (
  IN OUT UINTN     *NameBytes,
  IN OUT CHAR16    *Name,
  IN OUT EFI_GUID  *Vendor
  );

EFI_STATUS
HostQuery (
  IN  UINT32  Attributes,
  OUT UINT64  *Maximum,
  OUT UINT64  *Remaining,
  OUT UINT64  *LargestVariable
  );

// Answers.c: what the host has answered, until the boot ends.

/// The store's commands (docs/firmware-interface.md, "NVRAM commands").
enum {
  NvramGet           = 0,
  NvramSet           = 1,
  NvramGetFirstName  = 2,
  NvramGetNextName   = 3,
  NvramQueryInfo     = 4,
  NvramSignalRuntime = 5
};

typedef struct {
  EFI_STATUS    Status;
  UINT32        Attributes;       ///< of Get
  EFI_GUID      Vendor;           ///< of the commands for names
  UINT8         *Name;            ///< of the commands for names
  UINTN         NameBytes;        ///< 0: no name
  UINT8         *Data;            ///< of Get
  UINTN         DataBytes;
} STORE_ANSWER;

/// NULL: nothing is kept. It lives until AnswersForget.
CONST STORE_ANSWER *
AnswersFind (
  IN UINT32          Command,
  IN CONST CHAR16    *Name,
  IN UINTN           NameBytes,
  IN CONST EFI_GUID  *Vendor
  );

/// Copies all that Answer points to. Only before ExitBootServices: it takes memory.
VOID
AnswersKeep (
  IN UINT32              Command,
  IN CONST CHAR16        *Name,
  IN UINTN               NameBytes,
  IN CONST EFI_GUID      *Vendor,
  IN CONST STORE_ANSWER  *Answer
  );

/// Forgets what a change of this variable makes untrue: its value, and the list of names.
VOID
AnswersForget (
  IN CONST CHAR16    *Name,
  IN UINTN           NameBytes,
  IN CONST EFI_GUID  *Vendor
  );

// Volatile.c: variables that end with the boot.

EFI_STATUS
VolatileStoreStart (
  VOID
  );

VOID
VolatileStoreConvert (
  VOID
  );

EFI_STATUS
VolatileGet (
  IN     CONST CHAR16    *Name,
  IN     CONST EFI_GUID  *Vendor,
  OUT    UINT32          *Attributes OPTIONAL,
  IN OUT UINTN           *DataBytes,
  OUT    VOID            *Data OPTIONAL
  );

EFI_STATUS
VolatileSet (
  IN CONST CHAR16    *Name,
  IN CONST EFI_GUID  *Vendor,
  IN UINT32          Attributes,
  IN UINTN           DataBytes,
  IN CONST VOID      *Data
  );

EFI_STATUS
VolatileNextName (
  IN OUT UINTN     *NameBytes,
  IN OUT CHAR16    *Name,
  IN OUT EFI_GUID  *Vendor
  );

EFI_STATUS
VolatileQuery (
  OUT UINT64  *Maximum,
  OUT UINT64  *Remaining,
  OUT UINT64  *LargestVariable
  );

#endif
