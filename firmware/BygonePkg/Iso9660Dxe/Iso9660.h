/** @file
  The ISO 9660 file system (ECMA-119, 4th edition), read only, with Joliet's names where a medium has them. Names are compared
  without case, as UEFI's other file systems do. Not read: Rock Ridge's names, files in several extents or interleaved.

  Everything on a medium is hostile: what a record says is checked against the medium's size before it is followed, and nothing
  recurses.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_ISO9660_H_
#define BYGONE_ISO9660_H_

#include <PiDxe.h>
#include <Guid/FileInfo.h>
#include <Guid/FileSystemInfo.h>
#include <Guid/FileSystemVolumeLabelInfo.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/DebugLib.h>
#include <Library/DevicePathLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiLib.h>
#include <Protocol/BlockIo.h>
#include <Protocol/SimpleFileSystem.h>

#define SECTOR_BYTES         2048
#define NAME_LENGTH          128            ///< a Joliet name has at most 103 characters (an ISO 9660 name 31)
#define MAXIMUM_PATH_LENGTH  1024

#define RECORD_DIRECTORY     BIT1
#define RECORD_MULTI_EXTENT  BIT7

#pragma pack(1)
/// ECMA-119, 9.1. Numbers stand twice, in both byte orders; the little-endian one comes first.
typedef struct {
  UINT8     Bytes;
  UINT8     AttributeSectors;
  UINT32    Sector;
  UINT32    SectorBig;
  UINT32    DataBytes;
  UINT32    DataBytesBig;
  UINT8     Date[7];                        ///< years since 1900, month, day, hour, minute, second, zone in quarters of an hour
  UINT8     Flags;
  UINT8     UnitSize;
  UINT8     Gap;
  UINT16    Volume;
  UINT16    VolumeBig;
  UINT8     NameBytes;
  UINT8     Name[1];
} ISO_RECORD;

/// ECMA-119, 8.4 and 8.5.
typedef struct {
  UINT8     Type;
  UINT8     Identifier[5];
  UINT8     Version;
  UINT8     Flags;
  UINT8     System[32];
  UINT8     Label[32];
  UINT8     Unused[8];
  UINT32    Sectors;
  UINT32    SectorsBig;
  UINT8     Escapes[32];
  UINT16    SetSize[2];
  UINT16    Sequence[2];
  UINT16    SectorBytes;
  UINT16    SectorBytesBig;
  UINT8     PathTables[24];
  UINT8     Root[34];
} ISO_VOLUME_DESCRIPTOR;
#pragma pack()

STATIC_ASSERT (OFFSET_OF (ISO_RECORD, Name) == 33, "ECMA-119, 9.1");
STATIC_ASSERT (OFFSET_OF (ISO_VOLUME_DESCRIPTOR, Root) == 156, "ECMA-119, 8.4");

/// A directory or a file, as its record describes it.
typedef struct {
  UINT64      Sector;
  UINT64      Bytes;
  BOOLEAN     IsDirectory;
  EFI_TIME    Time;
  CHAR16      Name[NAME_LENGTH];
} ISO_ENTRY;

#define VOLUME_SIGNATURE  SIGNATURE_32 ('I', 'S', 'O', 'v')

typedef struct {
  UINT32                             Signature;
  LIST_ENTRY                         Link;
  EFI_HANDLE                         Device;
  EFI_HANDLE                         Handle;
  EFI_BLOCK_IO_PROTOCOL              *BlockIo;
  UINT32                             MediaId;
  UINT64                             Bytes;         ///< of the medium
  BOOLEAN                            Joliet;
  ISO_ENTRY                          Root;
  CHAR16                             Label[33];
  EFI_SIMPLE_FILE_SYSTEM_PROTOCOL    FileSystem;
  EFI_DEVICE_PATH_PROTOCOL           *Path;
  UINT8                              *Sector;       ///< for parts of sectors
} ISO_VOLUME;

#define VOLUME_FROM_FILE_SYSTEM(FileSystem_)  CR (FileSystem_, ISO_VOLUME, FileSystem, VOLUME_SIGNATURE)

/// Any bytes of the medium. EFI_VOLUME_CORRUPTED: they are not all on it.
EFI_STATUS
VolumeRead (
  IN  ISO_VOLUME  *Volume,
  IN  UINT64      Offset,
  IN  UINTN       Bytes,
  OUT VOID        *Buffer
  );

/// What a record in memory says, which has been checked to be whole. EFI_UNSUPPORTED: a file of a kind that is not read here.
EFI_STATUS
EntryFromRecord (
  IN  CONST ISO_VOLUME  *Volume,
  IN  CONST ISO_RECORD  *Record,
  OUT ISO_ENTRY         *Entry
  );

/**
  The entry at a position in a directory, without "." and "..".

  @param Position  in and out: bytes from the directory's beginning
  @retval EFI_END_OF_FILE  there is no other
**/
EFI_STATUS
DirectoryNext (
  IN     ISO_VOLUME       *Volume,
  IN     CONST ISO_ENTRY  *Directory,
  IN OUT UINT64           *Position,
  OUT    ISO_ENTRY        *Entry
  );

/// Follows a path from the root, its names divided by single backslashes. It may begin with one.
EFI_STATUS
DirectoryFind (
  IN  ISO_VOLUME    *Volume,
  IN  CONST CHAR16  *Path,
  OUT ISO_ENTRY     *Entry
  );

/// EFI_SIMPLE_FILE_SYSTEM_PROTOCOL's only function.
EFI_STATUS
EFIAPI
FileOpenVolume (
  IN  EFI_SIMPLE_FILE_SYSTEM_PROTOCOL  *This,
  OUT EFI_FILE_PROTOCOL                **Root
  );

#endif
