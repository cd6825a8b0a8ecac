// Turns the agent protocol's values into messages and back, and a byte stream into messages.
// Specification: docs/agent-protocol.md: a message is a 32-bit little-endian length and that many bytes of CBOR, one map.
// Threading: pure functions; a FrameReader belongs to one thread.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "spec/agent/protocol.h"
#include "support/result.h"

namespace bygone::spec::agent {

/// Whole frames, length included. Errors: kOutOfRange when a bound of protocol.h is exceeded, so that what is
/// encoded can always be decoded.
[[nodiscard]] Result<std::vector<std::byte>> encode(const Request& request);
[[nodiscard]] Result<std::vector<std::byte>> encode(const Reply& reply);
[[nodiscard]] Result<std::vector<std::byte>> encode(const Event& event);

/// A request that cannot be used, with what a reply to it needs.
struct RefusedRequest {
  std::uint32_t id = 0;
  ErrorReply reply;
  bool operator==(const RefusedRequest&) const = default;
};

/// What the agent reads; `payload` is one message without its length. Errors mean that the peer does not speak the
/// protocol and the connection ends; a RefusedRequest is answered.
[[nodiscard]] Result<std::variant<Request, RefusedRequest>> decode_request(std::span<const std::byte> payload);

/// An event of a kind that this side does not know: to be passed over.
struct UnknownEvent {
  bool operator==(const UnknownEvent&) const = default;
};
using FromAgent = std::variant<Reply, Event, UnknownEvent>;

/// What the host reads. Everything in it comes from the guest: texts may hold any bytes except NUL.
[[nodiscard]] Result<FromAgent> decode_from_agent(std::span<const std::byte> payload);

/// Cuts a stream into payloads.
class FrameReader {
 public:
  void append(std::span<const std::byte> bytes);
  /// The next whole payload, or nothing yet. Errors: kCorrupt for a length of zero or above kMaximumMessageSize; the
  /// stream cannot be read on after it.
  [[nodiscard]] Result<std::optional<std::vector<std::byte>>> next();

 private:
  std::vector<std::byte> pending_;
};

}  // namespace bygone::spec::agent
