// One network adapter of a machine with its back end, its loop and the thread that runs it.
//
// Threading: as the machine: start() and stop() from its own lifecycle calls.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>
#include <variant>

#include "devices/network/network_adapter.h"
#include "network/backend.h"
#include "network/nat.h"
#include "network/tap.h"
#include "support/event_loop.h"
#include "support/log.h"

namespace bygone::machine::gen2 {

struct NetworkOptions {
  /// std::monostate: an adapter whose cable is out.
  std::variant<std::monostate, network::NatOptions, network::TapOptions> backend;
  std::optional<network::MacAddress> address;  ///< default: a locally administered one
  std::filesystem::path capture;               ///< pcapng; empty: none
};

class NetworkPart {
 public:
  /// The machine's adapter number `index`. Errors: the back end's.
  [[nodiscard]] static Result<std::unique_ptr<NetworkPart>> create(NetworkOptions options, std::size_t index, const Log& log);
  ~NetworkPart();
  NetworkPart(const NetworkPart&) = delete;
  NetworkPart& operator=(const NetworkPart&) = delete;

  void start();
  void stop();
  [[nodiscard]] devices::network::NetworkAdapter& adapter() { return *adapter_; }
  [[nodiscard]] EventLoop& loop() { return *loop_; }

 private:
  NetworkPart() = default;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<network::Backend> backend_;
  std::unique_ptr<devices::network::NetworkAdapter> adapter_;
  std::thread thread_;
};

}  // namespace bygone::machine::gen2
