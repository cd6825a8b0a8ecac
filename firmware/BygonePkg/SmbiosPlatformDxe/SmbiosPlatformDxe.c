/** @file
  The SMBIOS records that operating systems read (SMBIOS 3.1): firmware, system, board, chassis, processor, memory. Names come from
  the host; without any, the machine calls itself what a Generation 2 machine does, because guests look for that.

  SPDX-License-Identifier: Apache-2.0
**/
#include <PiDxe.h>
#include <IndustryStandard/SmBios.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/BlobLib.h>
#include <Library/DebugLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/PcdLib.h>
#include <Library/PrintLib.h>
#include <Library/TimerLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Protocol/Smbios.h>

#define MAXIMUM_STRING   64
#define MAXIMUM_STRINGS  7

STATIC EFI_SMBIOS_PROTOCOL  *mSmbios;

/// A record's strings, one after the other.
typedef struct {
  CHAR8    Text[MAXIMUM_STRINGS * (MAXIMUM_STRING + 1)];
  UINTN    Bytes;
  UINT8    Count;
} STRINGS;

/// The number that a record's field has for the text: 0 means that there is none, which is more than a text that says so.
STATIC SMBIOS_TABLE_STRING
String (
  IN OUT STRINGS      *Strings,
  IN     CONST CHAR8  *Text OPTIONAL
  )
{
  if ((Text == NULL) || (Text[0] == 0) || (Strings->Count == MAXIMUM_STRINGS)) {
    return 0;
  }

  AsciiStrnCpyS (Strings->Text + Strings->Bytes, MAXIMUM_STRING + 1, Text, MAXIMUM_STRING);
  Strings->Bytes += AsciiStrLen (Strings->Text + Strings->Bytes) + 1;
  return ++Strings->Count;
}

/**
  Adds one record.

  @param Structure  the formatted part, Hdr.Length set
**/
STATIC EFI_SMBIOS_HANDLE
Add (
  IN CONST SMBIOS_STRUCTURE  *Structure,
  IN CONST STRINGS           *Strings OPTIONAL
  )
{
  UINT8              *Record;
  UINTN              Bytes;
  EFI_SMBIOS_HANDLE  Handle;

  Bytes  = (Strings == NULL) ? 0 : Strings->Bytes;
  Record = AllocateZeroPool (Structure->Length + Bytes + 2);
  Handle = SMBIOS_HANDLE_PI_RESERVED;
  if (Record == NULL) {
    return Handle;
  }

  CopyMem (Record, Structure, Structure->Length);
  if (Bytes != 0) {
    CopyMem (Record + Structure->Length, Strings->Text, Bytes);
  }

  mSmbios->Add (mSmbios, NULL, &Handle, (EFI_SMBIOS_TABLE_HEADER *)Record);
  FreePool (Record);
  return Handle;
}

STATIC CONST CHAR8 *
Manufacturer (
  VOID
  )
{
  return BlobString (BlobSystemManufacturer, "Microsoft Corporation");
}

STATIC CONST CHAR8 *
Product (
  VOID
  )
{
  return BlobString (BlobSystemProductName, "Virtual Machine");
}

STATIC CONST CHAR8 *
Version (
  VOID
  )
{
  return BlobString (BlobSystemVersion, "Hyper-V UEFI Release v4.1");
}

STATIC VOID
AddFirmware (
  VOID
  )
{
  SMBIOS_TABLE_TYPE0  Type0;
  STRINGS             Strings;
  CHAR8               Text[MAXIMUM_STRING];

  AsciiSPrint (Text, sizeof (Text), "%s", PcdGetPtr (PcdFirmwareVersionString));
  ZeroMem (&Strings, sizeof (Strings));
  ZeroMem (&Type0, sizeof (Type0));
  Type0.Hdr.Type                                             = SMBIOS_TYPE_BIOS_INFORMATION;
  Type0.Hdr.Length                                           = sizeof (Type0);
  Type0.Vendor                                               = String (&Strings, "Bygone");
  Type0.BiosVersion                                          = String (&Strings, Text);
  Type0.BiosReleaseDate                                      = String (&Strings, "11/21/2026");
  Type0.BiosSize                                             = 0xFF;
  Type0.BiosCharacteristics.BiosCharacteristicsNotSupported  = 1;
  Type0.BIOSCharacteristicsExtensionBytes[0]                 = BIT0;          // ACPI
  Type0.BIOSCharacteristicsExtensionBytes[1]                 = BIT4 | BIT3;   // virtual machine, UEFI
  Type0.SystemBiosMajorRelease                               = 1;
  Type0.EmbeddedControllerFirmwareMajorRelease               = 0xFF;
  Type0.EmbeddedControllerFirmwareMinorRelease               = 0xFF;
  Type0.ExtendedBiosSize.Size                                = 6;
  Add ((SMBIOS_STRUCTURE *)&Type0, &Strings);
}

STATIC VOID
AddSystem (
  VOID
  )
{
  SMBIOS_TABLE_TYPE1  Type1;
  CONST VOID          *Uuid;
  UINTN               Bytes;
  STRINGS             Strings;

  ZeroMem (&Strings, sizeof (Strings));
  ZeroMem (&Type1, sizeof (Type1));
  Type1.Hdr.Type     = SMBIOS_TYPE_SYSTEM_INFORMATION;
  Type1.Hdr.Length   = sizeof (Type1);
  Type1.Manufacturer = String (&Strings, Manufacturer ());
  Type1.ProductName  = String (&Strings, Product ());
  Type1.Version      = String (&Strings, Version ());
  Type1.SerialNumber = String (&Strings, BlobString (BlobSystemSerial, NULL));
  Type1.WakeUpType   = SystemWakeupTypePowerSwitch;
  Type1.SKUNumber    = String (&Strings, BlobString (BlobSystemSku, NULL));
  Type1.Family       = String (&Strings, BlobString (BlobSystemFamily, "Virtual Machine"));
  Bytes              = 0;
  Uuid               = BlobFind (BlobBiosGuid, &Bytes);
  if ((Uuid != NULL) && (Bytes >= sizeof (Type1.Uuid))) {
    CopyMem (&Type1.Uuid, Uuid, sizeof (Type1.Uuid));
  }

  Add ((SMBIOS_STRUCTURE *)&Type1, &Strings);
}

STATIC VOID
AddBoardAndChassis (
  VOID
  )
{
  SMBIOS_TABLE_TYPE2  Type2;
  SMBIOS_TABLE_TYPE3  Type3;
  EFI_SMBIOS_HANDLE   Chassis;
  STRINGS             Strings;

  ZeroMem (&Strings, sizeof (Strings));
  ZeroMem (&Type3, sizeof (Type3));
  Type3.Hdr.Type         = SMBIOS_TYPE_SYSTEM_ENCLOSURE;
  Type3.Hdr.Length       = OFFSET_OF (SMBIOS_TABLE_TYPE3, ContainedElements) + 1;   // no elements; then the SKU string
  Type3.Manufacturer     = String (&Strings, Manufacturer ());
  Type3.Type             = MiscChassisTypeDeskTop;
  Type3.Version          = String (&Strings, Version ());
  Type3.SerialNumber     = String (&Strings, BlobString (BlobChassisSerial, NULL));
  Type3.AssetTag         = String (&Strings, BlobString (BlobChassisAssetTag, NULL));
  Type3.BootupState      = ChassisStateSafe;
  Type3.PowerSupplyState = ChassisStateSafe;
  Type3.ThermalState     = ChassisStateSafe;
  Type3.SecurityStatus   = ChassisSecurityStatusNone;
  Chassis                = Add ((SMBIOS_STRUCTURE *)&Type3, &Strings);

  ZeroMem (&Strings, sizeof (Strings));
  ZeroMem (&Type2, sizeof (Type2));
  Type2.Hdr.Type      = SMBIOS_TYPE_BASEBOARD_INFORMATION;
  Type2.Hdr.Length    = OFFSET_OF (SMBIOS_TABLE_TYPE2, ContainedObjectHandles);
  Type2.Manufacturer  = String (&Strings, Manufacturer ());
  Type2.ProductName   = String (&Strings, Product ());
  Type2.Version       = String (&Strings, Version ());
  Type2.SerialNumber  = String (&Strings, BlobString (BlobBaseSerial, NULL));
  Type2.BoardType     = BaseBoardTypeMotherBoard;
  Type2.ChassisHandle = Chassis;
  *(UINT8 *)&Type2.FeatureFlag = BIT0;                                              // hosting board
  Add ((SMBIOS_STRUCTURE *)&Type2, &Strings);
}

STATIC VOID
AddProcessors (
  VOID
  )
{
  SMBIOS_TABLE_TYPE4           Type4;
  CONST BLOB_SMBIOS_PROCESSOR  *Information;
  CONST BLOB_PROCESSORS        *Processors;
  UINTN                        Bytes;
  UINT32                       Count;
  UINT32                       PerSocket;
  UINT32                       Socket;
  UINT32                       Here;
  STRINGS                      Strings;
  UINT32                       Signature;
  UINT32                       Features;

  Count      = 1;
  PerSocket  = 1;
  Processors = BlobFind (BlobProcessorInformation, NULL);
  if ((Processors != NULL) && (Processors->Count != 0)) {
    Count     = Processors->Count;
    PerSocket = (Processors->PerSocket == 0) ? Count : MIN (Processors->PerSocket, Count);
  }

  ZeroMem (&Strings, sizeof (Strings));
  ZeroMem (&Type4, sizeof (Type4));
  Type4.Hdr.Type              = SMBIOS_TYPE_PROCESSOR_INFORMATION;
  Type4.Hdr.Length            = OFFSET_OF (SMBIOS_TABLE_TYPE4, ThreadEnabled);   // what follows came with SMBIOS 3.6
  Type4.Socket                = String (&Strings, BlobString (BlobProcessorSocket, "CPU 0"));
  Type4.ProcessorType         = CentralProcessor;
  Type4.ProcessorFamily       = ProcessorFamilyIndicatorFamily2;
  Type4.ProcessorManufacturer = String (&Strings, BlobString (BlobProcessorManufacturer, Manufacturer ()));
  Type4.ProcessorVersion      = String (&Strings, BlobString (BlobProcessorVersion, "Virtual Processor"));
  *(UINT8 *)&Type4.Voltage    = 0x8C;
  Type4.Status                = 0x41;                                     // present and enabled
  Type4.ProcessorUpgrade      = ProcessorUpgradeNone;
  Type4.L1CacheHandle         = 0xFFFF;
  Type4.L2CacheHandle         = 0xFFFF;
  Type4.L3CacheHandle         = 0xFFFF;
  Type4.SerialNumber          = String (&Strings, BlobString (BlobProcessorSerial, NULL));
  Type4.AssetTag              = String (&Strings, BlobString (BlobProcessorAssetTag, NULL));
  Type4.PartNumber            = String (&Strings, BlobString (BlobProcessorPartNumber, NULL));
  Type4.ProcessorCharacteristics = BIT2;                                  // 64 bit
  Type4.ProcessorFamily2      = 2;                                        // unknown
  Type4.CurrentSpeed          = (UINT16)DivU64x32 (GetPerformanceCounterProperties (NULL, NULL), 1000000);   // MHz
  Type4.MaxSpeed              = Type4.CurrentSpeed;
  // 7.5.3.3: what CPUID says of kind and features.
  AsmCpuid (1, &Signature, NULL, NULL, &Features);
  CopyMem (&Type4.ProcessorId, &Signature, sizeof (Signature));
  CopyMem ((UINT8 *)&Type4.ProcessorId + sizeof (Signature), &Features, sizeof (Features));
  Bytes                       = 0;
  Information                 = BlobFind (BlobSmbiosProcessor, &Bytes);
  if ((Information != NULL) && (Bytes >= sizeof (*Information))) {
    CopyMem (&Type4.ProcessorId, &Information->Id, sizeof (Type4.ProcessorId));
    Type4.ExternalClock            = Information->ExternalClock;
    Type4.MaxSpeed                 = Information->MaximumSpeed;
    Type4.CurrentSpeed             = Information->CurrentSpeed;
    Type4.ProcessorCharacteristics = Information->Characteristics;
    Type4.ProcessorFamily2         = Information->Family2;
    Type4.ProcessorType            = Information->ProcessorType;
    *(UINT8 *)&Type4.Voltage       = Information->Voltage;
    Type4.Status                   = Information->Status;
    Type4.ProcessorUpgrade         = Information->Upgrade;
  }

  for (Socket = 0; Socket * PerSocket < Count; ++Socket) {
    Here                     = MIN (PerSocket, Count - Socket * PerSocket);
    Type4.CoreCount          = (UINT8)MIN (Here, 0xFF);
    Type4.EnabledCoreCount   = Type4.CoreCount;
    Type4.ThreadCount        = Type4.CoreCount;
    Type4.CoreCount2         = (UINT16)Here;
    Type4.EnabledCoreCount2  = (UINT16)Here;
    Type4.ThreadCount2       = (UINT16)Here;
    Add ((SMBIOS_STRUCTURE *)&Type4, &Strings);
  }
}

STATIC VOID
AddMemory (
  VOID
  )
{
  SMBIOS_TABLE_TYPE16      Type16;
  SMBIOS_TABLE_TYPE17      Type17;
  SMBIOS_TABLE_TYPE19      Type19;
  CONST BLOB_MEMORY_RANGE  *Ranges;
  EFI_SMBIOS_HANDLE        Array;
  UINTN                    Bytes;
  UINTN                    Index;
  UINT64                   Total;
  UINT64                   Mebibytes;
  STRINGS                  Strings;

  Bytes  = 0;
  Total  = 0;
  Ranges = BlobFind (BlobMemoryMap, &Bytes);
  for (Index = 0; Index < Bytes / sizeof (*Ranges); ++Index) {
    Total += Ranges[Index].Length;
  }

  ZeroMem (&Type16, sizeof (Type16));
  Type16.Hdr.Type                     = SMBIOS_TYPE_PHYSICAL_MEMORY_ARRAY;
  Type16.Hdr.Length                   = sizeof (Type16);
  Type16.Location                     = MemoryArrayLocationSystemBoard;
  Type16.Use                          = MemoryArrayUseSystemMemory;
  Type16.MemoryErrorCorrection        = MemoryErrorCorrectionNone;
  Type16.MaximumCapacity              = 0x80000000;
  Type16.ExtendedMaximumCapacity      = Total;
  Type16.MemoryErrorInformationHandle = 0xFFFE;
  Type16.NumberOfMemoryDevices        = 1;
  Array                               = Add ((SMBIOS_STRUCTURE *)&Type16, NULL);

  Mebibytes = RShiftU64 (Total, 20);
  ZeroMem (&Strings, sizeof (Strings));
  ZeroMem (&Type17, sizeof (Type17));
  Type17.Hdr.Type                     = SMBIOS_TYPE_MEMORY_DEVICE;
  Type17.Hdr.Length                   = OFFSET_OF (SMBIOS_TABLE_TYPE17, MemoryTechnology);
  Type17.MemoryArrayHandle            = Array;
  Type17.MemoryErrorInformationHandle = 0xFFFE;
  Type17.TotalWidth                   = 0xFFFF;
  Type17.DataWidth                    = 0xFFFF;
  Type17.Size                         = (UINT16)MIN (Mebibytes, 0x7FFF);  // that much and more stands in the extended size
  Type17.ExtendedSize                 = (Type17.Size == 0x7FFF) ? (UINT32)Mebibytes : 0;
  Type17.FormFactor                   = MemoryFormFactorUnknown;
  Type17.DeviceLocator                = String (&Strings, "M0");
  Type17.BankLocator                  = String (&Strings, "Bank 0");
  Type17.MemoryType                   = MemoryTypeUnknown;
  *(UINT16 *)&Type17.TypeDetail       = BIT2;                             // unknown
  Type17.Manufacturer                 = String (&Strings, Manufacturer ());
  Type17.SerialNumber                 = String (&Strings, BlobString (BlobMemoryDeviceSerial, NULL));
  Add ((SMBIOS_STRUCTURE *)&Type17, &Strings);

  for (Index = 0; Index < Bytes / sizeof (*Ranges); ++Index) {
    ZeroMem (&Type19, sizeof (Type19));
    Type19.Hdr.Type              = SMBIOS_TYPE_MEMORY_ARRAY_MAPPED_ADDRESS;
    Type19.Hdr.Length            = sizeof (Type19);
    Type19.StartingAddress       = 0xFFFFFFFF;
    Type19.EndingAddress         = 0xFFFFFFFF;
    Type19.MemoryArrayHandle     = Array;
    Type19.PartitionWidth        = 1;
    Type19.ExtendedStartingAddress = Ranges[Index].Base;
    Type19.ExtendedEndingAddress   = Ranges[Index].Base + Ranges[Index].Length - 1;
    Add ((SMBIOS_STRUCTURE *)&Type19, NULL);
  }
}

EFI_STATUS
EFIAPI
SmbiosPlatformEntry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  SMBIOS_TABLE_TYPE32  Type32;
  EFI_STATUS           Status;

  Status = gBS->LocateProtocol (&gEfiSmbiosProtocolGuid, NULL, (VOID **)&mSmbios);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  AddFirmware ();
  AddSystem ();
  AddBoardAndChassis ();
  AddProcessors ();
  AddMemory ();

  ZeroMem (&Type32, sizeof (Type32));
  Type32.Hdr.Type   = SMBIOS_TYPE_SYSTEM_BOOT_INFORMATION;
  Type32.Hdr.Length = sizeof (Type32);
  Add ((SMBIOS_STRUCTURE *)&Type32, NULL);
  return EFI_SUCCESS;
}
