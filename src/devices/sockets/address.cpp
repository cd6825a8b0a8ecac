#include "devices/sockets/address.h"

#include <charconv>

#include "spec/hvsocket/hvsocket.h"

namespace bygone::devices::sockets {

Result<Guid> parse_service(std::string_view text) {
  if (text.find('-') != std::string_view::npos) return Guid::parse(text);
  const bool is_hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  const std::string_view digits = is_hexadecimal ? text.substr(2) : text;
  std::uint32_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port, is_hexadecimal ? 16 : 10);
  if (error != std::errc{} || end != digits.data() + digits.size() || port == 0xFFFF'FFFF) {
    return fail(ErrorCode::kInvalidArgument, "\"{}\" is neither a port nor a service GUID", text.substr(0, 64));
  }
  return spec::hvsocket::service_of_port(port);
}

std::string service_text(const Guid& service) {
  const auto port = spec::hvsocket::port_of_service(service);
  return port ? std::to_string(*port) : service.text();
}

}  // namespace bygone::devices::sockets
