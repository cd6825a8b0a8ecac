#include "programs/bygone_vm/definition_options.h"

#include <unistd.h>

#include <array>

#include "disk/open.h"
#include "machine/gen2/network_text.h"
#include "machine/gen2/option_text.h"
#include "service/control/runtime_directory.h"
#include "spec/agent/protocol.h"

namespace bygone::programs::vm {
namespace {

namespace gen2 = machine::gen2;

Result<void> open_into(gen2::MachineOptions& options, const std::filesystem::path& path, bool is_dvd) {
  disk::OpenOptions open;
  open.read_only = is_dvd;
  auto device = disk::open_disk(path.string(), open);
  if (!device) return std::unexpected(std::move(device).error().within(is_dvd ? "the DVD drive's image" : "the machine's disk"));
  options.disks.push_back({std::move(*device), is_dvd, is_dvd ? path.string() : ""});
  return {};
}

/// What would harm if it were passed over: a person who asks for it relies on it.
Result<void> check_promises(const library::Definition& definition) {
  if (definition.wants_secure_boot) {
    return std::unexpected(Error{ErrorCode::kUnsupported, "the definition asks for Secure Boot, and this version's firmware checks no signatures",
                                 fmt::format("bygone set \"{}\" boot.secure_boot=false starts it without", definition.name)});
  }
  for (std::size_t index = 0; index < definition.disks.size(); ++index) {
    if (!definition.disks[index].undo) continue;
    return std::unexpected(Error{ErrorCode::kUnsupported, fmt::format("the definition asks for an undo disk on {}, and this version has none", definition.disks[index].path),
                                 fmt::format("bygone clone keeps the disk as it is; bygone set \"{}\" disks.{}.undo=false writes to it", definition.name, index)});
  }
  return {};
}

/// An adapter keeps its address over runs: from the machine's id, in the range that is free for anybody's use.
std::string address_of(const Guid& id, std::size_t index) {
  if (id.is_zero()) return {};
  return fmt::format("02:15:{:02x}:{:02x}:{:02x}:{:02x}", id.bytes[12], id.bytes[13], id.bytes[14], static_cast<std::uint8_t>(id.bytes[15] + index));
}

/// What the guest's programs may read of their machine through key-value exchange, under the names that they know.
devices::integration::KeyValues host_facts(const library::Definition& definition) {
  std::array<char, 256> host = {};
  ::gethostname(host.data(), host.size() - 1);
  devices::integration::KeyValues facts = {{"HostName", host.data()}, {"PhysicalHostName", host.data()}, {"VirtualMachineName", definition.name}};
  if (!definition.id.is_zero()) facts["VirtualMachineId"] = definition.id.text();
  return facts;
}

/// Of a value that this version does not understand, where it stands.
Error misunderstood(Error error, const library::MachineFolder& folder, const std::vector<std::string>& path) {
  return std::move(error).within(library::place_in_definition(folder, path));
}

Result<gen2::SerialOptions> serial_of(const std::string& key, const std::string& text, const library::MachineFolder& folder, const gen2::SerialOptions& console) {
  if (text == "console") return console;
  auto serial = gen2::parse_serial(text);
  if (!serial) return std::unexpected(misunderstood(std::move(serial).error(), folder, {key}));
  if (!serial->path.empty()) serial->path = folder.resolve(serial->path).string();
  return serial;
}

Result<std::vector<gen2::NetworkOptions>> networks_of(const library::Definition& definition, const library::MachineFolder& folder) {
  std::vector<std::string> networks;
  for (const auto& adapter : definition.network) {
    const std::size_t index = networks.size();
    const std::string address = adapter.mac.empty() ? address_of(definition.id, index) : adapter.mac;
    networks.push_back(adapter.connection + (address.empty() || adapter.connection.find("mac=") != std::string::npos ? "" : ",mac=" + address));
    if (auto parsed = gen2::parse_networks({networks.back()}); !parsed) {
      return std::unexpected(misunderstood(std::move(parsed).error(), folder, {"network", std::to_string(index)}));
    }
  }
  return gen2::parse_networks(networks);
}

}  // namespace

Result<gen2::MachineOptions> machine_options(const library::Definition& definition, const library::MachineFolder& folder,
                                             const gen2::SerialOptions& console) {
  BYGONE_CHECK(check_promises(definition));
  gen2::MachineOptions options;
  options.processors = definition.processors;
  options.memory_bytes = definition.memory_bytes;
  options.vram_megabytes = definition.video_megabytes;
  options.use_huge_pages = definition.uses_huge_pages;
  BYGONE_ASSIGN(options.profile, gen2::parse_profile(definition.guest));
  options.enlightenments = definition.enlightenments;
  BYGONE_ASSIGN(options.cpu_model, gen2::parse_cpu_model(definition.cpu_model));
  options.code_cache_bytes = definition.code_cache_bytes;
  const library::Definition::Boot& boot = definition.boot;
  if (!boot.kernel.empty()) {
    options.boot = gen2::DirectBoot{folder.resolve(boot.kernel), boot.initrd.empty() ? "" : folder.resolve(boot.initrd), boot.command_line};
  } else {
    std::string firmware = boot.firmware.empty() ? "" : folder.resolve(boot.firmware).string();
    if (firmware.empty()) {
      BYGONE_ASSIGN(firmware, gen2::find_firmware());
    }
    auto order = gen2::parse_boot_order(boot.order, definition.disks.size(), definition.dvds.size());
    if (!order) return std::unexpected(misunderstood(std::move(order).error(), folder, {"boot", "order"}));
    options.boot = gen2::FirmwareBoot{firmware, folder.variables(), std::move(*order)};
  }
  for (const library::Definition::Disk& disk : definition.disks) BYGONE_CHECK(open_into(options, folder.resolve(disk.path), false));
  for (const std::string& dvd : definition.dvds) {
    if (dvd.empty()) {
      options.disks.push_back({nullptr, true});
    } else {
      BYGONE_CHECK(open_into(options, folder.resolve(dvd), true));
    }
  }
  if (!definition.network.empty()) {
    BYGONE_ASSIGN(options.networks, networks_of(definition, folder));
  }
  if (definition.has_sockets) options.sockets = {service::control::guest_sockets(definition.name), {spec::agent::kVsockPort}};
  options.host_facts = host_facts(definition);
  options.integration = {definition.integration.has_shutdown, definition.integration.has_heartbeat, definition.integration.has_time,
                         definition.integration.has_key_values};
  BYGONE_ASSIGN(options.com1, serial_of("com1", definition.com1, folder, console));
  BYGONE_ASSIGN(options.com2, serial_of("com2", definition.com2, folder, {}));
  return options;
}

}  // namespace bygone::programs::vm
