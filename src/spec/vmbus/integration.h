// The integration services' messages: in pipe channels, a framework header, then what the service says.
// Source: the interface that Hyper-V's guests implement, as Linux's drivers/hv and include/linux/hyperv.h describe it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::vmbus {

struct IntegrationVersion {
  le16 major;
  le16 minor;
};
static_assert(sizeof(IntegrationVersion) == 4);

enum class IntegrationMessage : std::uint16_t {
  kNegotiate = 0,
  kHeartbeat = 1,
  kKeyValue = 2,
  kShutdown = 3,
  kTimeSync = 4,
  kVolumeShadow = 5,
  kFileCopy = 7,
};

inline constexpr std::uint8_t kIntegrationTransaction = 1;
inline constexpr std::uint8_t kIntegrationRequest = 2;
inline constexpr std::uint8_t kIntegrationResponse = 4;

inline constexpr std::uint32_t kIntegrationOk = 0;
inline constexpr std::uint32_t kIntegrationFail = 0x8000'4005;
inline constexpr std::uint32_t kIntegrationNoMoreItems = 0x8007'0103;
inline constexpr std::uint32_t kIntegrationNotFound = 0x8007'0490;

struct IntegrationHeader {
  IntegrationVersion framework;
  le16 type;
  IntegrationVersion service;
  le16 size;  ///< of what follows
  le32 status;
  std::uint8_t transaction;
  std::uint8_t flags;
  le16 reserved;
};
static_assert(sizeof(IntegrationHeader) == 20 && offsetof(IntegrationHeader, flags) == 17);

/// framework_count and then service_count IntegrationVersions follow; the answer has one of each, or none.
struct IntegrationNegotiate {
  le16 framework_count;
  le16 service_count;
  le32 reserved;
};
static_assert(sizeof(IntegrationNegotiate) == 8);

// Shutdown.
inline constexpr std::uint32_t kShutdownForce = 1;
inline constexpr std::uint32_t kShutdownRestart = 2;
inline constexpr std::uint32_t kShutdownHibernate = 4;
/// Windows' reason code: planned, "Other".
inline constexpr std::uint32_t kShutdownReasonPlanned = 0x8000'0000;

struct ShutdownRequest {
  le32 reason;
  le32 timeout_seconds;
  le32 flags;
  std::array<std::uint8_t, 2048> message;  ///< UTF-16
};
static_assert(sizeof(ShutdownRequest) == 2060);

// Heartbeat: the guest adds one to the sequence number.
struct HeartbeatData {
  le64 sequence;
  le32 application_state;
  std::uint8_t reserved[28];
};
static_assert(sizeof(HeartbeatData) == 40);

// Time synchronisation. Times count 100 ns; host_time from 1601-01-01 UTC.
inline constexpr std::uint8_t kTimeSyncProbe = 0;
inline constexpr std::uint8_t kTimeSyncSync = 1;    ///< set the clock to it
inline constexpr std::uint8_t kTimeSyncSample = 2;  ///< steer the clock towards it

/// Before 4.0.
struct TimeSyncData {
  le64 host_time;
  le64 guest_time;
  le64 round_trip;
  std::uint8_t flags;
};
static_assert(sizeof(TimeSyncData) == 25);

/// From 4.0 on.
struct TimeSyncReferenceData {
  le64 host_time;
  le64 reference_time;  ///< the partition's reference time at that moment
  std::uint8_t flags;
  std::uint8_t leap;
  std::uint8_t stratum;
  std::uint8_t reserved[3];
};
static_assert(sizeof(TimeSyncReferenceData) == 22);

// Key-value exchange.
enum class KeyValueOperation : std::uint8_t { kGet = 0, kSet = 1, kDelete = 2, kEnumerate = 3, kGetIpInfo = 4, kSetIpInfo = 5 };
enum class KeyValuePool : std::uint8_t {
  kExternal = 0,      ///< the host writes, the guest reads
  kGuest = 1,         ///< the guest writes
  kAutomatic = 2,     ///< what the guest's operating system tells of itself
  kHost = 3,          ///< what the host tells of itself
};
inline constexpr std::uint32_t kKeyValueTypeString = 1;
inline constexpr std::uint32_t kKeyValueTypeU32 = 4;
inline constexpr std::uint32_t kKeyValueTypeU64 = 11;

struct KeyValueHeader {
  std::uint8_t operation;
  std::uint8_t pool;
  le16 padding;
};
static_assert(sizeof(KeyValueHeader) == 4);

/// Sizes in bytes with the terminating zero; strings in UTF-16.
struct KeyValueData {
  le32 type;
  le32 key_size;
  le32 value_size;
  std::array<std::uint8_t, 512> key;
  std::array<std::uint8_t, 2048> value;
};
static_assert(sizeof(KeyValueData) == 2572);

struct KeyValueEnumerate {
  KeyValueHeader header;
  le32 index;
  KeyValueData data;
};
static_assert(sizeof(KeyValueEnumerate) == 2580);

/// Get and set.
struct KeyValueExchange {
  KeyValueHeader header;
  KeyValueData data;
};
static_assert(sizeof(KeyValueExchange) == 2576);

struct KeyValueDelete {
  KeyValueHeader header;
  le32 key_size;
  std::array<std::uint8_t, 512> key;
};
static_assert(sizeof(KeyValueDelete) == 520);

}  // namespace bygone::spec::vmbus
