#include "machine/gen2/network_text.h"

#include <charconv>

namespace bygone::machine::gen2 {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

template <typename T>
std::optional<T> number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

Result<network::PortForward> parse_forward(std::string_view text) {
  const auto parts = split(text, ':');
  const auto wrong = [&] {
    return std::unexpected(Error{ErrorCode::kInvalidArgument, fmt::format("\"{}\" is not a port forward", text),
                                 "Use tcp:HOSTPORT:GUESTPORT or udp:HOSTPORT:GUESTPORT, with the host's address before its port to "
                                 "listen on another than 127.0.0.1"});
  };
  if (parts.size() < 3 || parts.size() > 4 || (parts[0] != "tcp" && parts[0] != "udp")) return wrong();
  const auto host = number<std::uint16_t>(parts[parts.size() - 2]), guest = number<std::uint16_t>(parts.back());
  if (!host || !guest || *host == 0 || *guest == 0) return wrong();
  network::PortForward forward;
  forward.is_udp = parts[0] == "udp";
  if (parts.size() == 4) forward.host_address = parts[1];
  forward.host_port = *host;
  forward.guest_port = *guest;
  return forward;
}

Result<network::MacAddress> parse_mac(std::string_view text) {
  network::MacAddress address{};
  const auto parts = split(text, text.find('-') == std::string_view::npos ? ':' : '-');
  bool good = parts.size() == address.size();
  for (std::size_t i = 0; good && i < address.size(); ++i) {
    const auto byte = parts[i].size() == 2 ? number<std::uint8_t>(parts[i], 16) : std::nullopt;
    good = byte.has_value();
    if (good) address[i] = *byte;
  }
  if (!good) return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a MAC address like 02:00:00:00:00:01", text);
  if ((address[0] & 1) != 0) {
    return std::unexpected(Error{ErrorCode::kInvalidArgument, fmt::format("the MAC address {} is a group's", text),
                                 "Its first byte must be even; 02 is free for anybody's use"});
  }
  return address;
}

Result<NetworkOptions> parse_network(std::string_view text) {
  NetworkOptions options;
  const auto parts = split(text, ',');
  const std::string_view kind = parts[0].substr(0, parts[0].find(':'));
  const std::string_view name = parts[0].size() > kind.size() ? parts[0].substr(kind.size() + 1) : std::string_view{};
  const auto descriptor = number<int>(name);
  if (parts[0] == "nat") {
    options.backend = network::NatOptions{};
  } else if (kind == "tap" && !name.empty()) {
    options.backend = network::TapOptions{std::string(name), -1};
  } else if (kind == "fd" && descriptor && *descriptor > 2) {
    options.backend = network::TapOptions{{}, *descriptor};
  } else if (parts[0] != "unplugged") {
    return std::unexpected(Error{ErrorCode::kInvalidArgument, fmt::format("\"{}\" is not a network", parts[0]),
                                 "Use nat, tap:NAME, fd:NUMBER, unplugged or none"});
  }
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::string_view key = parts[i].substr(0, parts[i].find('='));
    const std::string_view value = parts[i].size() > key.size() ? parts[i].substr(key.size() + 1) : std::string_view{};
    if (key == "forward" && std::holds_alternative<network::NatOptions>(options.backend)) {
      BYGONE_ASSIGN(auto forward, parse_forward(value));
      std::get<network::NatOptions>(options.backend).forwards.push_back(std::move(forward));
    } else if (key == "mac") {
      BYGONE_ASSIGN(options.address, parse_mac(value));
    } else if (key == "capture" && !value.empty()) {
      options.capture = value;
    } else {
      return std::unexpected(Error{ErrorCode::kInvalidArgument, fmt::format("\"{}\" is not a setting of the network {}", parts[i], parts[0]),
                                   "There are mac=ADDRESS, capture=FILE and, with nat, forward=tcp:HOSTPORT:GUESTPORT"});
    }
  }
  return options;
}

}  // namespace

Result<std::vector<NetworkOptions>> parse_networks(const std::vector<std::string>& arguments) {
  std::vector<NetworkOptions> networks;
  if (arguments.empty()) networks.push_back({network::NatOptions{}, {}, {}});
  for (const std::string& argument : arguments) {
    if (argument == "none") {
      if (arguments.size() != 1) return fail(ErrorCode::kInvalidArgument, "--network none stands alone");
      continue;
    }
    BYGONE_ASSIGN(auto network, parse_network(argument));
    networks.push_back(std::move(network));
  }
  return networks;
}

}  // namespace bygone::machine::gen2
