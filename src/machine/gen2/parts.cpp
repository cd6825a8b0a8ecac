#include "machine/gen2/parts.h"

#include <algorithm>
#include <array>

#include "chipset/local_apic/local_apic.h"
#include "firmware/linux/loader.h"
#include "firmware/uefi/boot_order.h"
#include "machine/gen2/cpu_model.h"
#include "memory/huge_pages.h"

namespace bygone::machine::gen2 {

namespace platform = spec::gen2;

namespace {

// Where guests write byte after byte. A serial port's data register: what becomes of the byte is seen in its other registers alone,
// or by an interrupt, and to read those is an exit. Diagnostics and the I/O delay: nobody looks.
constexpr std::array kPostedPorts = {platform::kCom1Ports.first, platform::kCom2Ports.first, std::uint16_t{0x80}, std::uint16_t{0xED}};

}  // namespace

Result<std::unique_ptr<Machine::Parts>> Machine::Parts::create(MachineOptions given) {
  if (given.processors == 0 || given.processors > kMaximumProcessors) {
    return fail(ErrorCode::kInvalidArgument, "a machine has 1 to {} processors, not {}", kMaximumProcessors, given.processors);
  }
  auto parts = std::make_unique<Parts>(std::move(given));
  BYGONE_ASSIGN(parts->boot_image, open_boot_image(parts->options.boot));
  if (!parts->options.saved_state.empty()) BYGONE_CHECK(parts->open_saved_state());
  BYGONE_ASSIGN(parts->loop, EventLoop::create());
  BYGONE_CHECK(parts->create_memory());
  BYGONE_CHECK(parts->create_processors());
  BYGONE_CHECK(parts->create_hypervisor());
  BYGONE_CHECK(parts->create_chipset());
  BYGONE_CHECK(parts->create_firmware());
  BYGONE_CHECK(parts->create_bus_devices());
  parts->attach_devices();
  Parts* self = parts.get();
  parts->runner = std::make_unique<Runner>(
      *parts->partition, parts->options.processors, [self](cpu::VpIndex vp, cpu::Exit& exit) { return self->handle_exit(vp, exit); },
      [self](cpu::VpIndex vp, const Error& error) {
        self->end({MachineEnd::Reason::kEngineFailed, fmt::format("processor {}: {}", vp.value, error.text())});
      });
  if (parts->saved) {
    auto restored = parts->restore();
    if (!restored) return std::unexpected(std::move(restored).error().within("resuming the saved machine"));
  }
  if (!parts->options.debugger.empty()) BYGONE_CHECK(parts->create_debugger());
  return parts;
}

Machine::Parts::~Parts() {
  debugger.reset();
  end({MachineEnd::Reason::kStopped, {}});
  if (control_thread.joinable()) control_thread.join();
  if (runner) runner->stop();
  timers.pause();
  for (const auto& network : networks) network->stop();
  for (auto [thread, each] : {std::pair{&sockets_thread, sockets_loop.get()}, std::pair{&storage_thread, storage_loop.get()},
                              std::pair{&loop_thread, loop.get()}}) {
    if (!thread->joinable()) continue;
    each->stop();
    thread->join();
  }
}

Result<void> Machine::Parts::create_memory() {
  BYGONE_ASSIGN(layout, lay_out_memory(options.memory_bytes));
  const auto kind = options.use_huge_pages ? memory::RamKind::kReserved : memory::RamKind::kPrivate;
  for (const AddressRange& range : layout.ram) BYGONE_CHECK(memory.add_ram({range.base}, range.size, kind));
  const auto is_ordinary = [](const memory::Slot& slot) { return memory::huge_pages_of(slot) == memory::HugePages::kNone; };
  if (options.use_huge_pages && std::ranges::any_of(memory.slots(), is_ordinary)) {
    log.warning("the host has no huge pages for the guest's memory: reserve {} in /proc/sys/vm/nr_hugepages, or write \"madvise\" into "
                "/sys/kernel/mm/transparent_hugepage/enabled",
                options.memory_bytes >> 21);
  }
  if (options.vram_megabytes == 0 || options.vram_megabytes > kMaximumVramMegabytes) {
    return fail(ErrorCode::kInvalidArgument, "{} MiB of video memory; a machine has 1 to {}", options.vram_megabytes, kMaximumVramMegabytes);
  }
  // The window where guests put their framebuffer is backed throughout: wherever in it they put one, it is memory that can be shown.
  for (const AddressRange& range : framebuffer_memory(layout, options.vram_megabytes)) {
    BYGONE_CHECK(memory.add_ram({range.base}, range.size, memory::RamKind::kShared));
  }
  return {};
}

cpu::FacilitySet Machine::Parts::facilities() const { return (options.facilities & options.engine->facilities()).consistent(); }

bool Machine::Parts::can_flush_tlbs() const {
  return options.engine->can_flush_tlbs() || facilities().has(cpu::Facility::kHypercalls);
}

Result<void> Machine::Parts::create_processors() {
  BYGONE_CHECK(choose_enlightenments());
  BYGONE_ASSIGN(const cpu::CpuidTable engine_table, options.engine->supported_cpuid());
  cpu::PartitionOptions partition_options;
  partition_options.memory = &memory;
  partition_options.vcpu_count = options.processors;
  cpuid = make_machine_cpuid(apply_cpu_model(engine_table, options.cpu_model), options.processors);
  BYGONE_CHECK(adopt_saved_processors(cpuid));
  hyperv::add_cpuid_leaves(cpuid, features);
  partition_options.cpuid = cpuid;
  partition_options.local_apics = [this, make = chipset::local_apic_factory(timers)](cpu::LocalApicHost& host, std::uint32_t count) {
    auto apics = make(host, count);
    local_apics = apics.get();
    return apics;
  };
  partition_options.facilities = facilities();
  partition_options.posted.ports.assign(kPostedPorts.begin(), kPostedPorts.end());
  partition_options.posted.deliver = [this](cpu::PortExit& write) { ports.handle(write); };
  partition_options.code_cache_bytes = options.code_cache_bytes;
  partition_options.log = log.part("cpu");
  BYGONE_ASSIGN(partition, options.engine->create_partition(std::move(partition_options)));
  return check_enlightenments();
}

hyperv::FeatureSet Machine::Parts::impossible_features() const {
  hyperv::FeatureSet impossible;
  if (!can_flush_tlbs()) impossible.add(hyperv::Feature::kTlbFlush);
  return impossible;
}

Result<void> Machine::Parts::choose_enlightenments() {
  using hyperv::FeatureSet;
  BYGONE_ASSIGN(features, FeatureSet::parse(options.enlightenments, to_string(options.profile)));
  const FeatureSet impossible = impossible_features();
  BYGONE_ASSIGN(const FeatureSet named, FeatureSet::parse_additions(options.enlightenments));
  if (const FeatureSet refused = named.without(named.without(impossible)); !refused.is_empty()) {
    return fail(ErrorCode::kUnsupported, "the engine {} cannot do {}", options.engine->name(), fmt::join(refused.names(), ", "));
  }
  features = features.without(impossible);
  // A profile has them for engines that leave the guest whenever it ends an interrupt.
  const bool saves_exits = facilities().has(cpu::Facility::kApicRegisters) && !options.engine->has_cheap_apic();
  if (!saves_exits && !named.has(hyperv::Feature::kApicRegisters)) features.remove(hyperv::Feature::kApicRegisters);
  return {};
}

/// What only a partition tells. Who has these has asked for them, or was saved with them.
Result<void> Machine::Parts::check_enlightenments() const {
  using hyperv::Feature;
  const bool no_apic_registers =
      features.has(Feature::kApicRegisters) && local_apics == nullptr && !facilities().has(cpu::Facility::kApicRegisters);
  const bool no_auto_eoi = features.has(Feature::kAutoEoi) && !partition->supports_auto_eoi() && !facilities().has(cpu::Facility::kSynic);
  if (!no_apic_registers && !no_auto_eoi) return {};
  return fail(ErrorCode::kUnsupported, "the engine {} cannot do {}", options.engine->name(),
              to_string(no_apic_registers ? Feature::kApicRegisters : Feature::kAutoEoi));
}

Result<void> Machine::Parts::create_hypervisor() {
  hyperv::HypervisorOptions hypervisor_options;
  hypervisor_options.memory = &memory;
  hypervisor_options.partition = partition.get();
  hypervisor_options.timers = &timers;
  hypervisor_options.vp_count = options.processors;
  hypervisor_options.features = features;
  hypervisor_options.log = log.part("hypervisor");
  if (local_apics != nullptr) hypervisor_options.local_apic = [this](cpu::VpIndex vp) { return &local_apics->at(vp); };
  hypervisor_options.crashed = [this](const hyperv::CrashReport& report) { report_crash(report); };
  hypervisor_options.reset = [this] {
    log.info("the guest resets the machine through the hypervisor");
    request_reset();
  };
  BYGONE_ASSIGN(hypervisor, hyperv::Hypervisor::create(std::move(hypervisor_options)));
  return {};
}

Result<void> Machine::Parts::create_bus_devices() {
  video = std::make_unique<devices::video::Video>(memory, devices::video::VideoOptions{.vram_megabytes = options.vram_megabytes});
  keyboard = std::make_unique<devices::keyboard::Keyboard>();
  mouse = std::make_unique<devices::mouse::Mouse>();
  shutdown = std::make_unique<devices::integration::ShutdownService>(*loop);
  heartbeat = std::make_unique<devices::integration::HeartbeatService>(*loop);
  time_sync = std::make_unique<devices::integration::TimeSyncService>(
      *loop, devices::integration::TimeSyncService::Clocks{devices::integration::TimeSyncService::system_host_time,
                                                           [this] { return hypervisor->reference_time(); }});
  key_values = std::make_unique<devices::integration::KeyValueService>(*loop, options.host_facts);
  BYGONE_ASSIGN(storage_loop, EventLoop::create());
  // A channel for each processor, up to as many as guests make use of.
  const auto subchannels = static_cast<std::uint16_t>(std::min(options.processors, kMaximumStorageChannels) - 1);
  storage = std::make_unique<devices::storage::StorageController>(
      devices::storage::StorageOptions{.name = "scsi0", .instance = kScsiInstance, .maximum_subchannels = subchannels, .log = log.part("scsi0")}, *storage_loop);
  if (options.disks.size() > devices::storage::kMaximumLuns) {
    return fail(ErrorCode::kInvalidArgument, "{} disks are too many; a machine takes {}", options.disks.size(),
                devices::storage::kMaximumLuns);
  }
  for (std::uint8_t lun = 0; DiskOptions& disk : options.disks) {
    disks.push_back(disk.is_dvd ? nullptr : std::move(disk.device));
    if (disk.is_dvd) {
      // Whoever resumes need not know that the tray was opened since the machine's start.
      const bool was_empty = saved && saved_disk(lun).value("size", nlohmann::json()) == 0;
      storage->attach_dvd(lun, was_empty ? devices::storage::Medium{} : devices::storage::Medium{std::move(disk.device), std::move(disk.name)});
    } else {
      storage->attach_disk(lun, disks.back());
    }
    ++lun;
  }
  bus = std::make_unique<vmbus::Server>(memory, hypervisor->synic(), *loop, log.part("vmbus"));
  const IntegrationOptions& has = options.integration;
  const std::pair<vmbus::Device*, bool> given[] = {{video.get(), true},
                                                   {keyboard.get(), true},
                                                   {mouse.get(), true},
                                                   {shutdown.get(), has.has_shutdown},
                                                   {heartbeat.get(), has.has_heartbeat},
                                                   {time_sync.get(), has.has_time},
                                                   {key_values.get(), has.has_key_values}};
  for (const auto& [device, is_offered] : given) {
    if (is_offered) BYGONE_CHECK(bus->add_device(*device, *loop));
  }
  BYGONE_CHECK(bus->add_device(*storage, *storage_loop));
  BYGONE_CHECK(create_networks());
  return create_sockets();
}

Result<void> Machine::Parts::create_sockets() {
  using devices::sockets::Sockets;
  if (options.sockets.directory.empty()) return {};
  BYGONE_ASSIGN(sockets_loop, EventLoop::create());
  BYGONE_ASSIGN(sockets, Sockets::create({.directory = options.sockets.directory, .ports = options.sockets.ports}, *sockets_loop,
                                         devices::sockets::SocketBus::of(*bus, *sockets_loop), log.part("sockets")));
  bus->set_socket_connector([this](const Guid& endpoint, const Guid& service) { sockets->connect_from_guest(endpoint, service); });
  return {};
}

Result<void> Machine::Parts::create_networks() {
  if (options.networks.size() > kMaximumNetworks) {
    return fail(ErrorCode::kInvalidArgument, "{} network adapters are too many; a machine takes {}", options.networks.size(),
                kMaximumNetworks);
  }
  for (std::size_t index = 0; NetworkOptions& network : options.networks) {
    BYGONE_ASSIGN(auto part, NetworkPart::create(std::move(network), index++, log));
    networks.push_back(std::move(part));
    BYGONE_CHECK(bus->add_device(networks.back()->adapter(), networks.back()->loop()));
  }
  return {};
}

Result<void> Machine::Parts::create_chipset() {
  io_apic = std::make_unique<chipset::IoApic>([this](const cpu::InterruptRequest& request) { partition->request_interrupt(request); });
  power = std::make_unique<chipset::PowerManagement>(
      timers, io_apic->line(platform::kSciInterrupt),
      chipset::PowerManagement::Callbacks{.sleep = [this](chipset::SleepState) { end({MachineEnd::Reason::kPoweredOff, {}}); },
                                          .reset = [this] {
                                            log.info("the guest resets the machine");
                                            request_reset();
                                          }});
  rtc = std::make_unique<chipset::Rtc>(timers, io_apic->line(platform::kRtcInterrupt));
  watchdog = std::make_unique<chipset::Watchdog>(timers, [this] {
    log.warning("the guest's watchdog has not been fed: the machine is reset");
    request_reset();
  });
  generation = std::make_unique<chipset::GenerationCounter>(memory, [this] { power->raise(chipset::GeneralEvent::kGenerationId); });
  generation->change(Guid::random().bytes);
  BYGONE_CHECK(create_serial(options.com1, platform::kCom1Ports.first, platform::kCom1Interrupt, com1_backend, com1));
  return create_serial(options.com2, platform::kCom2Ports.first, platform::kCom2Interrupt, com2_backend, com2);
}

Result<void> Machine::Parts::create_serial(const SerialOptions& serial, std::uint16_t base, unsigned pin,
                                           std::unique_ptr<chipset::CharBackend>& backend, std::unique_ptr<chipset::SerialPort>& port) {
  switch (serial.kind) {
    case SerialOptions::Kind::kNone: return {};
    case SerialOptions::Kind::kNull: break;
    case SerialOptions::Kind::kConsole: {
      BYGONE_ASSIGN(backend, chipset::create_console_backend(*loop, serial.input, serial.output));
      break;
    }
    case SerialOptions::Kind::kFile: {
      BYGONE_ASSIGN(backend, chipset::create_file_backend(serial.path));
      break;
    }
    case SerialOptions::Kind::kPty: {
      std::string& path = terminals[base == platform::kCom1Ports.first ? 0 : 1];
      BYGONE_ASSIGN(backend, chipset::create_pty_backend(*loop, path));
      log.info("serial port {:#x} is {}", base, path);
      break;
    }
    case SerialOptions::Kind::kSocket: {
      BYGONE_ASSIGN(backend, chipset::create_socket_backend(*loop, serial.path));
      break;
    }
  }
  port = std::make_unique<chipset::SerialPort>(base, io_apic->line(pin), backend.get());
  return {};
}

Result<void> Machine::Parts::create_firmware() {
  if (const auto* boot = std::get_if<FirmwareBoot>(&options.boot)) {
    if (!boot->variables.empty()) {
      BYGONE_ASSIGN(variables, firmware::VariableStore::open(boot->variables));
    }
    BYGONE_CHECK(set_boot_order(*boot));
  }
  firmware::HelperPorts::Events events;
  events.boot_finalized = [this] { log.info("the firmware has started"); };
  events.generation_id_placed = [this](std::uint64_t address) {
    if (auto placed = generation->place({address}); !placed) log.warning("generation id: {}", placed.error().text());
  };
  helper_ports = std::make_unique<firmware::HelperPorts>(memory, variables, std::move(events), log.part("firmware"));
  helper_device = std::make_unique<HelperPortDevice>(*helper_ports);
  return {};
}

Result<void> Machine::Parts::set_boot_order(const FirmwareBoot& boot) {
  if (boot.boot_order.empty() || !options.saved_state.empty()) return {};  // one that is resumed is past its boot manager
  std::vector<firmware::BootDevice> devices;
  for (const std::uint8_t lun : boot.boot_order) {
    if (lun >= options.disks.size()) {
      return fail(ErrorCode::kInvalidArgument, "the boot order names drive {}, and there are {}", lun + 1, options.disks.size());
    }
    devices.push_back({fmt::format("{} at {}", options.disks[lun].is_dvd ? "DVD" : "Disk", lun), kScsiInstance, lun});
  }
  return firmware::set_boot_order(variables, devices);
}

void Machine::Parts::attach_devices() {
  ports.attach(platform::kHelperPorts, *helper_device);
  ports.attach(platform::kWatchdogPorts, *watchdog);
  ports.attach(platform::kRtcPorts, *rtc);
  ports.attach(platform::kPowerPorts, *power);
  if (com1) ports.attach(platform::kCom1Ports, *com1);
  if (com2) ports.attach(platform::kCom2Ports, *com2);
  mmio.attach(platform::kIoApicBase, platform::kIoApicSize, *io_apic);
}

firmware::AcpiMachine Machine::Parts::acpi_machine() const {
  firmware::AcpiMachine acpi;
  acpi.processor_count = options.processors;
  acpi.ram = layout.ram;
  acpi.low_mmio = kLowMmioWindow;
  acpi.high_mmio = layout.high_mmio;
  acpi.has_watchdog = true;
  if (!boot_image.is_firmware) acpi.generation_id_address = firmware::kDirectBootGenerationId;  // firmware says itself where it is
  acpi.has_com1 = com1 != nullptr;
  acpi.has_com2 = com2 != nullptr;
  acpi.com1_is_console = options.com1.kind == SerialOptions::Kind::kConsole;
  acpi.pcat_compatible = options.profile == GuestProfile::kLegacyWindows;
  return acpi;
}

}  // namespace bygone::machine::gen2
