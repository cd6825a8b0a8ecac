// One message of the control protocol on its way: a JSON object in one packet of a SOCK_SEQPACKET Unix socket, and the file
// descriptors that travel with it. Specification: docs/control-protocol.md.
// Threading: plain functions; one thread sends on a socket at a time.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::service::control {

inline constexpr int kProtocolVersion = 1;
inline constexpr std::size_t kMaximumPacketBytes = 65536;
inline constexpr std::size_t kMaximumPacketFds = 4;
inline constexpr int kMaximumDepth = 8;

struct Packet {
  nlohmann::json message;
  std::vector<UniqueFd> fds;
};

/// A JSON object within the protocol's bounds. Errors: kCorrupt.
[[nodiscard]] Result<nlohmann::json> parse_message(std::string_view text);

/// Errors: kBusy (a non-blocking socket is full), kExhausted (longer than a packet may be), kIo (the other side is gone).
[[nodiscard]] Result<void> send_packet(int socket, const nlohmann::json& message, std::span<const int> fds = {});
/// Errors: kBusy (nothing there on a non-blocking socket), kCancelled (the other side has closed), kCorrupt, kIo.
[[nodiscard]] Result<Packet> receive_packet(int socket);

/// An anonymous file with this content, sealed: for what is larger than a packet.
[[nodiscard]] Result<UniqueFd> sealed_file(std::span<const std::byte> content);
/// The content of a file that came with a packet. Errors: kExhausted, kIo.
[[nodiscard]] Result<std::vector<std::byte>> read_sealed_file(int fd, std::size_t maximum_bytes);

}  // namespace bygone::service::control
