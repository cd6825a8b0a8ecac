// The network protocol between a guest's driver and the host (NetVSC and NetVSP): packets in a channel of kNetworkInterface. It
// sets up shared buffers and then carries RNDIS messages (spec/rndis).
// Source: the interface that Hyper-V's guests implement, as Linux's drivers/net/hyperv/hyperv_net.h and Microsoft's openvmm
// describe it. Versions 1, 2, 4, 5, 6.0 and 6.1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::netvsp {

inline constexpr std::uint32_t kVersion1 = 0x0000'0002;  ///< Vista, Server 2008
inline constexpr std::uint32_t kVersion2 = 0x0003'0002;  ///< Windows 7
inline constexpr std::uint32_t kVersion4 = 0x0004'0000;  ///< Windows 8
inline constexpr std::uint32_t kVersion5 = 0x0005'0000;  ///< Windows 8.1: subchannels
inline constexpr std::uint32_t kVersion6 = 0x0006'0000;  ///< Windows 10
inline constexpr std::uint32_t kVersion6_1 = 0x0006'0001;  ///< receive segment coalescing

enum class MessageType : std::uint32_t {
  kNone = 0,
  kInitialize = 1,
  kInitializeComplete = 2,
  // Version 1
  kSendNdisVersion = 100,
  kSendReceiveBuffer = 101,
  kSendReceiveBufferComplete = 102,
  kRevokeReceiveBuffer = 103,
  kSendSendBuffer = 104,
  kSendSendBufferComplete = 105,
  kRevokeSendBuffer = 106,
  kSendRndisPacket = 107,
  kSendRndisPacketComplete = 108,
  // Version 2
  kSendNdisConfiguration = 125,
  // Version 4
  kSendVfAssociation = 128,
  kSwitchDataPath = 129,
  // Version 5
  kOidQueryEx = 131,
  kOidQueryExComplete = 132,
  kSubchannel = 133,
  kSendIndirectionTable = 134,
};

enum class Status : std::uint32_t {
  kNone = 0,
  kSuccess = 1,
  kFailure = 2,
  kProtocolTooNew = 3,
  kProtocolTooOld = 4,
  kInvalidRndisPacket = 5,
  kBusy = 6,
  kProtocolUnsupported = 7,
};

/// Every message begins with its type; the structs below follow it.
using Type = le32;

struct Initialize {
  le32 lowest_version;
  le32 highest_version;
};
static_assert(sizeof(Initialize) == 8);

struct InitializeComplete {
  le32 version;
  le32 longest_mdl_chain;
  le32 status;
};
static_assert(sizeof(InitializeComplete) == 12);

struct SendNdisVersion {
  le32 major;
  le32 minor;
};
static_assert(sizeof(SendNdisVersion) == 8);

/// kSendReceiveBuffer and kSendSendBuffer.
struct SendBuffer {
  le32 gpadl;
  le16 id;
};
static_assert(sizeof(SendBuffer) == 6);

struct ReceiveBufferSection {
  le32 offset;
  le32 sub_allocation_bytes;
  le32 sub_allocation_count;
  le32 end_offset;
};
static_assert(sizeof(ReceiveBufferSection) == 16);

struct SendReceiveBufferComplete {
  le32 status;
  le32 section_count;
  ReceiveBufferSection section;  ///< guests want exactly one
};
static_assert(sizeof(SendReceiveBufferComplete) == 24);

struct RevokeBuffer {
  le16 id;
};
static_assert(sizeof(RevokeBuffer) == 2);

struct SendSendBufferComplete {
  le32 status;
  le32 section_bytes;
};
static_assert(sizeof(SendSendBufferComplete) == 8);

inline constexpr std::uint32_t kChannelTypeData = 0;
inline constexpr std::uint32_t kChannelTypeControl = 1;
inline constexpr std::uint32_t kNoSendSection = 0xFFFF'FFFF;

struct SendRndisPacket {
  le32 channel_type;
  le32 send_section_index;  ///< kNoSendSection: all of it lies in the packet's page list
  le32 send_section_bytes;
};
static_assert(sizeof(SendRndisPacket) == 12);

struct SendRndisPacketComplete {
  le32 status;
};
static_assert(sizeof(SendRndisPacketComplete) == 4);

inline constexpr std::uint64_t kCapabilityIeee8021Q = 1U << 3;

struct SendNdisConfiguration {
  le32 mtu;  ///< with the Ethernet header
  le32 reserved;
  le64 capabilities;
};
static_assert(sizeof(SendNdisConfiguration) == 16);

struct SubchannelRequest {
  le32 operation;
  le32 count;
};
static_assert(sizeof(SubchannelRequest) == 8);

struct SubchannelComplete {
  le32 status;
  le32 count;
};
static_assert(sizeof(SubchannelComplete) == 8);

struct SwitchDataPath {
  le32 active;
};
static_assert(sizeof(SwitchDataPath) == 4);

/// What a message takes in a packet, whatever its type: guests read whole unions.
inline constexpr std::size_t kMessageBytes = 32;
inline constexpr std::size_t kMessageBytes6_1 = 40;

/// The page set under which the guest's receive buffer is known in transfer-pages packets is the id that it was sent with; Linux
/// and Windows use this one.
inline constexpr std::uint16_t kUsualReceiveBufferId = 0xCAFE;

}  // namespace bygone::spec::netvsp
