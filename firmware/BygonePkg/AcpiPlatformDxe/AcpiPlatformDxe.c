/** @file
  The host knows its machine: every table comes from the blob, and EDK II's ACPI table driver links and checksums them. The one
  thing the firmware adds is memory for the generation id, whose address the host learns through its helper ports.

  SPDX-License-Identifier: Apache-2.0
**/
#include <PiDxe.h>
#include <IndustryStandard/Acpi.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/BlobLib.h>
#include <Library/DebugLib.h>
#include <Library/HelperPortLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Protocol/AcpiTable.h>

STATIC BOOLEAN
IsTableRecord (
  IN UINT32  Type
  )
{
  switch (Type) {
    case BlobSrat:
    case BlobAcpiTable:
    case BlobMadt:
    case BlobSlit:
    case BlobAspt:
    case BlobPptt:
    case BlobMcfg:
    case BlobSsdt:
    case BlobHmat:
    case BlobIort:
      return TRUE;
    default:
      return FALSE;
  }
}

STATIC VOID
InstallTables (
  IN EFI_ACPI_TABLE_PROTOCOL  *Acpi
  )
{
  CONST BLOB_HEADER                  *Record;
  CONST EFI_ACPI_DESCRIPTION_HEADER  *Table;
  UINTN                              Bytes;
  UINTN                              Key;
  EFI_STATUS                         Status;

  for (Record = BlobNext (MAX_UINT32, NULL); Record != NULL; Record = BlobNext (MAX_UINT32, Record)) {
    if (!IsTableRecord (Record->Type)) {
      continue;
    }

    // Records are padded to 8 bytes; the table knows its own length. A FACS has no more of the common header than that.
    Table = (CONST EFI_ACPI_DESCRIPTION_HEADER *)(Record + 1);
    Bytes = Record->Length - sizeof (*Record);
    if ((Bytes < sizeof (*Table)) || (Table->Length > Bytes)) {
      DEBUG ((DEBUG_ERROR, "ACPI: record 0x%x holds no table\n", Record->Type));
      continue;
    }

    Status = Acpi->InstallAcpiTable (Acpi, (VOID *)Table, Table->Length, &Key);
    if (EFI_ERROR (Status)) {
      DEBUG ((DEBUG_ERROR, "ACPI: %.4a: %r\n", &Table->Signature, Status));
    }
  }
}

STATIC EFI_STATUS
PlaceGenerationId (
  VOID
  )
{
  EFI_PHYSICAL_ADDRESS  Address;
  EFI_STATUS            Status;

  Status = gBS->AllocatePages (AllocateAnyPages, EfiACPIMemoryNVS, 1, &Address);
  if (!EFI_ERROR (Status)) {
    ZeroMem ((VOID *)(UINTN)Address, EFI_PAGE_SIZE);
    HelperWrite (HELPER_GENERATION_ID_LOW, (UINT32)Address);
    HelperWrite (HELPER_GENERATION_ID_HIGH, (UINT32)RShiftU64 (Address, 32));
  }

  return Status;
}

EFI_STATUS
EFIAPI
AcpiPlatformEntry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  EFI_ACPI_TABLE_PROTOCOL  *Acpi;
  EFI_STATUS               Status;

  Status = gBS->LocateProtocol (&gEfiAcpiTableProtocolGuid, NULL, (VOID **)&Acpi);
  if (!EFI_ERROR (Status)) {
    InstallTables (Acpi);
    Status = PlaceGenerationId ();
  }

  return Status;
}
