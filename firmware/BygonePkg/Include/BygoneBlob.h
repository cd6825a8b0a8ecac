/** @file
  The configuration blob: what the host tells the firmware (docs/firmware-interface.md, "Configuration blob").

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_BLOB_H_
#define BYGONE_BLOB_H_

#define BLOB_ADDRESS  0x709000

typedef enum {
  BlobCount                  = 0x00,
  BlobBiosInformation        = 0x01,
  BlobSrat                   = 0x02,
  BlobMemoryMap              = 0x03,
  BlobEntropy                = 0x04,
  BlobBiosGuid               = 0x05,
  BlobSystemSerial           = 0x06,
  BlobBaseSerial             = 0x07,
  BlobChassisSerial          = 0x08,
  BlobChassisAssetTag        = 0x09,
  BlobBiosLockString         = 0x0A,
  BlobSmbiosProcessor        = 0x0B,
  BlobProcessorSocket        = 0x0C,
  BlobProcessorManufacturer  = 0x0D,
  BlobProcessorVersion       = 0x0E,
  BlobProcessorSerial        = 0x0F,
  BlobProcessorAssetTag      = 0x10,
  BlobProcessorPartNumber    = 0x11,
  BlobFlags                  = 0x12,
  BlobProcessorInformation   = 0x13,
  BlobMmioRanges             = 0x14,
  BlobAcpiTable              = 0x16,
  BlobMadt                   = 0x18,
  BlobSystemManufacturer     = 0x1A,
  BlobSystemProductName      = 0x1B,
  BlobSystemVersion          = 0x1C,
  BlobSystemSku              = 0x1D,
  BlobSystemFamily           = 0x1E,
  BlobMemoryDeviceSerial     = 0x1F,
  BlobSlit                   = 0x20,
  BlobAspt                   = 0x21,
  BlobPptt                   = 0x22,
  BlobMcfg                   = 0x24,
  BlobSsdt                   = 0x25,
  BlobHmat                   = 0x26,
  BlobIort                   = 0x27
} BLOB_TYPE;

#pragma pack(1)

typedef struct {
  UINT32    Type;
  UINT32    Length;   ///< including this header
} BLOB_HEADER;

typedef struct {
  BLOB_HEADER    Header;
  UINT32         Count;
  UINT32         Bytes;
} BLOB_COUNT;

#define BLOB_MEMORY_RESERVED    0x1
#define BLOB_MEMORY_PERSISTENT  0x2

typedef struct {
  UINT64    Base;
  UINT64    Length;
  UINT32    Flags;
  UINT32    Reserved;
} BLOB_MEMORY_RANGE;

typedef struct {
  UINT64    FirstPage;
  UINT64    Pages;
} BLOB_MMIO_RANGE;

#define BLOB_FLAG_SERIAL            BIT0
#define BLOB_FLAG_PAUSE_ON_FAILURE  BIT1
#define BLOB_FLAG_NO_FRONT_PAGE     BIT14
#define BLOB_FLAG_MTRRS_SET         BIT28

typedef struct {
  UINT32    MaximumCount;
  UINT32    Count;
  UINT32    PerSocket;
  UINT32    ThreadsPerCore;
} BLOB_PROCESSORS;

typedef struct {
  UINT64    Id;
  UINT16    ExternalClock;
  UINT16    MaximumSpeed;
  UINT16    CurrentSpeed;
  UINT16    Characteristics;
  UINT16    Family2;
  UINT8     ProcessorType;
  UINT8     Voltage;
  UINT8     Status;
  UINT8     Upgrade;
  UINT16    Reserved;
} BLOB_SMBIOS_PROCESSOR;

#pragma pack()

#endif
