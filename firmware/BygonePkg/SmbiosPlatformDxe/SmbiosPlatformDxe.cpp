// The SMBIOS records that operating systems read (SMBIOS 3.1): firmware, system, board, chassis, processor, memory. Names come from the
// host; without any, the machine calls itself what a Generation 2 machine does, because guests look for that.
// SPDX-License-Identifier: Apache-2.0
#include <BygoneCxx.h>

extern "C" {
#include <PiDxe.h>
#include <IndustryStandard/SmBios.h>
#include <Library/BaseLib.h>
#include <Library/BlobLib.h>
#include <Library/PcdLib.h>
#include <Library/PrintLib.h>
#include <Library/TimerLib.h>
#include <Protocol/Smbios.h>
}

namespace {

EFI_SMBIOS_PROTOCOL* smbios;

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
  SMBIOS_TABLE_STRING add(BLOB_TYPE type, const CHAR8* otherwise = nullptr) { return add(BlobString(type, otherwise)); }
  const CHAR8* text() const { return text_; }
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
  CopyMem(record.get() + length, strings.text(), strings.bytes());
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

/// What a record of the blob holds, or null if it is missing or shorter.
template <typename T>
const T* find(BLOB_TYPE type) {
  UINTN bytes = 0;
  const void* const payload = BlobFind(type, &bytes);
  return bytes >= sizeof(T) ? static_cast<const T*>(payload) : nullptr;
}

const CHAR8* manufacturer() { return BlobString(BlobSystemManufacturer, "Microsoft Corporation"); }
const CHAR8* product() { return BlobString(BlobSystemProductName, "Virtual Machine"); }
const CHAR8* version() { return BlobString(BlobSystemVersion, "Hyper-V UEFI Release v4.1"); }

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
  record.SerialNumber = strings.add(BlobSystemSerial);
  record.WakeUpType = SystemWakeupTypePowerSwitch;
  record.SKUNumber = strings.add(BlobSystemSku);
  record.Family = strings.add(BlobSystemFamily, "Virtual Machine");
  if (const auto* const uuid = find<GUID>(BlobBiosGuid); uuid != nullptr) record.Uuid = *uuid;
  add(record, strings);
}

EFI_SMBIOS_HANDLE add_chassis() {
  Strings strings;
  // No elements; then the SKU string.
  auto record = blank<SMBIOS_TABLE_TYPE3>(SMBIOS_TYPE_SYSTEM_ENCLOSURE, OFFSET_OF(SMBIOS_TABLE_TYPE3, ContainedElements) + 1);
  record.Manufacturer = strings.add(manufacturer());
  record.Type = MiscChassisTypeDeskTop;
  record.Version = strings.add(version());
  record.SerialNumber = strings.add(BlobChassisSerial);
  record.AssetTag = strings.add(BlobChassisAssetTag);
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
  record.SerialNumber = strings.add(BlobBaseSerial);
  record.BoardType = BaseBoardTypeMotherBoard;
  record.ChassisHandle = chassis;
  set(record.FeatureFlag, UINT8{BIT0});  // hosting board
  add(record, strings);
}

/// What all sockets say.
SMBIOS_TABLE_TYPE4 processor(Strings& strings) {
  // What follows came with SMBIOS 3.6.
  auto record = blank<SMBIOS_TABLE_TYPE4>(SMBIOS_TYPE_PROCESSOR_INFORMATION, OFFSET_OF(SMBIOS_TABLE_TYPE4, ThreadEnabled));
  record.Socket = strings.add(BlobProcessorSocket, "CPU 0");
  record.ProcessorType = CentralProcessor;
  record.ProcessorFamily = ProcessorFamilyIndicatorFamily2;
  record.ProcessorManufacturer = strings.add(BlobProcessorManufacturer, manufacturer());
  record.ProcessorVersion = strings.add(BlobProcessorVersion, "Virtual Processor");
  set(record.Voltage, UINT8{0x8C});
  record.Status = 0x41;  // present and enabled
  record.ProcessorUpgrade = ProcessorUpgradeNone;
  record.L1CacheHandle = 0xFFFF;
  record.L2CacheHandle = 0xFFFF;
  record.L3CacheHandle = 0xFFFF;
  record.SerialNumber = strings.add(BlobProcessorSerial);
  record.AssetTag = strings.add(BlobProcessorAssetTag);
  record.PartNumber = strings.add(BlobProcessorPartNumber);
  record.ProcessorCharacteristics = BIT2;  // 64 bit
  record.ProcessorFamily2 = 2;             // unknown
  record.CurrentSpeed = static_cast<UINT16>(GetPerformanceCounterProperties(nullptr, nullptr) / 1000000);  // MHz
  record.MaxSpeed = record.CurrentSpeed;
  // 7.5.3.3: what CPUID says of kind and features.
  UINT32 signature = 0;
  UINT32 features = 0;
  AsmCpuid(1, &signature, nullptr, nullptr, &features);
  set(record.ProcessorId, static_cast<UINT64>(features) << 32 | signature);
  if (const auto* const told = find<BLOB_SMBIOS_PROCESSOR>(BlobSmbiosProcessor); told != nullptr) {
    set(record.ProcessorId, UINT64{told->Id});
    record.ExternalClock = told->ExternalClock;
    record.MaxSpeed = told->MaximumSpeed;
    record.CurrentSpeed = told->CurrentSpeed;
    record.ProcessorCharacteristics = told->Characteristics;
    record.ProcessorFamily2 = told->Family2;
    record.ProcessorType = told->ProcessorType;
    set(record.Voltage, UINT8{told->Voltage});
    record.Status = told->Status;
    record.ProcessorUpgrade = told->Upgrade;
  }
  return record;
}

void add_processors() {
  UINT32 count = 1;
  UINT32 of_socket = 1;
  if (const auto* const processors = find<BLOB_PROCESSORS>(BlobProcessorInformation); processors != nullptr && processors->Count != 0) {
    count = processors->Count;
    of_socket = processors->PerSocket == 0 ? count : MIN(processors->PerSocket, count);
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
  record.SerialNumber = strings.add(BlobMemoryDeviceSerial);
  add(record, strings);
}

void add_memory() {
  UINTN bytes = 0;
  const auto* const ranges = static_cast<const BLOB_MEMORY_RANGE*>(BlobFind(BlobMemoryMap, &bytes));
  const UINTN count = bytes / sizeof *ranges;
  UINT64 total = 0;
  for (UINTN index = 0; index < count; ++index) total += ranges[index].Length;
  const EFI_SMBIOS_HANDLE array = add_memory_array(total);
  add_memory_device(array, total);
  for (UINTN index = 0; index < count; ++index) {
    auto record = blank<SMBIOS_TABLE_TYPE19>(SMBIOS_TYPE_MEMORY_ARRAY_MAPPED_ADDRESS);
    record.StartingAddress = 0xFFFFFFFF;
    record.EndingAddress = 0xFFFFFFFF;
    record.MemoryArrayHandle = array;
    record.PartitionWidth = 1;
    record.ExtendedStartingAddress = ranges[index].Base;
    record.ExtendedEndingAddress = ranges[index].Base + ranges[index].Length - 1;
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
