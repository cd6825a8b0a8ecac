// A Generation 2 machine: its memory, processors, hypervisor, chipset and bus, put together from MachineOptions and run.
//
//   create() → start() → … pause()/resume()/reset() … → power_off() or the guest does → wait()
//   save(path) → a later create() with MachineOptions::saved_state = path → start() goes on where it stopped
//
// The vCPU threads belong to the Runner, slow devices to the event loop's thread, timers to the timer service's. A guest's wish that
// stops processors (reset, power off, a crash) is carried out on the control thread, so that nobody waits for itself.
//
// Threading: the public calls from any thread but the machine's own; they serialise.
#pragma once

#include <array>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cpu/partition.h"
#include "devices/integration/key_value.h"
#include "devices/keyboard/keyboard.h"
#include "devices/mouse/mouse.h"
#include "devices/storage/storage_controller.h"
#include "devices/video/video.h"
#include "disk/block_device.h"
#include "firmware/entry_state.h"
#include "machine/gen2/cpu_model.h"
#include "machine/gen2/memory_map.h"
#include "machine/gen2/network_part.h"
#include "machine/saved_state/memory_image.h"
#include "support/log.h"
#include "support/result.h"

namespace bygone::machine::gen2 {

/// Boots a Linux kernel without firmware.
struct DirectBoot {
  std::filesystem::path kernel;
  std::filesystem::path initrd;  ///< empty: none
  std::string command_line;
};

/// Boots through UEFI firmware.
struct FirmwareBoot {
  std::filesystem::path image;
  std::filesystem::path variables;  ///< where UEFI variables are kept; empty: they end with the process
  std::vector<std::uint8_t> boot_order = {};  ///< indexes into MachineOptions::disks, tried first and in this order; empty: as it was
};

/// Where a COM port's bytes go.
struct SerialOptions {
  enum class Kind { kNone, kNull, kConsole, kFile, kPty, kSocket };
  Kind kind = Kind::kNone;
  std::string path;             ///< kFile, kSocket
  int input = -1, output = -1;  ///< kConsole: descriptors that outlive the machine; input -1: none
};

/// Which Windows-or-Linux facts the machine shows its guest.
enum class GuestProfile { kLinux, kWindows, kLegacyWindows };
/// "linux", "windows", "legacy-windows".
[[nodiscard]] std::string_view to_string(GuestProfile profile);

struct DiskOptions {
  std::unique_ptr<disk::BlockDevice> device;
  bool is_dvd = false;
  std::string name = {};  ///< a DVD's: what a saved state calls it
};

/// Unix sockets by which the host's and the guest's programs connect to each other (docs/sockets.md).
struct GuestSockets {
  std::filesystem::path directory;          ///< empty: none
  std::vector<std::uint32_t> ports;         ///< of the guest's, that get a socket of their own
};

/// Which integration services the guest finds. Without the shutdown service the power button is pressed to ask it to shut down.
struct IntegrationOptions {
  bool has_shutdown = true, has_heartbeat = true, has_time = true, has_key_values = true;
};

struct MachineOptions {
  cpu::Engine* engine = nullptr;
  std::uint32_t processors = 1;
  CpuModel cpu_model = CpuModel::kHost;
  std::uint64_t memory_bytes = 1ULL << 30;
  bool use_huge_pages = false;  ///< if the host has any; a warning where not
  std::uint16_t vram_megabytes = devices::video::kUsualVramMegabytes;  ///< at most kMaximumVramMegabytes
  GuestProfile profile = GuestProfile::kLinux;
  /// Other enlightenments than the profile's, as hyperv::FeatureSet::parse() reads them: "-tlb-flush,+tsc-invariant", "none,+reset".
  std::string enlightenments;
  /// A guest that has reported a crash and then resets itself has ended: there is no second run.
  bool ends_after_crash = false;
  std::variant<DirectBoot, FirmwareBoot> boot;
  SerialOptions com1, com2;
  std::vector<DiskOptions> disks;
  GuestSockets sockets;
  IntegrationOptions integration;
  std::vector<NetworkOptions> networks;  ///< one adapter each, at most kMaximumNetworks
  /// What the guest may know of its host and itself through key-value exchange: HostName, VirtualMachineName, VirtualMachineId…
  devices::integration::KeyValues host_facts;
  std::uint64_t code_cache_bytes = 128ULL << 20;  ///< bound of translated code, for engines that translate
  std::filesystem::path saved_state;            ///< resume from this; empty: start afresh. The file is only read
  saved_state::Progress restore_progress = {};  ///< called on create()'s thread; false gives up
  std::string debugger;                         ///< where a debugger connects: "[ADDRESS:]PORT" or a socket's path; empty: nowhere
  bool waits_for_debugger = false;              ///< no instruction runs until the debugger says so
  bool accepts_changed_disks = false;           ///< resume although a disk has been written since: for rescue only
  /// What the engine shall do for the hypervisor, if it can; the rest is done here.
  cpu::FacilitySet facilities = cpu::FacilitySet::all();
  Log log;
};

/// The manifest of a saved state, as docs/saved-state.md describes it: for lists and for filling in MachineOptions.
/// Errors: the file's, kCorrupt, kUnsupported.
[[nodiscard]] Result<nlohmann::json> read_saved_manifest(const std::filesystem::path& path);

/// How a machine came to its end.
struct MachineEnd {
  enum class Reason { kPoweredOff, kCrashed, kEngineFailed, kStopped };
  Reason reason = Reason::kPoweredOff;
  std::string detail;  ///< a crash's record, an engine's error
};

/// What the guest has done so far with what takes time: for lights.
struct Activity {
  std::uint64_t disk_commands = 0;
  std::uint64_t network_frames = 0;  ///< of all adapters, both ways
};

/// What a person's hands and eyes reach. Their calls belong on their loop.
struct HumanDevices {
  devices::keyboard::Keyboard& keyboard;
  devices::mouse::Mouse& mouse;
  devices::video::Video& video;
};

class Machine {
 public:
  /// Errors: what stands in the way, with what to do about it.
  [[nodiscard]] static Result<std::unique_ptr<Machine>> create(MachineOptions options);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  [[nodiscard]] Result<void> start();
  void pause();
  void resume();
  [[nodiscard]] Result<void> reset();
  /// Writes the whole machine to `path`, replacing what is there only when all has been written. Afterwards the machine is paused:
  /// power_off() it, or resume() it. On an error it is as it was before, running if it ran. `progress` is called on this thread.
  /// Errors: the host's, kBusy (a device does not settle), kCancelled.
  [[nodiscard]] Result<void> save(const std::filesystem::path& path, const saved_state::Progress& progress = {});
  /// Pulls the plug.
  void power_off();
  /// Asks the guest to shut down: through the shutdown service, or else with the power button.
  void request_shutdown();

  /// Waits until the machine has ended.
  [[nodiscard]] MachineEnd wait();
  /// The same with a limit; nullopt: still running.
  [[nodiscard]] std::optional<MachineEnd> wait_for(std::chrono::milliseconds limit);

  /// Runs `work` on the loop of screen, keyboard and mouse, soon; before start(): once the machine has started.
  void with_human_devices(std::move_only_function<void(HumanDevices)> work);
  /// Disks and DVD drives; its LUNs are the disks of MachineOptions, in their order.
  [[nodiscard]] devices::storage::StorageController& storage();
  /// What the screen shows now. Errors: kNotFound before the guest has set a mode.
  [[nodiscard]] Result<devices::video::Picture> picture() const;
  [[nodiscard]] Activity activity() const;
  /// The pseudo-terminals that COM1 and COM2 are; empty where they are something else.
  [[nodiscard]] const std::array<std::string, 2>& terminals() const;
  /// What the guest said when it crashed, the last time; empty: it has not.
  [[nodiscard]] std::string crash_record() const;
  /// The live state of every part.
  [[nodiscard]] nlohmann::json inspect();
  /// What guest and host tell each other in names and values. Any thread.
  [[nodiscard]] devices::integration::KeyValueService& key_values();
  [[nodiscard]] memory::GuestMemory& guest_memory();
  [[nodiscard]] cpu::Partition& partition();

 private:
  struct Parts;
  struct SavedMachine;
  struct SavedMachineDeleter {
    void operator()(SavedMachine* machine) const;
  };
  explicit Machine(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace bygone::machine::gen2
