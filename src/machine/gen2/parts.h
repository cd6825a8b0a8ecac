// The parts of a Generation 2 machine and how they hang together. Only the machine's own files include this.
//
// Order of members is order of construction: what is declared later may refer to what is declared earlier.
// Locks: control_mutex (lifecycle) is taken before everything else, never from a vCPU's thread; end_mutex is a leaf.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "chipset/char_backend.h"
#include "chipset/generation_counter.h"
#include "chipset/io_apic.h"
#include "chipset/power_management.h"
#include "chipset/rtc.h"
#include "chipset/serial.h"
#include "chipset/watchdog.h"
#include "devices/integration/key_value.h"
#include "devices/integration/services.h"
#include "devices/keyboard/keyboard.h"
#include "devices/mouse/mouse.h"
#include "devices/sockets/sockets.h"
#include "devices/storage/storage_controller.h"
#include "devices/video/video.h"
#include "firmware/uefi/helper_ports.h"
#include "hyperv/hypervisor.h"
#include "machine/gdb/server.h"
#include "machine/gen2/boot.h"
#include "machine/gen2/bus.h"
#include "machine/gen2/machine.h"
#include "machine/gen2/runner.h"
#include "support/event_loop.h"
#include "support/timer_service.h"
#include "vmbus/server.h"

namespace bygone::machine::gen2 {

/// Makes firmware's helper ports a device on the bus.
class HelperPortDevice final : public chipset::PortDevice, public chipset::Savable {
 public:
  explicit HelperPortDevice(firmware::HelperPorts& ports) : ports_(ports) {}
  [[nodiscard]] std::uint32_t read_port(std::uint16_t port, std::uint8_t size) override { return ports_.read(port, size); }
  void write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value) override { ports_.write(port, size, value); }
  [[nodiscard]] nlohmann::json save() const override { return ports_.save(); }
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override { return ports_.restore(state); }
  void reset() override { ports_.reset(); }
  [[nodiscard]] nlohmann::json inspect() const override { return ports_.inspect(); }

 private:
  firmware::HelperPorts& ports_;
};

struct Machine::Parts {
  [[nodiscard]] static Result<std::unique_ptr<Parts>> create(MachineOptions options);
  explicit Parts(MachineOptions given) : options(std::move(given)), log(options.log), ports(log.part("ports")), mmio(log.part("mmio")) {}
  ~Parts();
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  // Construction, in this order.
  [[nodiscard]] Result<void> create_memory();
  /// Enlightenments that the engine, with the facilities asked of it, stands in the way of.
  [[nodiscard]] hyperv::FeatureSet impossible_features() const;
  [[nodiscard]] Result<void> choose_enlightenments();
  [[nodiscard]] Result<void> check_enlightenments() const;
  [[nodiscard]] Result<void> create_processors();
  /// What the engine does for the hypervisor in this machine.
  [[nodiscard]] cpu::FacilitySet facilities() const;
  /// By a hypercall that somebody, the hypervisor or the engine, carries out.
  [[nodiscard]] bool can_flush_tlbs() const;
  [[nodiscard]] Result<void> create_chipset();
  [[nodiscard]] Result<void> create_serial(const SerialOptions& serial, std::uint16_t base, unsigned pin,
                                           std::unique_ptr<chipset::CharBackend>& backend, std::unique_ptr<chipset::SerialPort>& port);
  [[nodiscard]] Result<void> create_firmware();
  [[nodiscard]] Result<void> set_boot_order(const FirmwareBoot& boot);
  [[nodiscard]] Result<void> create_hypervisor();
  [[nodiscard]] Result<void> create_bus_devices();
  [[nodiscard]] Result<void> create_sockets();
  [[nodiscard]] Result<void> create_networks();
  void attach_devices();

  // Saved state (saving.cpp).
  struct SavedPart {
    std::string_view name;
    chipset::Savable* part;
  };
  /// Everything of the chipset's that is saved, restored, reset and inspected.
  [[nodiscard]] std::vector<SavedPart> saved_parts();
  /// All threads that move the machine besides its processors and timers.
  [[nodiscard]] std::vector<EventLoop*> loops() const;
  [[nodiscard]] nlohmann::json manifest() const;
  [[nodiscard]] Result<nlohmann::json> save_parts();
  [[nodiscard]] Result<nlohmann::json> save_processors();
  /// The processors are paused and time stands.
  [[nodiscard]] Result<void> save(const std::filesystem::path& path, const saved_state::Progress& progress);
  [[nodiscard]] Result<void> open_saved_state();
  [[nodiscard]] Result<void> adopt_saved_processors(cpu::CpuidTable& table);
  [[nodiscard]] Result<void> check_disks() const;
  /// What is known of the disk or medium at a LUN. On the storage loop, or while that is held.
  [[nodiscard]] nlohmann::json disk_facts(std::size_t lun) const;
  /// The same of when the machine was saved; an empty object when it had no such disk.
  [[nodiscard]] nlohmann::json saved_disk(std::size_t lun) const;
  [[nodiscard]] Result<void> restore();

  // A debugger's view (debugging.cpp).
  class DebugTarget;
  [[nodiscard]] Result<void> create_debugger();

  // Running.
  void start_loops();
  [[nodiscard]] Result<void> load_boot_state();
  [[nodiscard]] bool handle_exit(cpu::VpIndex vp, cpu::Exit& exit);
  void report_crash(const hyperv::CrashReport& report);
  void stop_time();
  void start_time();
  void answer_msr(cpu::VpIndex vp, cpu::MsrExit& exit);
  [[nodiscard]] Result<void> reset();
  /// From any thread, vCPUs' included: the control thread does the work.
  void request_reset();
  void serve_control();
  void end(MachineEnd how);
  [[nodiscard]] bool has_ended();
  [[nodiscard]] nlohmann::json inspect();
  [[nodiscard]] firmware::AcpiMachine acpi_machine() const;

  MachineOptions options;
  Log log;
  MemoryLayout layout;
  memory::GuestMemory memory;
  std::unique_ptr<EventLoop> loop;
  ThreadTimerService timers;
  PortBus ports;
  MmioBus mmio;
  BootImage boot_image;
  Guid system_id = Guid::random();
  std::unique_ptr<SavedMachine, SavedMachineDeleter> saved;  // while the machine is being restored
  bool is_restored = false;

  cpu::CpuidTable cpuid;

  std::unique_ptr<cpu::Partition> partition;
  hyperv::FeatureSet features;
  cpu::LocalApicSet* local_apics = nullptr;  // the partition's; null: the engine has its own
  std::unique_ptr<hyperv::Hypervisor> hypervisor;
  std::unique_ptr<chipset::IoApic> io_apic;
  std::unique_ptr<chipset::PowerManagement> power;
  std::unique_ptr<chipset::Rtc> rtc;
  std::unique_ptr<chipset::Watchdog> watchdog;
  std::array<std::string, 2> terminals;  // of COM1 and COM2, when they are pseudo-terminals
  std::unique_ptr<chipset::CharBackend> com1_backend, com2_backend;
  std::unique_ptr<chipset::SerialPort> com1, com2;
  std::unique_ptr<chipset::GenerationCounter> generation;
  firmware::VariableStore variables;
  std::unique_ptr<firmware::HelperPorts> helper_ports;
  std::unique_ptr<HelperPortDevice> helper_device;

  std::unique_ptr<devices::video::Video> video;
  std::unique_ptr<devices::keyboard::Keyboard> keyboard;
  std::unique_ptr<devices::mouse::Mouse> mouse;
  std::unique_ptr<devices::integration::ShutdownService> shutdown;
  std::unique_ptr<devices::integration::HeartbeatService> heartbeat;
  std::unique_ptr<devices::integration::TimeSyncService> time_sync;
  std::unique_ptr<devices::integration::KeyValueService> key_values;
  std::vector<std::shared_ptr<disk::BlockDevice>> disks;  // in the order of their LUNs; null for DVD drives, which hold their media
  std::unique_ptr<EventLoop> storage_loop;
  std::unique_ptr<devices::storage::StorageController> storage;
  std::unique_ptr<EventLoop> sockets_loop;
  std::vector<std::unique_ptr<NetworkPart>> networks;
  std::unique_ptr<vmbus::Server> bus;
  std::unique_ptr<devices::sockets::Sockets> sockets;  // none unless asked for

  std::unique_ptr<Runner> runner;
  std::unique_ptr<gdb::Target> debug_target;
  std::unique_ptr<gdb::Server> debugger;  // none unless asked for
  std::thread sockets_thread;  // the sockets' loop
  std::thread storage_thread;  // the storage controller's loop
  std::thread loop_thread;     // slow devices' work and the bus's control plane
  std::thread control_thread;  // what stops processors, so that neither they nor the loops wait for themselves
  std::mutex control_mutex;
  std::mutex end_mutex;
  std::condition_variable ended, control_changed;
  bool reset_requested = false;           // guarded by end_mutex
  std::optional<MachineEnd> machine_end;  // guarded by end_mutex
  std::string crash_record;               // guarded by end_mutex
};

}  // namespace bygone::machine::gen2
