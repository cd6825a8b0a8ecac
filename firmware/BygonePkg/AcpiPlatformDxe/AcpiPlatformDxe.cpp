// The host knows its machine: every table comes from the blob, and EDK II's ACPI table driver links and checksums them. The one thing the
// firmware adds is memory for the generation id, whose address the host learns through its helper ports.
// SPDX-License-Identifier: Apache-2.0
#include <BygoneBlob.h>
#include <BygoneHelperPorts.h>

extern "C" {
#include <PiDxe.h>
#include <IndustryStandard/Acpi.h>
#include <Library/BaseMemoryLib.h>
#include <Library/DebugLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Protocol/AcpiTable.h>
}

namespace {

namespace blob = bygone::blob;
namespace helper = bygone::helper;

constexpr bool is_table(blob::Type type) {
  switch (type) {
    case blob::Type::kSrat:
    case blob::Type::kAcpiTable:
    case blob::Type::kMadt:
    case blob::Type::kSlit:
    case blob::Type::kAspt:
    case blob::Type::kPptt:
    case blob::Type::kMcfg:
    case blob::Type::kSsdt:
    case blob::Type::kHmat:
    case blob::Type::kIort: return true;
    default: return false;
  }
}

void install(EFI_ACPI_TABLE_PROTOCOL& acpi, const blob::Record& record) {
  // Records are padded to 8 bytes; the table knows its own length. A FACS has no more of the common header than that.
  const auto* const table = record.as<EFI_ACPI_DESCRIPTION_HEADER>();
  if (table == nullptr || table->Length > record.payload().size()) {
    DEBUG((DEBUG_ERROR, "ACPI: record 0x%x holds no table\n", static_cast<UINT32>(record.type())));
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
  helper::write(helper::Selector::kGenerationIdLow, static_cast<UINT32>(address));
  helper::write(helper::Selector::kGenerationIdHigh, static_cast<UINT32>(address >> 32));
  return EFI_SUCCESS;
}

}  // namespace

extern "C" EFI_STATUS EFIAPI AcpiPlatformEntry(EFI_HANDLE, EFI_SYSTEM_TABLE*) {
  void* protocol = nullptr;
  const EFI_STATUS status = gBS->LocateProtocol(&gEfiAcpiTableProtocolGuid, nullptr, &protocol);
  if (EFI_ERROR(status)) return status;
  auto& acpi = *static_cast<EFI_ACPI_TABLE_PROTOCOL*>(protocol);
  for (const blob::Record record : blob::here()) {
    if (is_table(record.type())) install(acpi, record);
  }
  return place_generation_id();
}
