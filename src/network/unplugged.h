// No network: the cable is out.
// Threading: as Backend.
#pragma once

#include <nlohmann/json.hpp>

#include "network/backend.h"

namespace bygone::network {

class Unplugged final : public Backend {
 public:
  Result<void> start(FrameSink& sink) override {
    sink.set_link(false);
    return {};
  }
  void send(std::span<const std::byte>) override {}
  void finish_burst() override {}
  nlohmann::json inspect() const override { return {{"kind", "none"}}; }
};

}  // namespace bygone::network
