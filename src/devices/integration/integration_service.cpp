#include "devices/integration/integration_service.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

namespace bygone::devices::integration {

namespace wire = spec::vmbus;

namespace {

constexpr std::array kFrameworks = {ServiceVersion{1, 0}, ServiceVersion{3, 0}};

wire::IntegrationVersion to_wire(ServiceVersion version) { return {version.major, version.minor}; }
ServiceVersion from_wire(const wire::IntegrationVersion& version) { return {version.major, version.minor}; }

vmbus::Offer make_offer(const ServiceIdentity& identity) {
  vmbus::Offer offer;
  offer.name = identity.name;
  offer.interface_type = identity.interface_type;
  offer.instance = identity.instance;
  offer.flags = wire::kOfferEnumerateDeviceInterface;
  vmbus::set_message_pipe(offer);
  return offer;
}

}  // namespace

IntegrationService::IntegrationService(ServiceIdentity identity)
    : PacketDevice(make_offer(identity), vmbus::Framing::kPipe), identity_(std::move(identity)) {}

Result<void> IntegrationService::on_open(const vmbus::ChannelParameters& parameters) {
  if (parameters.is_restored) {
    if (ready_) on_ready();
    return {};
  }
  ready_ = false;
  negotiate();
  return {};
}

void IntegrationService::on_close() {
  ready_ = false;
  on_gone();
}

void IntegrationService::negotiate() {
  std::vector<wire::IntegrationVersion> versions;
  versions.reserve(std::size(kFrameworks) + identity_.versions.size());
  for (const ServiceVersion version : kFrameworks) versions.push_back(to_wire(version));
  for (const ServiceVersion version : identity_.versions) versions.push_back(to_wire(version));
  wire::IntegrationNegotiate body = {};
  body.framework_count = static_cast<std::uint16_t>(kFrameworks.size());
  body.service_count = static_cast<std::uint16_t>(identity_.versions.size());
  wire::IntegrationHeader header = {};
  header.framework = to_wire(kFrameworks.front());
  header.service = to_wire(identity_.versions.front());
  header.type = static_cast<std::uint16_t>(wire::IntegrationMessage::kNegotiate);
  header.size = static_cast<std::uint16_t>(sizeof body + versions.size() * sizeof versions.front());
  header.flags = wire::kIntegrationTransaction | wire::kIntegrationRequest;
  send({bytes_of(header), bytes_of(body), std::as_bytes(std::span(versions))});
}

bool IntegrationService::request(std::span<const std::byte> body) {
  if (!ready_) return false;
  wire::IntegrationHeader header = {};
  header.framework = to_wire(framework_);
  header.service = to_wire(service_);
  header.type = static_cast<std::uint16_t>(identity_.message);
  header.size = static_cast<std::uint16_t>(body.size());
  header.transaction = ++transaction_;
  header.flags = wire::kIntegrationTransaction | wire::kIntegrationRequest;
  if (!send({bytes_of(header), body})) return false;
  ++requests_;
  return true;
}

Result<void> IntegrationService::on_message(std::span<const std::byte> message) {
  wire::IntegrationHeader header;
  if (message.size() < sizeof header) {
    return fail(ErrorCode::kCorrupt, "{}: a message of {} bytes", identity_.name, message.size());
  }
  std::memcpy(&header, message.data(), sizeof header);
  std::span<const std::byte> body = message.subspan(sizeof header);
  body = body.first(std::min<std::size_t>(body.size(), header.size));
  if ((header.flags & wire::kIntegrationResponse) == 0) return {};  // guests ask nothing of these services
  const auto type = static_cast<wire::IntegrationMessage>(header.type.value());
  if (type == wire::IntegrationMessage::kNegotiate) return on_negotiated(body);
  // Answers to what was asked before a reset or a restore are stale, and harmless.
  if (!ready_ || type != identity_.message) return {};
  ++responses_;
  return on_response(header.status, body);
}

Result<void> IntegrationService::on_negotiated(std::span<const std::byte> body) {
  struct {
    wire::IntegrationNegotiate counts;
    wire::IntegrationVersion framework;
    wire::IntegrationVersion service;
  } answer = {};
  if (ready_) return {};
  if (body.size() < sizeof answer.counts) return fail(ErrorCode::kCorrupt, "{}: a short answer to the versions", identity_.name);
  std::memcpy(&answer, body.data(), std::min(body.size(), sizeof answer));
  if (answer.counts.framework_count != 1 || answer.counts.service_count != 1) return {};  // nothing suits this guest
  const ServiceVersion framework = from_wire(answer.framework), service = from_wire(answer.service);
  if (body.size() < sizeof answer || std::ranges::find(kFrameworks, framework) == kFrameworks.end() ||
      std::ranges::find(identity_.versions, service) == identity_.versions.end()) {
    return fail(ErrorCode::kCorrupt, "{}: the guest chose version {}.{} in framework {}.{}, which was not offered", identity_.name,
                service.major, service.minor, framework.major, framework.minor);
  }
  framework_ = framework;
  service_ = service;
  ready_ = true;
  on_ready();
  return {};
}

Result<nlohmann::json> IntegrationService::save_state() {
  return nlohmann::json{{"ready", ready_},
                        {"framework", {framework_.major, framework_.minor}},
                        {"service", {service_.major, service_.minor}},
                        {"transaction", transaction_}};
}

Result<void> IntegrationService::restore_state(const nlohmann::json& state) {
  try {
    const bool ready = state.at("ready").get<bool>();
    const ServiceVersion framework = {state.at("framework").at(0).get<std::uint16_t>(), state.at("framework").at(1).get<std::uint16_t>()};
    const ServiceVersion service = {state.at("service").at(0).get<std::uint16_t>(), state.at("service").at(1).get<std::uint16_t>()};
    transaction_ = state.at("transaction").get<std::uint8_t>();
    ready_ = ready;
    framework_ = framework;
    service_ = service;
  } catch (const nlohmann::json::exception& error) {
    return fail(ErrorCode::kCorrupt, "the saved state of {}: {}", identity_.name, error.what());
  }
  return {};
}

nlohmann::json IntegrationService::inspect() const {
  return {{"ready", ready_},
          {"version", fmt::format("{}.{}", service_.major, service_.minor)},
          {"framework", fmt::format("{}.{}", framework_.major, framework_.minor)},
          {"requests", requests_},
          {"responses", responses_}};
}

}  // namespace bygone::devices::integration
