#include "firmware/uefi/boot_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "spec/uefi/handover.h"

namespace bygone::firmware {
namespace {

namespace uefi = spec::uefi;

/// VMBus as the parent of Hyper-V's device paths, and the storage controllers' interface.
constexpr Guid kVmbusPath = make_guid(0x9b17e5a2, 0x0891, 0x42dd, {0xb6, 0x53, 0x80, 0xb5, 0xc2, 0x28, 0x09, 0xba});
constexpr Guid kStorageInterface = make_guid(0xba6163d9, 0x04a1, 0x4d29, {0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f});
constexpr std::uint32_t kLoadOptionActive = 1;
constexpr std::uint32_t kAttributes = uefi::kVariableNonVolatile | uefi::kVariableBootService | uefi::kVariableRuntime;

class Bytes {
 public:
  Bytes& raw(const void* data, std::size_t size) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), begin, begin + size);
    return *this;
  }
  Bytes& u8(unsigned value) {
    bytes_.push_back(static_cast<std::byte>(value));
    return *this;
  }
  Bytes& u16(unsigned value) { return u8(value & 0xFF).u8(value >> 8); }
  Bytes& u32(std::uint32_t value) { return u16(value & 0xFFFF).u16(value >> 16); }
  /// A device path node's header: type, subtype, length of the whole node (10.3.1).
  Bytes& node(unsigned type, unsigned subtype, unsigned length) { return u8(type).u8(subtype).u16(length); }
  [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

std::vector<std::byte> load_option(const BootDevice& device) {
  const std::vector<std::byte> path = device_path(device);
  Bytes option;
  option.u32(kLoadOptionActive).u16(static_cast<unsigned>(path.size()));
  for (const char c : device.name) option.u16(static_cast<unsigned char>(c));
  return option.u16(0).raw(path.data(), path.size()).take();
}

/// The device path inside a load option; empty when it is malformed.
std::span<const std::byte> path_of(std::span<const std::byte> option) {
  constexpr std::size_t kHeader = 6;
  if (option.size() < kHeader) return {};
  const std::size_t path_bytes = std::to_integer<std::size_t>(option[4]) | std::to_integer<std::size_t>(option[5]) << 8;
  std::size_t at = kHeader;
  while (at + 2 <= option.size() && (option[at] != std::byte{0} || option[at + 1] != std::byte{0})) at += 2;
  at += 2;
  if (at > option.size() || path_bytes > option.size() - at) return {};
  return option.subspan(at, path_bytes);
}

VariableKey option_key(unsigned number) {
  const std::string name = fmt::format("Boot{:04X}", number);
  return {uefi::kGlobalVariable, std::u16string(name.begin(), name.end())};
}

std::vector<std::uint16_t> read_order(const VariableStore& store, const VariableKey& key) {
  const Variable* old = store.find(key);
  if (old == nullptr) return {};
  std::vector<std::uint16_t> order(old->data.size() / 2);
  if (!order.empty()) std::memcpy(order.data(), old->data.data(), order.size() * 2);
  return order;
}

/// The number of the device's boot option, which is made if there is none.
Result<std::uint16_t> find_or_add(VariableStore& store, const BootDevice& device) {
  const std::vector<std::byte> path = device_path(device);
  std::optional<std::uint16_t> free;
  for (unsigned number = 0; number <= 0xFFFF; ++number) {
    const Variable* option = store.find(option_key(number));
    if (option == nullptr) {
      if (!free) free = static_cast<std::uint16_t>(number);
      if (number > 0xFF) break;  // nobody numbers sparsely beyond the first few
      continue;
    }
    if (std::ranges::equal(path_of(option->data), path)) return static_cast<std::uint16_t>(number);
  }
  if (!free) return fail(ErrorCode::kExhausted, "there is no free UEFI boot option for {}", device.name);
  BYGONE_CHECK(store.set(option_key(*free), {kAttributes, load_option(device)}));
  return *free;
}

}  // namespace

std::vector<std::byte> device_path(const BootDevice& device) {
  static constexpr char kVmbus[] = "VMBus";
  return Bytes()
      .node(0x02, 0x02, 24).u32(0).u32(0).u32(0).raw(kVmbus, sizeof kVmbus).u8(0).u8(0)  // 10.3.3: expanded ACPI, strings
      .node(0x01, 0x04, 52).raw(&kVmbusPath, 16).raw(&kStorageInterface, 16).raw(&device.controller, 16)  // 10.3.2.4: vendor
      .node(0x03, 0x02, 8).u16(0).u16(device.lun)  // 10.3.4.2: SCSI target, unit
      .node(0x7F, 0xFF, 4)
      .take();
}

Result<void> set_boot_order(VariableStore& store, std::span<const BootDevice> devices) {
  const VariableKey key{uefi::kGlobalVariable, u"BootOrder"};
  std::vector<std::uint16_t> order;
  for (const BootDevice& device : devices) {
    BYGONE_ASSIGN(const std::uint16_t number, find_or_add(store, device));
    if (std::ranges::find(order, number) == order.end()) order.push_back(number);
  }
  for (const std::uint16_t number : read_order(store, key)) {
    if (std::ranges::find(order, number) == order.end()) order.push_back(number);
  }
  const auto bytes = std::as_bytes(std::span(order));
  return store.set(key, {kAttributes, {bytes.begin(), bytes.end()}});
}

}  // namespace bygone::firmware
