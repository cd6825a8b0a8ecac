/** @file
  VMBus channel management messages (Linux include/linux/hyperv.h and drivers/hv describe the same wire format).

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_VMBUS_MESSAGES_H_
#define BYGONE_VMBUS_MESSAGES_H_

#define VMBUS_MESSAGE_TYPE             1      ///< the hypervisor message's type
#define VMBUS_CONNECTION_ID            1      ///< for versions below 5.0
#define VMBUS_CONTACT_CONNECTION_ID_5  4      ///< for INITIATE_CONTACT from 5.0 on
#define VMBUS_SINT                     2

#define VMBUS_VERSION(Major, Minor)  (((UINT32)(Major) << 16) | (Minor))

enum {
  VmbusOffer           = 1,
  VmbusRescind         = 2,
  VmbusRequestOffers   = 3,
  VmbusOffersDelivered = 4,
  VmbusOpen            = 5,
  VmbusOpenResult      = 6,
  VmbusClose           = 7,
  VmbusGpadlHeader     = 8,
  VmbusGpadlBody       = 9,
  VmbusGpadlCreated    = 10,
  VmbusGpadlTeardown   = 11,
  VmbusGpadlTorndown   = 12,
  VmbusRelidReleased   = 13,
  VmbusInitiateContact = 14,
  VmbusVersionResponse = 15,
  VmbusUnload          = 16,
  VmbusUnloadResponse  = 17
};

#pragma pack(1)

typedef struct {
  UINT32    Type;
  UINT32    Padding;
} VMBUS_HEADER;

typedef struct {
  VMBUS_HEADER    Header;
  EFI_GUID        InterfaceType;
  EFI_GUID        InterfaceInstance;
  UINT64          Reserved[2];
  UINT16          Flags;
  UINT16          MmioMegabytes;
  UINT8           UserDefined[120];
  UINT16          SubChannelIndex;
  UINT16          Reserved3;
  UINT32          ChildRelId;
  UINT8           MonitorId;
  UINT8           MonitorAllocated;
  UINT16          DedicatedInterrupt;
  UINT32          ConnectionId;
} VMBUS_OFFER;

typedef struct {
  VMBUS_HEADER    Header;
  UINT32          ChildRelId;
  UINT32          OpenId;
  UINT32          RingGpadl;
  UINT32          TargetVp;
  UINT32          DownstreamPageOffset;
  UINT8           UserData[120];
} VMBUS_OPEN_CHANNEL;

typedef struct {
  VMBUS_HEADER    Header;
  UINT32          ChildRelId;
  UINT32          OpenId;
  UINT32          Status;
} VMBUS_OPEN_RESULT;

typedef struct {
  VMBUS_HEADER    Header;
  UINT32          ChildRelId;
} VMBUS_RELID_MESSAGE;

/// Pages in a header message: what 240 bytes leave after the fixed part.
#define GPADL_HEADER_PAGES  26
#define GPADL_BODY_PAGES    28

typedef struct {
  VMBUS_HEADER    Header;
  UINT32          ChildRelId;
  UINT32          Gpadl;
  UINT16          RangeBytes;
  UINT16          RangeCount;
  UINT32          ByteCount;
  UINT32          ByteOffset;
  UINT64          Page[GPADL_HEADER_PAGES];
} VMBUS_GPADL_HEADER;

typedef struct {
  VMBUS_HEADER    Header;
  UINT32          MessageNumber;
  UINT32          Gpadl;
  UINT64          Page[GPADL_BODY_PAGES];
} VMBUS_GPADL_BODY;

typedef struct {
  VMBUS_HEADER    Header;
  UINT32          ChildRelId;
  UINT32          Gpadl;
  UINT32          Status;
} VMBUS_GPADL_CREATED;

typedef struct {
  VMBUS_HEADER    Header;
  UINT32          ChildRelId;
  UINT32          Gpadl;
} VMBUS_GPADL_TEARDOWN;

typedef struct {
  VMBUS_HEADER    Header;
  UINT32          Gpadl;
} VMBUS_GPADL_TORNDOWN;

typedef struct {
  VMBUS_HEADER    Header;
  UINT32          Version;
  UINT32          TargetVp;
  UINT64          InterruptPage;      ///< from 5.0 on: the target SINT in the low byte
  UINT64          MonitorPage1;
  UINT64          MonitorPage2;
} VMBUS_INITIATE_CONTACT;

typedef struct {
  VMBUS_HEADER    Header;
  UINT8           Supported;
  UINT8           State;
  UINT16          Padding;
  UINT32          ConnectionId;       ///< from 5.0 on: where further messages go
} VMBUS_VERSION_RESPONSE;

/// A ring's control page (4 KiB), the guest's and the host's views are the same.
typedef struct {
  UINT32    WriteIndex;
  UINT32    ReadIndex;
  UINT32    InterruptMask;
  UINT32    PendingSendSize;
  UINT32    Reserved[12];
  UINT32    FeatureBits;              ///< bit 0: PendingSendSize is used
} VMBUS_RING_CONTROL;

typedef struct {
  UINT16    Type;
  UINT16    DataOffset8;
  UINT16    Length8;
  UINT16    Flags;                    ///< bit 0: completion requested
  UINT64    Transaction;
} VMBUS_PACKET;

typedef struct {
  UINT32    Reserved;
  UINT32    RangeCount;
  UINT32    ByteCount;
  UINT32    ByteOffset;
} VMBUS_GPA_RANGE;

#pragma pack()

#endif
