#include "machine/gen2/network_part.h"

#include "machine/gen2/memory_map.h"
#include "network/capture.h"
#include "network/unplugged.h"

namespace bygone::machine::gen2 {
namespace {

Result<std::unique_ptr<network::Backend>> create_backend(NetworkOptions& options, EventLoop& loop, const Log& log) {
  if (auto* nat = std::get_if<network::NatOptions>(&options.backend)) return network::create_nat(loop, std::move(*nat), log);
  if (auto* tap = std::get_if<network::TapOptions>(&options.backend)) return network::create_tap(loop, std::move(*tap), log);
  return std::make_unique<network::Unplugged>();
}

/// Behind NAT a guest is alone and may keep one address for ever; on a shared wire it must be nobody else's.
network::MacAddress default_address(const NetworkOptions& options, std::size_t index) {
  network::MacAddress address = {0x02, 'B', 'y', 'g', 0, static_cast<std::uint8_t>(index + 1)};
  if (std::holds_alternative<network::TapOptions>(options.backend)) {
    const Guid random = Guid::random();
    const auto bytes = bytes_of(random);
    for (std::size_t i = 1; i < address.size(); ++i) address[i] = static_cast<std::uint8_t>(bytes[i - 1]);
  }
  return address;
}

}  // namespace

Result<std::unique_ptr<NetworkPart>> NetworkPart::create(NetworkOptions options, std::size_t index, const Log& log) {
  std::unique_ptr<NetworkPart> part(new NetworkPart);
  devices::network::AdapterOptions adapter;
  adapter.name = fmt::format("net{}", index);
  adapter.instance = network_instance(index);
  adapter.address = options.address.value_or(default_address(options, index));
  adapter.log = log.part(adapter.name);
  BYGONE_ASSIGN(part->loop_, EventLoop::create());
  BYGONE_ASSIGN(part->backend_, create_backend(options, *part->loop_, adapter.log));
  if (!options.capture.empty()) {
    BYGONE_ASSIGN(part->backend_, network::capture(std::move(part->backend_), options.capture, adapter.log));
  }
  part->adapter_ = std::make_unique<devices::network::NetworkAdapter>(std::move(adapter), *part->loop_, *part->backend_);
  BYGONE_CHECK(part->adapter_->start());
  return part;
}

NetworkPart::~NetworkPart() { stop(); }

void NetworkPart::start() {
  thread_ = std::thread([this] { loop_->run(); });
}

void NetworkPart::stop() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
}

}  // namespace bygone::machine::gen2
