// The message and event flags pages. Hypervisor Top-Level Functional Specification 6.0b, sections 11.8 and 12.5.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::tlfs {

struct MessageHeader {
  le32 type;  ///< 0: the slot is free
  std::uint8_t payload_bytes;
  std::uint8_t flags;
  le16 reserved;
  le64 sender;
};
static_assert(sizeof(MessageHeader) == 16 && offsetof(MessageHeader, sender) == 8);
inline constexpr std::size_t kMessageTypeOffset = 0;
inline constexpr std::size_t kMessageFlagsOffset = 5;
inline constexpr std::uint8_t kMessagePending = 1;

inline constexpr std::size_t kMessageBytes = 256;
inline constexpr std::size_t kEventFlagBytes = 256;  ///< a source's share of the event flags page

inline constexpr std::uint32_t kMessageTypeTimerExpired = 0x80000010;
struct TimerMessage {
  le32 timer_index;
  le32 reserved;
  le64 expiration_time;
  le64 delivery_time;
};
static_assert(sizeof(TimerMessage) == 24 && offsetof(TimerMessage, delivery_time) == 16);

struct ReferenceTscPage {
  le32 sequence;  ///< 0: not valid, use the register
  le32 reserved;
  le64 scale;
  le64 offset;
};
static_assert(sizeof(ReferenceTscPage) == 24 && offsetof(ReferenceTscPage, offset) == 16);

}  // namespace bygone::spec::tlfs
