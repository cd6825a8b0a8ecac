/** @file
  The boot manager's status codes as words: says on all consoles why a boot option did not start, and goes on. A library of BdsDxe
  alone; whoever else reports status codes here reports them to nobody.

  SPDX-License-Identifier: Apache-2.0
**/
#include <Uefi.h>
#include <Guid/GlobalVariable.h>
#include <Guid/StatusCodeDataTypeId.h>
#include <Library/BaseLib.h>
#include <Library/PrintLib.h>
#include <Library/ReportStatusCodeLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiRuntimeServicesTableLib.h>
#include <Pi/PiStatusCode.h>

#define LOAD_ERROR  (EFI_SOFTWARE_DXE_BS_DRIVER | EFI_SW_DXE_BS_EC_BOOT_OPTION_LOAD_ERROR)
#define FAILED      (EFI_SOFTWARE_DXE_BS_DRIVER | EFI_SW_DXE_BS_EC_BOOT_OPTION_FAILED)

// What comes with them is everything behind the header, and so begins with what the compiler puts between header and status.
#define DATA_BYTES     (sizeof (EFI_RETURN_STATUS_EXTENDED_DATA) - sizeof (EFI_STATUS_CODE_DATA))
#define STATUS_OFFSET  (OFFSET_OF (EFI_RETURN_STATUS_EXTENDED_DATA, ReturnStatus) - sizeof (EFI_STATUS_CODE_DATA))

#define OPTION_HEADER_BYTES  6              ///< UEFI 2.10, 3.1.3: attributes and the path's length, then the name

/// The name of the option that is being booted; at least its number.
STATIC VOID
DescribeCurrent (
  OUT CHAR16  *Text,
  IN  UINTN   TextBytes
  )
{
  CHAR16      Name[9];
  UINT8       Option[1024];
  UINTN       Bytes;
  UINT16      Number;
  EFI_STATUS  Status;

  Bytes  = sizeof (Number);
  Status = gRT->GetVariable (L"BootCurrent", &gEfiGlobalVariableGuid, NULL, &Bytes, &Number);
  if (EFI_ERROR (Status)) {
    UnicodeSPrint (Text, TextBytes, L"a boot option");
    return;
  }

  UnicodeSPrint (Name, sizeof (Name), L"Boot%04x", Number);
  // The last two bytes stay zero: whatever the name is, it ends.
  Bytes  = sizeof (Option) - 2;
  Status = gRT->GetVariable (Name, &gEfiGlobalVariableGuid, NULL, &Bytes, Option);
  if (EFI_ERROR (Status) || (Bytes <= OPTION_HEADER_BYTES)) {
    UnicodeSPrint (Text, TextBytes, L"%s", Name);
    return;
  }

  Option[Bytes & ~(UINTN)1]       = 0;
  Option[(Bytes & ~(UINTN)1) + 1] = 0;
  UnicodeSPrint (Text, TextBytes, L"%s \"%s\"", Name, (CHAR16 *)(Option + OPTION_HEADER_BYTES));
}

EFI_STATUS
EFIAPI
ReportStatusCodeEx (
  IN EFI_STATUS_CODE_TYPE   Type,
  IN EFI_STATUS_CODE_VALUE  Value,
  IN UINT32                 Instance,
  IN CONST EFI_GUID         *CallerId   OPTIONAL,
  IN CONST EFI_GUID         *ExtendedDataGuid   OPTIONAL,
  IN CONST VOID             *ExtendedData   OPTIONAL,
  IN UINTN                  ExtendedDataSize
  )
{
  CHAR16      Name[128];
  CHAR16      Text[256];
  EFI_STATUS  Reason;

  if (((Value != LOAD_ERROR) && (Value != FAILED)) || (gST->ConOut == NULL) || (ExtendedDataSize != DATA_BYTES)) {
    return EFI_SUCCESS;
  }

  Reason = (EFI_STATUS)ReadUnaligned64 ((CONST UINT64 *)((CONST UINT8 *)ExtendedData + STATUS_OFFSET));
  DescribeCurrent (Name, sizeof (Name));
  UnicodeSPrint (
    Text,
    sizeof (Text),
    (Value == LOAD_ERROR) ? L"Bygone: %s does not start: %r\r\n" : L"Bygone: %s ended: %r\r\n",
    Name,
    Reason
    );
  return gST->ConOut->OutputString (gST->ConOut, Text);
}

EFI_STATUS
EFIAPI
ReportStatusCode (
  IN EFI_STATUS_CODE_TYPE   Type,
  IN EFI_STATUS_CODE_VALUE  Value
  )
{
  return EFI_SUCCESS;
}

EFI_STATUS
EFIAPI
ReportStatusCodeWithDevicePath (
  IN EFI_STATUS_CODE_TYPE            Type,
  IN EFI_STATUS_CODE_VALUE           Value,
  IN CONST EFI_DEVICE_PATH_PROTOCOL  *DevicePath
  )
{
  return EFI_SUCCESS;
}

EFI_STATUS
EFIAPI
ReportStatusCodeWithExtendedData (
  IN EFI_STATUS_CODE_TYPE   Type,
  IN EFI_STATUS_CODE_VALUE  Value,
  IN CONST VOID             *ExtendedData,
  IN UINTN                  ExtendedDataSize
  )
{
  return EFI_SUCCESS;
}

BOOLEAN
EFIAPI
ReportPostCodeEnabled (
  VOID
  )
{
  return FALSE;
}

BOOLEAN
EFIAPI
ReportProgressCodeEnabled (
  VOID
  )
{
  return FALSE;
}

BOOLEAN
EFIAPI
ReportErrorCodeEnabled (
  VOID
  )
{
  return TRUE;
}

BOOLEAN
EFIAPI
ReportDebugCodeEnabled (
  VOID
  )
{
  return FALSE;
}

BOOLEAN
EFIAPI
CodeTypeEnabled (
  IN EFI_STATUS_CODE_TYPE  Type
  )
{
  return (BOOLEAN)((Type & EFI_STATUS_CODE_TYPE_MASK) == EFI_ERROR_CODE);
}
