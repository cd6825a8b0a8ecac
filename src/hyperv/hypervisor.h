// The hypervisor that the guest finds: its registers, its hypercalls, its interrupt controller, its time.
// Hypervisor Top-Level Functional Specification 6.0b. docs/hyperv.md tells which enlightenments there are.
//
//   CPUID leaf    add_cpuid_leaves(), before the partition is created
//   MSR exit      read_msr() / write_msr()
//   hypercall     handle_hypercall()
//   VMBus         synic()
//
// Threading: exits from each vCPU's own thread, several at once; pause, resume, reset, save and restore by one thread while
// no guest code runs; inspect() at any time. Callbacks are called on the vCPU's thread without a lock.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cpu/exit.h"
#include "cpu/local_apic.h"
#include "cpu/partition.h"
#include "hyperv/features.h"
#include "hyperv/hypercalls.h"
#include "hyperv/overlay_page.h"
#include "hyperv/reference_time.h"
#include "hyperv/synic.h"
#include "hyperv/synthetic_timers.h"
#include "support/clock.h"
#include "support/log.h"

namespace bygone::hyperv {

/// What a guest tells of its end (TLFS 8.5). `message` is its own text, when it gave one.
struct CrashReport {
  cpu::VpIndex vp;
  std::array<std::uint64_t, spec::tlfs::kCrashParameterCount> parameters = {};
  std::string message;
};

struct HypervisorOptions {
  memory::GuestMemory* memory = nullptr;  ///< outlives the hypervisor, as do the next two
  cpu::Partition* partition = nullptr;
  TimerService* timers = nullptr;
  std::uint32_t vp_count = 1;  ///< 1-64
  FeatureSet features;
  /// Whether guest_tsc() runs at tsc_frequency() on every processor alike.
  bool tsc_is_stable = true;
  Log log;
  std::function<void(const CrashReport&)> crashed;
  std::function<void()> reset;
  /// A processor's local APIC, for the EOI, ICR and TPR registers. Without it they are not offered, whatever `features` says.
  std::function<cpu::LocalApic*(cpu::VpIndex)> local_apic;
};

class Hypervisor {
 public:
  /// Errors: kInvalidArgument.
  [[nodiscard]] static Result<std::unique_ptr<Hypervisor>> create(HypervisorOptions options);

  /// Answer a register access when the register is the hypervisor's (0x40000000-0x400001FF); false: it is not.
  [[nodiscard]] bool read_msr(cpu::VpIndex vp, cpu::MsrExit& exit);
  [[nodiscard]] bool write_msr(cpu::VpIndex vp, cpu::MsrExit& exit);
  void handle_hypercall(cpu::VpIndex vp, cpu::HypercallExit& exit);

  /// The parts that the engine does.
  [[nodiscard]] cpu::FacilitySet facilities() const { return facilities_; }
  [[nodiscard]] SynicPort& synic() { return synic_; }
  /// Reference time now, in 100 ns.
  [[nodiscard]] std::uint64_t reference_time() const { return time_.now(); }

  /// Stop and go on with time; around every stop of the processors. The timer service is paused with it.
  void pause();
  void resume();
  /// As a reset of the machine does. Connected ports stay.
  void reset();
  [[nodiscard]] nlohmann::json save() const;
  /// Errors: kCorrupt, kUnsupported; nothing has changed then. Guest memory is restored before; call while paused.
  [[nodiscard]] Result<void> restore(const nlohmann::json& state);
  [[nodiscard]] nlohmann::json inspect() const;

 private:
  explicit Hypervisor(HypervisorOptions options);
  struct Vp {
    explicit Vp(memory::GuestMemory& memory) : assist_page(memory) {}
    std::uint64_t assist_register = 0;
    OverlayPage assist_page;
    std::unique_ptr<SyntheticTimers> timers;
  };
  [[nodiscard]] std::optional<std::uint64_t> read(cpu::VpIndex vp, std::uint32_t index);
  [[nodiscard]] bool write(cpu::VpIndex vp, std::uint32_t index, std::uint64_t value);
  [[nodiscard]] bool write_own(cpu::VpIndex vp, std::uint32_t index, std::uint64_t value);
  /// The engine itself when it does this part, else null.
  [[nodiscard]] static cpu::HypervisorFacilities* engine_for(cpu::Partition& partition, cpu::Facility facility);
  /// Whether the engine has to know what the guest wrote here.
  [[nodiscard]] bool is_repeated(spec::tlfs::Msr msr) const;
  void repeat(cpu::VpIndex vp, std::uint32_t index);
  void repeat_all();
  [[nodiscard]] std::optional<std::uint64_t> read_apic(cpu::VpIndex vp, spec::tlfs::Msr msr);
  [[nodiscard]] bool write_apic(cpu::VpIndex vp, spec::tlfs::Msr msr, std::uint64_t value);
  [[nodiscard]] bool write_hypercall_page(std::uint64_t value);
  [[nodiscard]] bool write_reference_tsc(std::uint64_t value);
  [[nodiscard]] bool write_assist_page(cpu::VpIndex vp, std::uint64_t value);
  void write_guest_os_id(std::uint64_t value);
  void fill_reference_tsc_page();
  void report_crash(cpu::VpIndex vp, std::uint64_t control);
  [[nodiscard]] bool has(Feature feature) const { return options_.features.has(feature); }

  HypervisorOptions options_;
  memory::GuestMemory& memory_;
  cpu::Partition& partition_;
  const cpu::FacilitySet facilities_;
  ReferenceTime time_;
  Synic synic_;
  Hypercalls hypercalls_;
  mutable std::mutex mutex_;  // everything below except the timers, which have their own
  std::uint64_t guest_os_id_ = 0;
  std::uint64_t hypercall_register_ = 0;
  std::atomic<bool> hypercalls_enabled_ = false;
  OverlayPage hypercall_page_;
  std::uint64_t reference_tsc_register_ = 0;
  OverlayPage reference_tsc_page_;
  std::uint32_t reference_tsc_sequence_ = 0;
  std::uint64_t tsc_invariant_control_ = 0;
  std::array<std::uint64_t, spec::tlfs::kCrashParameterCount> crash_parameters_ = {};
  std::uint64_t crashes_ = 0;
  RateLimit unknown_limit_;
  std::vector<std::unique_ptr<Vp>> vps_;
};

}  // namespace bygone::hyperv
