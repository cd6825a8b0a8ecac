// How the parts of the control plane read messages.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>

#include "support/result.h"

namespace bygone::vmbus {

/// The message as a T. Errors: kCorrupt when it is shorter.
template <typename T>
[[nodiscard]] Result<T> parse_message(std::span<const std::byte> message) {
  if (message.size() < sizeof(T)) {
    return fail(ErrorCode::kCorrupt, "a control message of {} bytes instead of {}", message.size(), sizeof(T));
  }
  T value;
  std::memcpy(&value, message.data(), sizeof value);
  return value;
}

}  // namespace bygone::vmbus
