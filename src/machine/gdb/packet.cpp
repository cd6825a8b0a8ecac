#include "machine/gdb/packet.h"

#include <charconv>

namespace bygone::machine::gdb {
namespace {

constexpr char kInterrupt = 0x03, kEscape = '}', kEscapeFlip = 0x20;
constexpr std::string_view kDigits = "0123456789abcdef";

std::uint8_t sum_of(std::string_view raw) {
  std::uint8_t sum = 0;
  for (const char c : raw) sum = static_cast<std::uint8_t>(sum + static_cast<std::uint8_t>(c));
  return sum;
}

std::string unescape(std::string_view raw) {
  std::string result;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    const bool is_escape = raw[i] == kEscape && i + 1 < raw.size();
    result += is_escape ? static_cast<char>(raw[++i] ^ kEscapeFlip) : raw[i];
  }
  return result;
}

}  // namespace

std::optional<std::uint64_t> parse_hex(std::string_view digits) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::string to_hex(std::string_view bytes) {
  std::string result;
  result.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto byte = static_cast<std::uint8_t>(c);
    result += kDigits[byte >> 4];
    result += kDigits[byte & 0xF];
  }
  return result;
}

std::optional<std::string> from_hex(std::string_view digits) {
  if (digits.size() % 2 != 0) return std::nullopt;
  std::string result;
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    const auto byte = parse_hex(digits.substr(i, 2));
    if (!byte) return std::nullopt;
    result += static_cast<char>(*byte);
  }
  return result;
}

std::vector<PacketReader::Event> PacketReader::feed(std::string_view bytes) {
  std::vector<Event> events;
  for (const char c : bytes) {
    switch (state_) {
      case State::kIdle:
        if (c == kInterrupt) events.push_back({Event::Kind::kInterrupt, {}});
        if (c == '-') events.push_back({Event::Kind::kResend, {}});
        if (c == '$') {
          raw_.clear();
          state_ = State::kPayload;
        }
        break;
      case State::kPayload:
        if (c == '#') {
          state_ = State::kFirstDigit;
        } else if (raw_.size() < kMaximumPacket) {
          raw_ += c;
        } else {
          state_ = State::kIdle;  // nobody who knows PacketSize sends this
          events.push_back({Event::Kind::kBadChecksum, {}});
        }
        break;
      case State::kFirstDigit:
        first_digit_ = c;
        state_ = State::kSecondDigit;
        break;
      case State::kSecondDigit:
        end_packet(c, events);
        state_ = State::kIdle;
        break;
    }
  }
  return events;
}

void PacketReader::end_packet(char second_digit, std::vector<Event>& events) {
  const char digits[] = {first_digit_, second_digit};
  const auto sum = parse_hex({digits, 2});
  if (!sum || *sum != sum_of(raw_)) {
    events.push_back({Event::Kind::kBadChecksum, {}});
    return;
  }
  events.push_back({Event::Kind::kPacket, unescape(raw_)});
}

std::string make_packet(std::string_view payload) {
  std::string escaped;
  for (const char c : payload) {
    if (c == '$' || c == '#' || c == kEscape || c == '*') {
      escaped += kEscape;
      escaped += static_cast<char>(c ^ kEscapeFlip);
    } else {
      escaped += c;
    }
  }
  const std::uint8_t sum = sum_of(escaped);
  std::string packet = "$" + escaped + "#";
  packet += kDigits[sum >> 4];
  packet += kDigits[sum & 0xF];
  return packet;
}

}  // namespace bygone::machine::gdb
