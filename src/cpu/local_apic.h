// The seam between an engine without a local APIC of its own (the software CPU) and the model of one, which lives in the
// chipset room. KVM keeps its APICs in the kernel and never sees this.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "cpu/interrupt.h"
#include "cpu/state.h"
#include "support/result.h"

namespace bygone::cpu {

/// The rate of every local APIC timer in Hz, before its divider: the same on all engines, because guests measure it once and
/// saved state holds counts.
inline constexpr std::uint64_t kLocalApicTimerFrequency = 1'000'000'000;

/// What a local APIC asks of its processor and its partition. Implemented by the engine.
/// Threading: any thread; never called with the APIC's own lock held.
class LocalApicHost {
 public:
  virtual ~LocalApicHost() = default;
  /// Something may have become deliverable on `vp`: leave guest code soon and ask again; wakes a halted processor.
  virtual void notify(VpIndex vp) = 0;
  virtual void deliver_nmi(VpIndex vp) = 0;
  virtual void deliver_init(VpIndex vp) = 0;
  virtual void deliver_start_up(VpIndex vp, std::uint8_t vector) = 0;
  /// The guest's time stamp counter on `vp` now, for the TSC deadline timer, and its rate in Hz.
  [[nodiscard]] virtual std::uint64_t guest_tsc(VpIndex vp) const = 0;
  [[nodiscard]] virtual std::uint64_t guest_tsc_frequency() const = 0;
  /// The guest wrote EOI for a level-triggered vector.
  virtual void level_eoi(std::uint8_t vector) = 0;
};

/// One processor's local APIC. Threading: any thread (its own lock); register accesses come from its vCPU's thread.
class LocalApic {
 public:
  virtual ~LocalApic() = default;

  /// Register accesses of x2APIC MSRs 0x800-0x8FF, IA32_APIC_BASE (0x1B) and IA32_TSC_DEADLINE (0x6E0); nullopt / false: #GP.
  [[nodiscard]] virtual std::optional<std::uint64_t> read_msr(std::uint32_t index) = 0;
  [[nodiscard]] virtual bool write_msr(std::uint32_t index, std::uint64_t value) = 0;
  /// xAPIC page accesses at `offset` (0-0xFFF) from the base in IA32_APIC_BASE.
  [[nodiscard]] virtual std::uint32_t read_register(std::uint32_t offset) = 0;
  virtual void write_register(std::uint32_t offset, std::uint32_t value) = 0;
  /// Whether the xAPIC page is decoded (enabled, not in x2APIC mode) and where.
  [[nodiscard]] virtual std::optional<std::uint64_t> mmio_base() const = 0;

  /// CR8, the task priority class.
  [[nodiscard]] virtual std::uint64_t read_cr8() = 0;
  virtual void write_cr8(std::uint64_t value) = 0;

  /// The vector that would be delivered now, above the processor priority. Cheap; polled when notify() was called.
  [[nodiscard]] virtual std::optional<std::uint8_t> pending() = 0;
  /// Takes that vector: from IRR into ISR (unless the source asked for auto-EOI). Call when interrupts are accepted.
  [[nodiscard]] virtual std::optional<std::uint8_t> acknowledge() = 0;

  /// An interrupt from a bus or another processor that is addressed to this one.
  virtual void accept(DeliveryMode delivery, std::uint8_t vector, TriggerMode trigger) = 0;
  /// A fixed interrupt whose in-service bit is not set (SynIC auto-EOI, TLFS 11.4).
  virtual void accept_auto_eoi(std::uint8_t vector) = 0;

  [[nodiscard]] virtual LocalApicState save() = 0;
  virtual void restore(const LocalApicState& state) = 0;
  /// INIT keeps the id and the base register; power-on reset does not.
  virtual void reset(bool is_init) = 0;
};

/// The APICs of a partition: creation and routing of messages by destination.
class LocalApicSet {
 public:
  virtual ~LocalApicSet() = default;
  [[nodiscard]] virtual LocalApic& at(VpIndex vp) = 0;
  /// Delivers to every processor that the destination names (lowest priority: to one of them).
  virtual void request(const InterruptRequest& request) = 0;
};

/// Creates `count` APICs for the processors 0…count-1 of `host`, which outlives them.
using LocalApicFactory = std::function<std::unique_ptr<LocalApicSet>(LocalApicHost& host, std::uint32_t count)>;

}  // namespace bygone::cpu
