// The framing of GDB's remote protocol: $payload#checksum, acknowledged until both sides agree to stop that.
// "Debugging with GDB", appendix E. Threading: value types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bygone::machine::gdb {

/// Turns received bytes into packets. What comes from the debugger is not trusted: a packet has at most kMaximumPacket bytes.
class PacketReader {
 public:
  static constexpr std::size_t kMaximumPacket = 0x4000;

  struct Event {
    enum class Kind { kPacket, kInterrupt, kBadChecksum, kResend };
    Kind kind = Kind::kPacket;
    std::string payload;  ///< escapes undone
  };
  [[nodiscard]] std::vector<Event> feed(std::string_view bytes);

 private:
  enum class State { kIdle, kPayload, kFirstDigit, kSecondDigit };
  void end_packet(char second_digit, std::vector<Event>& events);
  State state_ = State::kIdle;
  std::string raw_;
  char first_digit_ = 0;
};

/// A packet around `payload`, which is escaped where it must be.
[[nodiscard]] std::string make_packet(std::string_view payload);

[[nodiscard]] std::string to_hex(std::string_view bytes);
[[nodiscard]] std::optional<std::string> from_hex(std::string_view digits);
/// A whole number in hex. nullopt: not one, or it does not fit.
[[nodiscard]] std::optional<std::uint64_t> parse_hex(std::string_view digits);

}  // namespace bygone::machine::gdb
