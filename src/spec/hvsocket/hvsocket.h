// Hyper-V sockets: streams between guest and host over VMBus channels of their own.
//
//   guest connects   TL_CONNECT_REQUEST (endpoint, service) → offer with service as class, endpoint as instance
//   host connects    offer with service as class, a new instance, and "for the guest to accept" in the user data
//   both             the guest opens the channel; PipeHeader and data in in-band packets; no data: the sender sends no more
//   end              the host takes the offer back
//
// Source: the interface that Hyper-V's guests implement, as Linux's net/vmw_vsock/hyperv_transport.c and Microsoft's openvmm
// describe it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "support/byte_order.h"
#include "support/guid.h"

namespace bygone::spec::hvsocket {

/// What AF_VSOCK ports become: the first field is the port.
inline constexpr Guid kPortServiceTemplate =
    make_guid(0x00000000, 0xfacb, 0x11e6, {0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3});

[[nodiscard]] constexpr Guid service_of_port(std::uint32_t port) {
  Guid service = kPortServiceTemplate;
  for (unsigned i = 0; i < 4; ++i) service.bytes[i] = static_cast<std::uint8_t>(port >> (8 * i));
  return service;
}

/// Nothing when the service is not a port.
[[nodiscard]] constexpr std::optional<std::uint32_t> port_of_service(const Guid& service) {
  std::uint32_t port = 0;
  for (unsigned i = 0; i < 4; ++i) port |= std::uint32_t{service.bytes[i]} << (8 * i);
  if (service != service_of_port(port)) return std::nullopt;
  return port;
}

/// The start of the offer's user data.
struct OfferData {
  le32 pipe_type;                  ///< spec::vmbus::kPipeTypeByte
  std::uint8_t for_guest_accept;   ///< nonzero: the host connects
  std::uint8_t for_container;
  std::uint8_t version[4];         ///< 1 from Windows Server 2019 on
  Guid silo;
  std::uint8_t padding[2];
};
static_assert(sizeof(OfferData) == 28 && offsetof(OfferData, for_guest_accept) == 4);

/// The most data in one packet that guests take.
inline constexpr std::uint32_t kMaximumData = 16384;

}  // namespace bygone::spec::hvsocket
