// What all integration services share: the offer, the negotiation of versions, and requests with their answers.
//
//   guest opens ──> host: NEGOTIATE {framework versions, service versions} ──> guest chooses ──> on_ready()
//   request() ──> guest ──> on_response()
//
// Framework 3.0 (Windows 7 and later, Linux) and 1.0 (XP, Vista). Threading: as vmbus::PacketDevice.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "spec/vmbus/integration.h"
#include "support/guid.h"
#include "vmbus/packet_device.h"

namespace bygone::devices::integration {

struct ServiceVersion {
  std::uint16_t major = 0;
  std::uint16_t minor = 0;
  friend constexpr auto operator<=>(ServiceVersion, ServiceVersion) = default;
};

struct ServiceIdentity {
  std::string name;
  Guid interface_type;
  Guid instance;
  spec::vmbus::IntegrationMessage message = spec::vmbus::IntegrationMessage::kNegotiate;
  std::vector<ServiceVersion> versions;  ///< that this program speaks
};

class IntegrationService : public vmbus::PacketDevice {
 public:
  [[nodiscard]] nlohmann::json inspect() const override;

 protected:
  [[nodiscard]] Result<nlohmann::json> save_state() override;
  [[nodiscard]] Result<void> restore_state(const nlohmann::json& state) override;
  explicit IntegrationService(ServiceIdentity identity);

  /// A version is agreed on: request() works. Also after a restore.
  virtual void on_ready() {}
  /// The guest's driver is gone.
  virtual void on_gone() {}
  /// The answer to a request of ours. `body` may be shorter than what was sent. An error takes the channel from the guest.
  [[nodiscard]] virtual Result<void> on_response(std::uint32_t status, std::span<const std::byte> body) = 0;

  [[nodiscard]] bool is_ready() const { return ready_; }
  [[nodiscard]] ServiceVersion version() const { return service_; }
  /// False: not ready, or the guest takes nothing.
  bool request(std::span<const std::byte> body);

 private:
  [[nodiscard]] Result<void> on_open(const vmbus::ChannelParameters& parameters) final;
  void on_close() final;
  [[nodiscard]] Result<void> on_message(std::span<const std::byte> message) final;
  [[nodiscard]] Result<void> on_negotiated(std::span<const std::byte> body);
  void negotiate();

  ServiceIdentity identity_;
  bool ready_ = false;
  ServiceVersion framework_;
  ServiceVersion service_;
  std::uint8_t transaction_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t responses_ = 0;
};

}  // namespace bygone::devices::integration
