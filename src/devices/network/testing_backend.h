// A back end for tests: keeps what the guest sends, delivers what the test says.
//
// Threading: one thread.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "network/backend.h"

namespace bygone::devices::network {

class TestingBackend final : public bygone::network::Backend {
 public:
  explicit TestingBackend(bool takes_large = false) : takes_large_(takes_large) {}
  Result<void> start(bygone::network::FrameSink& given) override {
    sink = &given;
    given.set_link(true);
    return {};
  }
  void send(std::span<const std::byte> frame) override { sent.emplace_back(frame.begin(), frame.end()); }
  void finish_burst() override { ++bursts; }
  void has_room_again() override { ++room_again; }
  bool takes_large_segments() const override { return takes_large_; }
  void set_guest_limits(std::uint32_t mtu, bool large) override {
    guest_mtu = mtu;
    guest_takes_large = large;
  }
  nlohmann::json inspect() const override { return {{"kind", "testing"}}; }

  bygone::network::FrameSink* sink = nullptr;
  std::vector<std::vector<std::byte>> sent;
  int bursts = 0;
  int room_again = 0;
  std::uint32_t guest_mtu = 0;
  bool guest_takes_large = false;

 private:
  bool takes_large_;
};

}  // namespace bygone::devices::network
