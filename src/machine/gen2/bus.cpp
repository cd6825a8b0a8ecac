#include "machine/gen2/bus.h"

#include <cstring>

#include "chipset/absorbed_ports.h"

namespace bygone::machine::gen2 {

PortBus::Owners::Owners() {
  for (const chipset::PortRange& range : chipset::kAbsorbedPorts) {
    for (std::uint32_t port = range.first; port <= range.last; ++port) by_port[port] = kAbsorbed;
  }
}

void PortBus::attach(spec::gen2::Ports ports, chipset::PortDevice& device) {
  const auto index = static_cast<std::uint8_t>(devices_.size());
  devices_.push_back(&device);
  for (std::uint32_t i = 0; i < ports.count; ++i) owners_->by_port[ports.first + i] = index;
}

std::uint32_t PortBus::read(std::uint16_t port, std::uint8_t size) {
  const std::uint8_t owner = owners_->by_port[port];
  if (owner > kAbsorbed) return devices_[owner]->read_port(port, size);
  if (owner == kNobody) report_unknown(port, false);
  return 0xFFFFFFFF;
}

void PortBus::write(std::uint16_t port, std::uint8_t size, std::uint32_t value) {
  const std::uint8_t owner = owners_->by_port[port];
  if (owner > kAbsorbed) return devices_[owner]->write_port(port, size, value);
  if (owner == kNobody) report_unknown(port, true);
}

void PortBus::handle(cpu::PortExit& exit) {
  for (std::uint32_t i = 0; i < exit.count; ++i) {
    std::byte* element = exit.data.data() + std::size_t{i} * exit.size;
    std::uint32_t value = 0;
    if (exit.is_write) {
      std::memcpy(&value, element, exit.size);
      write(exit.port, exit.size, value);
    } else {
      value = read(exit.port, exit.size);
      std::memcpy(element, &value, exit.size);
    }
  }
}

void PortBus::report_unknown(std::uint16_t port, bool is_write) {
  if (limit_.allow()) log_.debug("the guest {} port {:#x}, where nothing is", is_write ? "wrote" : "read", port);
}

void MmioBus::attach(std::uint64_t base, std::uint64_t size, chipset::MmioDevice& device) { ranges_.push_back({base, size, &device}); }

void MmioBus::handle(cpu::MmioExit& exit) {
  for (const Range& range : ranges_) {
    const std::uint64_t offset = exit.address.value - range.base;
    if (exit.address.value < range.base || offset >= range.size) continue;
    if (exit.is_write) {
      range.device->write_mmio(offset, exit.size, exit.data);
    } else {
      exit.data = range.device->read_mmio(offset, exit.size);
    }
    return;
  }
  if (!exit.is_write) exit.data = ~0ULL;
  if (limit_.allow()) {
    log_.debug("the guest {} {:#x}, where nothing is", exit.is_write ? "wrote" : "read", exit.address.value);
  }
}

}  // namespace bygone::machine::gen2
