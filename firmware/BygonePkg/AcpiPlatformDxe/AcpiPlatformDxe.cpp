// The host knows its machine: every table comes from the blob, and EDK II's ACPI table driver links and checksums them. The one thing the
// firmware adds is memory for the generation id, whose address the host learns through its helper ports.
// SPDX-License-Identifier: Apache-2.0
extern "C" {
#include <PiDxe.h>
#include <IndustryStandard/Acpi.h>
#include <Library/BaseMemoryLib.h>
#include <Library/BlobLib.h>
#include <Library/DebugLib.h>
#include <Library/HelperPortLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Protocol/AcpiTable.h>
}

namespace {

constexpr bool is_table(UINT32 type) {
  switch (type) {
    case BlobSrat:
    case BlobAcpiTable:
    case BlobMadt:
    case BlobSlit:
    case BlobAspt:
    case BlobPptt:
    case BlobMcfg:
    case BlobSsdt:
    case BlobHmat:
    case BlobIort: return true;
    default: return false;
  }
}

void install(EFI_ACPI_TABLE_PROTOCOL& acpi, const BLOB_HEADER& record) {
  // Records are padded to 8 bytes; the table knows its own length. A FACS has no more of the common header than that.
  const auto* const table = reinterpret_cast<const EFI_ACPI_DESCRIPTION_HEADER*>(&record + 1);
  const UINTN bytes = record.Length - sizeof record;
  if (bytes < sizeof *table || table->Length > bytes) {
    DEBUG((DEBUG_ERROR, "ACPI: record 0x%x holds no table\n", record.Type));
    return;
  }
  UINTN key = 0;
  const EFI_STATUS status = acpi.InstallAcpiTable(&acpi, const_cast<EFI_ACPI_DESCRIPTION_HEADER*>(table), table->Length, &key);
  if (EFI_ERROR(status)) {
    DEBUG((DEBUG_ERROR, "ACPI: %.4a: %r\n", &table->Signature, status));
  }
}

EFI_STATUS place_generation_id() {
  EFI_PHYSICAL_ADDRESS address = 0;
  const EFI_STATUS status = gBS->AllocatePages(AllocateAnyPages, EfiACPIMemoryNVS, 1, &address);
  if (EFI_ERROR(status)) return status;
  ZeroMem(reinterpret_cast<void*>(address), EFI_PAGE_SIZE);
  HelperWrite(HELPER_GENERATION_ID_LOW, static_cast<UINT32>(address));
  HelperWrite(HELPER_GENERATION_ID_HIGH, static_cast<UINT32>(address >> 32));
  return EFI_SUCCESS;
}

}  // namespace

extern "C" EFI_STATUS EFIAPI AcpiPlatformEntry(EFI_HANDLE, EFI_SYSTEM_TABLE*) {
  void* protocol = nullptr;
  const EFI_STATUS status = gBS->LocateProtocol(&gEfiAcpiTableProtocolGuid, nullptr, &protocol);
  if (EFI_ERROR(status)) return status;
  auto& acpi = *static_cast<EFI_ACPI_TABLE_PROTOCOL*>(protocol);
  for (const BLOB_HEADER* record = BlobNext(MAX_UINT32, nullptr); record != nullptr; record = BlobNext(MAX_UINT32, record)) {
    if (is_table(record->Type)) install(acpi, *record);
  }
  return place_generation_id();
}
