// The devices that a test guest finds: text, finish, the scratch device on ports and in memory, test MSRs and hypercalls.
// Threading: any thread, one lock.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "cpu/exit.h"
#include "cpu/interrupt.h"
#include "guest/protocol.h"

namespace bygone::guest_tests {

class TestDevices {
 public:
  using InterruptSender = std::function<void(const cpu::InterruptRequest&)>;
  explicit TestDevices(InterruptSender send) : send_(std::move(send)) {}

  void handle(cpu::PortExit& exit);
  void handle(cpu::MmioExit& exit);
  void handle(cpu::MsrExit& exit);
  static void handle(cpu::HypercallExit& exit);
  void handle(const cpu::IoApicEoiExit& exit);

  /// The number of failed checks once the guest has ended.
  [[nodiscard]] std::optional<std::uint32_t> finished() const;
  [[nodiscard]] guest::Ending expected_ending() const;
  [[nodiscard]] std::string text() const;

 private:
  struct Access {
    std::uint64_t address = 0;
    std::uint32_t size = 0;
    bool is_write = false;
    std::uint32_t count = 0;
  };

  [[nodiscard]] std::uint32_t read_port(std::uint16_t port, std::uint8_t size);
  void write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value);
  [[nodiscard]] std::uint64_t read_memory(std::uint64_t address, std::uint8_t size);
  void write_memory(std::uint64_t address, std::uint8_t size, std::uint64_t value);

  InterruptSender send_;
  mutable std::mutex mutex_;
  // All below guarded by mutex_.
  std::string text_;
  std::optional<std::uint32_t> finished_;
  guest::Ending ending_ = guest::Ending::kFinish;
  std::array<std::byte, guest::kPortScratchBytes> port_bytes_ = {};
  std::array<std::byte, guest::kMmioScratchBytes> memory_bytes_ = {};
  Access port_access_;
  Access memory_access_;
  std::uint64_t msr_ = 0;
  std::uint32_t eoi_count_ = 0;
  std::uint8_t eoi_vector_ = 0;
  std::optional<cpu::InterruptRequest> to_send_;
};

}  // namespace bygone::guest_tests
