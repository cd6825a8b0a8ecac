#include "guest/runner/test_devices.h"

#include <cstring>
#include <utility>

namespace bygone::guest_tests {
namespace {

constexpr std::size_t kTextLimit = 1 << 20;  // a guest that prints in a loop must not fill the host's memory
constexpr std::uint16_t kSerialLineStatus = guest::kPortSerial + 5;
constexpr std::uint32_t kSerialTransmitterEmpty = 0x60;

cpu::InterruptRequest to_request(std::uint32_t value) {
  return {.delivery = static_cast<cpu::DeliveryMode>(value >> 8 & 7),
          .destination_mode = (value & 1U << 24) != 0 ? cpu::DestinationMode::kLogical : cpu::DestinationMode::kPhysical,
          .trigger = (value & 1U << 15) != 0 ? cpu::TriggerMode::kLevel : cpu::TriggerMode::kEdge,
          .vector = static_cast<std::uint8_t>(value),
          .destination = value >> 16 & 0xFF};
}

}  // namespace

void TestDevices::handle(cpu::PortExit& exit) {
  std::optional<cpu::InterruptRequest> request;
  {
    const std::lock_guard lock(mutex_);
    for (std::uint32_t i = 0; i < exit.count; ++i) {
      const auto element = exit.data.subspan(std::size_t{i} * exit.size, exit.size);
      std::uint32_t value = 0;
      if (exit.is_write) {
        std::memcpy(&value, element.data(), element.size());
        write_port(exit.port, exit.size, value);
      } else {
        value = read_port(exit.port, exit.size);
        std::memcpy(element.data(), &value, element.size());
      }
    }
    request = std::exchange(to_send_, std::nullopt);
  }
  if (request) send_(*request);
}

std::uint32_t TestDevices::read_port(std::uint16_t port, std::uint8_t size) {
  const std::uint32_t offset = port - std::uint32_t{guest::kPortScratch};
  if (port >= guest::kPortScratch && offset + size <= port_bytes_.size()) {
    port_access_ = {port, size, false, port_access_.count + 1};
    std::uint32_t value = 0;
    std::memcpy(&value, &port_bytes_[offset], size);
    return value;
  }
  switch (port) {
    case guest::kPortLast:
      return static_cast<std::uint32_t>(port_access_.address) | port_access_.size << 16 |
             (port_access_.is_write ? 1U << 24 : 0);
    case guest::kPortCount: return port_access_.count;
    case guest::kPortEoiCount: return eoi_count_;
    case guest::kPortEoiVector: return eoi_vector_;
    case kSerialLineStatus: return kSerialTransmitterEmpty;
    default: return 0xFFFFFFFF;
  }
}

void TestDevices::write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value) {
  const std::uint32_t offset = port - std::uint32_t{guest::kPortScratch};
  if (port >= guest::kPortScratch && offset + size <= port_bytes_.size()) {
    port_access_ = {port, size, true, port_access_.count + 1};
    std::memcpy(&port_bytes_[offset], &value, size);
    return;
  }
  switch (port) {
    case guest::kPortText:
    case guest::kPortSerial:
      if (text_.size() < kTextLimit) text_.push_back(static_cast<char>(value));
      break;
    case guest::kPortFinish: finished_ = value; break;
    case guest::kPortDone: finished_ = 0; break;
    case guest::kPortExpect: ending_ = static_cast<guest::Ending>(value & 0xFF); break;
    case guest::kPortCount: port_access_.count = 0; break;
    case guest::kPortInterrupt: to_send_ = to_request(value); break;
    default: break;
  }
}

void TestDevices::handle(cpu::MmioExit& exit) {
  const std::lock_guard lock(mutex_);
  if (exit.is_write) {
    write_memory(exit.address.value, exit.size, exit.data);
  } else {
    exit.data = read_memory(exit.address.value, exit.size);
  }
}

std::uint64_t TestDevices::read_memory(std::uint64_t address, std::uint8_t size) {
  const std::uint64_t offset = address - guest::kMmioScratch;
  if (address >= guest::kMmioScratch && offset + size <= memory_bytes_.size()) {
    memory_access_ = {address, size, false, memory_access_.count + 1};
    std::uint64_t value = 0;
    std::memcpy(&value, &memory_bytes_[offset], size);
    return value;
  }
  switch (address) {
    case guest::kMmioLastAddress: return memory_access_.address;
    case guest::kMmioLastSize: return memory_access_.size | (memory_access_.is_write ? 1U << 8 : 0);
    case guest::kMmioCount: return memory_access_.count;
    default: return ~std::uint64_t{0};
  }
}

void TestDevices::write_memory(std::uint64_t address, std::uint8_t size, std::uint64_t value) {
  const std::uint64_t offset = address - guest::kMmioScratch;
  if (address >= guest::kMmioScratch && offset + size <= memory_bytes_.size()) {
    memory_access_ = {address, size, true, memory_access_.count + 1};
    std::memcpy(&memory_bytes_[offset], &value, size);
  } else if (address == guest::kMmioCount) {
    memory_access_.count = 0;
  }
}

void TestDevices::handle(cpu::MsrExit& exit) {
  const std::lock_guard lock(mutex_);
  if (exit.index != guest::kMsrScratch) {
    exit.fault = true;
  } else if (exit.is_write) {
    msr_ = exit.value;
  } else {
    exit.value = msr_;
  }
}

void TestDevices::handle(cpu::HypercallExit& exit) {
  constexpr std::uint64_t kInvalidHypercallCode = 2;  // TLFS, HV_STATUS_INVALID_HYPERCALL_CODE
  switch (exit.control & 0xFFFF) {
    case guest::kCallXor: exit.result = exit.control ^ exit.input ^ exit.output; break;
    case guest::kCallXmm:
      for (std::size_t i = 0; i < 2; ++i) exit.xmm[5][i] = exit.xmm[0][i] + 1;
      exit.xmm_written = true;
      exit.result = 0;
      break;
    case guest::kCallFault: exit.fault = true; break;
    default: exit.result = kInvalidHypercallCode; break;
  }
}

void TestDevices::handle(const cpu::IoApicEoiExit& exit) {
  const std::lock_guard lock(mutex_);
  ++eoi_count_;
  eoi_vector_ = exit.vector;
}

std::optional<std::uint32_t> TestDevices::finished() const {
  const std::lock_guard lock(mutex_);
  return finished_;
}

guest::Ending TestDevices::expected_ending() const {
  const std::lock_guard lock(mutex_);
  return ending_;
}

std::string TestDevices::text() const {
  const std::lock_guard lock(mutex_);
  return text_;
}

}  // namespace bygone::guest_tests
