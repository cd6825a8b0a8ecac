// The SMBIOS records that operating systems read (SMBIOS 3.1): firmware, system, board, chassis, processor, memory. Names come from the
// host; without any, the machine calls itself what a Generation 2 machine does, because guests look for that.
// SPDX-License-Identifier: Apache-2.0
#include <BygoneBlob.h>
#include <BygoneCxx.h>

extern "C" {
#include <PiDxe.h>
#include <IndustryStandard/SmBios.h>
#include <Library/BaseLib.h>
#include <Library/PcdLib.h>
#include <Library/PrintLib.h>
#include <Library/TimerLib.h>
#include <Protocol/Smbios.h>
}

namespace {

namespace blob = bygone::blob;
using blob::Type;

EFI_SMBIOS_PROTOCOL* smbios;

/// One of the host's texts, or the default, which may be null.
const CHAR8* text(Type type, const CHAR8* otherwise) { return blob::here().find(type).text(otherwise); }

/// A record's strings, one after the other.
class Strings {
 public:
  /// The number that a record's field has for the text: 0 means that there is none, which is more than a text that says so.
  SMBIOS_TABLE_STRING add(const CHAR8* text) {
    if (text == nullptr || text[0] == 0 || count_ == kMost) return 0;
    AsciiStrnCpyS(text_ + bytes_, kMostCharacters + 1, text, kMostCharacters);
    bytes_ += AsciiStrLen(text_ + bytes_) + 1;
    return ++count_;
  }
  /// One of the host's, or the default, which may be null.
  SMBIOS_TABLE_STRING add(Type type, const CHAR8* otherwise = nullptr) { return add(text(type, otherwise)); }
  const CHAR8* characters() const { return text_; }
  UINTN bytes() const { return bytes_; }

 private:
  static constexpr UINTN kMostCharacters = 64;
  static constexpr UINT8 kMost = 7;

  CHAR8 text_[kMost * (kMostCharacters + 1)] = {};
  UINTN bytes_ = 0;
  UINT8 count_ = 0;
};

/// A record of zeros. `length`: of the formatted part, if the standard's version has less than the structure.
template <typename T>
T blank(UINT8 type, UINTN length = sizeof(T)) {
  T record = {};
  record.Hdr.Type = type;
  record.Hdr.Length = static_cast<UINT8>(length);
  return record;
}

EFI_SMBIOS_HANDLE add_bytes(const void* formatted, UINTN length, const Strings& strings) {
  EFI_SMBIOS_HANDLE handle = SMBIOS_HANDLE_PI_RESERVED;
  const auto record = bygone::Pool<UINT8>::create_array(length + strings.bytes() + 2);
  if (!record) return handle;
  CopyMem(record.get(), formatted, length);
  CopyMem(record.get() + length, strings.characters(), strings.bytes());
  smbios->Add(smbios, nullptr, &handle, reinterpret_cast<EFI_SMBIOS_TABLE_HEADER*>(record.get()));
  return handle;
}

template <typename T>
EFI_SMBIOS_HANDLE add(const T& record, const Strings& strings = {}) {
  return add_bytes(&record, MIN(record.Hdr.Length, sizeof record), strings);
}

/// A field that EDK II has as bits and SMBIOS as a number.
template <typename Field, typename Number>
void set(Field& field, Number number) {
  static_assert(sizeof field == sizeof number);
  CopyMem(&field, &number, sizeof field);
}

const CHAR8* manufacturer() { return text(Type::kSystemManufacturer, "Microsoft Corporation"); }
const CHAR8* product() { return text(Type::kSystemProductName, "Virtual Machine"); }
const CHAR8* version() { return text(Type::kSystemVersion, "Hyper-V UEFI Release v4.1"); }

void add_firmware() {
  CHAR8 firmware_version[64];
  AsciiSPrint(firmware_version, sizeof firmware_version, "%s", PcdGetPtr(PcdFirmwareVersionString));
  Strings strings;
  auto record = blank<SMBIOS_TABLE_TYPE0>(SMBIOS_TYPE_BIOS_INFORMATION);
  record.Vendor = strings.add("Bygone");
  record.BiosVersion = strings.add(firmware_version);
  record.BiosReleaseDate = strings.add("11/21/2026");
  record.BiosSize = 0xFF;
  record.BiosCharacteristics.BiosCharacteristicsNotSupported = 1;
  record.BIOSCharacteristicsExtensionBytes[0] = BIT0;         // ACPI
  record.BIOSCharacteristicsExtensionBytes[1] = BIT4 | BIT3;  // virtual machine, UEFI
  record.SystemBiosMajorRelease = 1;
  record.EmbeddedControllerFirmwareMajorRelease = 0xFF;
  record.EmbeddedControllerFirmwareMinorRelease = 0xFF;
  record.ExtendedBiosSize.Size = 6;
  add(record, strings);
}

void add_system() {
  Strings strings;
  auto record = blank<SMBIOS_TABLE_TYPE1>(SMBIOS_TYPE_SYSTEM_INFORMATION);
  record.Manufacturer = strings.add(manufacturer());
  record.ProductName = strings.add(product());
  record.Version = strings.add(version());
  record.SerialNumber = strings.add(Type::kSystemSerial);
  record.WakeUpType = SystemWakeupTypePowerSwitch;
  record.SKUNumber = strings.add(Type::kSystemSku);
  record.Family = strings.add(Type::kSystemFamily, "Virtual Machine");
  if (const auto* const uuid = blob::here().find(Type::kBiosGuid).as<GUID>(); uuid != nullptr) record.Uuid = *uuid;
  add(record, strings);
}

EFI_SMBIOS_HANDLE add_chassis() {
  Strings strings;
  // No elements; then the SKU string.
  auto record = blank<SMBIOS_TABLE_TYPE3>(SMBIOS_TYPE_SYSTEM_ENCLOSURE, OFFSET_OF(SMBIOS_TABLE_TYPE3, ContainedElements) + 1);
  record.Manufacturer = strings.add(manufacturer());
  record.Type = MiscChassisTypeDeskTop;
  record.Version = strings.add(version());
  record.SerialNumber = strings.add(Type::kChassisSerial);
  record.AssetTag = strings.add(Type::kChassisAssetTag);
  record.BootupState = ChassisStateSafe;
  record.PowerSupplyState = ChassisStateSafe;
  record.ThermalState = ChassisStateSafe;
  record.SecurityStatus = ChassisSecurityStatusNone;
  return add(record, strings);
}

void add_board(EFI_SMBIOS_HANDLE chassis) {
  Strings strings;
  auto record = blank<SMBIOS_TABLE_TYPE2>(SMBIOS_TYPE_BASEBOARD_INFORMATION, OFFSET_OF(SMBIOS_TABLE_TYPE2, ContainedObjectHandles));
  record.Manufacturer = strings.add(manufacturer());
  record.ProductName = strings.add(product());
  record.Version = strings.add(version());
  record.SerialNumber = strings.add(Type::kBaseSerial);
  record.BoardType = BaseBoardTypeMotherBoard;
  record.ChassisHandle = chassis;
  set(record.FeatureFlag, UINT8{BIT0});  // hosting board
  add(record, strings);
}

/// What all sockets say.
SMBIOS_TABLE_TYPE4 processor(Strings& strings) {
  // What follows came with SMBIOS 3.6.
  auto record = blank<SMBIOS_TABLE_TYPE4>(SMBIOS_TYPE_PROCESSOR_INFORMATION, OFFSET_OF(SMBIOS_TABLE_TYPE4, ThreadEnabled));
  record.Socket = strings.add(Type::kProcessorSocket, "CPU 0");
  record.ProcessorType = CentralProcessor;
  record.ProcessorFamily = ProcessorFamilyIndicatorFamily2;
  record.ProcessorManufacturer = strings.add(Type::kProcessorManufacturer, manufacturer());
  record.ProcessorVersion = strings.add(Type::kProcessorVersion, "Virtual Processor");
  set(record.Voltage, UINT8{0x8C});
  record.Status = 0x41;  // present and enabled
  record.ProcessorUpgrade = ProcessorUpgradeNone;
  record.L1CacheHandle = 0xFFFF;
  record.L2CacheHandle = 0xFFFF;
  record.L3CacheHandle = 0xFFFF;
  record.SerialNumber = strings.add(Type::kProcessorSerial);
  record.AssetTag = strings.add(Type::kProcessorAssetTag);
  record.PartNumber = strings.add(Type::kProcessorPartNumber);
  record.ProcessorCharacteristics = BIT2;  // 64 bit
  record.ProcessorFamily2 = 2;             // unknown
  record.CurrentSpeed = static_cast<UINT16>(GetPerformanceCounterProperties(nullptr, nullptr) / 1000000);  // MHz
  record.MaxSpeed = record.CurrentSpeed;
  // 7.5.3.3: what CPUID says of kind and features.
  UINT32 signature = 0;
  UINT32 features = 0;
  AsmCpuid(1, &signature, nullptr, nullptr, &features);
  set(record.ProcessorId, static_cast<UINT64>(features) << 32 | signature);
  if (const auto* const told = blob::here().find<blob::SmbiosProcessor>(); told != nullptr) {
    set(record.ProcessorId, UINT64{told->id});
    record.ExternalClock = told->external_clock;
    record.MaxSpeed = told->maximum_speed;
    record.CurrentSpeed = told->current_speed;
    record.ProcessorCharacteristics = told->characteristics;
    record.ProcessorFamily2 = told->family2;
    record.ProcessorType = told->processor_type;
    set(record.Voltage, UINT8{told->voltage});
    record.Status = told->status;
    record.ProcessorUpgrade = told->upgrade;
  }
  return record;
}

void add_processors() {
  UINT32 count = 1;
  UINT32 of_socket = 1;
  if (const auto* const processors = blob::here().find<blob::Processors>(); processors != nullptr && processors->count != 0) {
    count = processors->count;
    of_socket = processors->per_socket == 0 ? count : MIN(processors->per_socket, count);
  }
  Strings strings;
  auto record = processor(strings);
  for (UINT32 left = count; left != 0;) {
    const UINT32 here = MIN(of_socket, left);
    record.CoreCount = record.EnabledCoreCount = record.ThreadCount = static_cast<UINT8>(MIN(here, 0xFFU));
    record.CoreCount2 = record.EnabledCoreCount2 = record.ThreadCount2 = static_cast<UINT16>(here);
    add(record, strings);
    left -= here;
  }
}

EFI_SMBIOS_HANDLE add_memory_array(UINT64 bytes) {
  auto record = blank<SMBIOS_TABLE_TYPE16>(SMBIOS_TYPE_PHYSICAL_MEMORY_ARRAY);
  record.Location = MemoryArrayLocationSystemBoard;
  record.Use = MemoryArrayUseSystemMemory;
  record.MemoryErrorCorrection = MemoryErrorCorrectionNone;
  record.MaximumCapacity = 0x80000000;
  record.ExtendedMaximumCapacity = bytes;
  record.MemoryErrorInformationHandle = 0xFFFE;
  record.NumberOfMemoryDevices = 1;
  return add(record);
}

void add_memory_device(EFI_SMBIOS_HANDLE array, UINT64 bytes) {
  const UINT64 mebibytes = bytes >> 20;
  Strings strings;
  auto record = blank<SMBIOS_TABLE_TYPE17>(SMBIOS_TYPE_MEMORY_DEVICE, OFFSET_OF(SMBIOS_TABLE_TYPE17, MemoryTechnology));
  record.MemoryArrayHandle = array;
  record.MemoryErrorInformationHandle = 0xFFFE;
  record.TotalWidth = 0xFFFF;
  record.DataWidth = 0xFFFF;
  record.Size = static_cast<UINT16>(MIN(mebibytes, 0x7FFFU));  // that much and more stands in the extended size
  record.ExtendedSize = record.Size == 0x7FFF ? static_cast<UINT32>(mebibytes) : 0;
  record.FormFactor = MemoryFormFactorUnknown;
  record.DeviceLocator = strings.add("M0");
  record.BankLocator = strings.add("Bank 0");
  record.MemoryType = MemoryTypeUnknown;
  set(record.TypeDetail, UINT16{BIT2});  // unknown
  record.Manufacturer = strings.add(manufacturer());
  record.SerialNumber = strings.add(Type::kMemoryDeviceSerial);
  add(record, strings);
}

void add_memory() {
  const auto ranges = blob::here().all<blob::MemoryRange>();
  UINT64 total = 0;
  for (const blob::MemoryRange& range : ranges) total += range.length;
  const EFI_SMBIOS_HANDLE array = add_memory_array(total);
  add_memory_device(array, total);
  for (const blob::MemoryRange& range : ranges) {
    auto record = blank<SMBIOS_TABLE_TYPE19>(SMBIOS_TYPE_MEMORY_ARRAY_MAPPED_ADDRESS);
    record.StartingAddress = 0xFFFFFFFF;
    record.EndingAddress = 0xFFFFFFFF;
    record.MemoryArrayHandle = array;
    record.PartitionWidth = 1;
    record.ExtendedStartingAddress = range.base;
    record.ExtendedEndingAddress = range.end() - 1;
    add(record);
  }
}

}  // namespace

extern "C" EFI_STATUS EFIAPI SmbiosPlatformEntry(EFI_HANDLE, EFI_SYSTEM_TABLE*) {
  void* protocol = nullptr;
  const EFI_STATUS status = gBS->LocateProtocol(&gEfiSmbiosProtocolGuid, nullptr, &protocol);
  if (EFI_ERROR(status)) return status;
  smbios = static_cast<EFI_SMBIOS_PROTOCOL*>(protocol);
  add_firmware();
  add_system();
  add_board(add_chassis());
  add_processors();
  add_memory();
  add(blank<SMBIOS_TABLE_TYPE32>(SMBIOS_TYPE_SYSTEM_BOOT_INFORMATION));
  return EFI_SUCCESS;
}
