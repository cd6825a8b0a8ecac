// A processor's local APIC, in software, for engines that have none: xAPIC and x2APIC modes, the timer in its three modes,
// inter-processor interrupts, error status, and SynIC's interrupts that are never in service.
// Intel SDM volume 3 (December 2023), chapter 11.
//
// Threading: as cpu/local_apic.h says. One lock an APIC; no two are held together, and none while the host is called.
// pending() is a single atomic load: every change that may alter it stores the new answer before the lock is given back.
//
// Saved registers: the page as KVM lays it out. The reserved words 0x290-0x2E0, 0x3A0 and 0x3B0 hold the set of requested
// vectors that will not be put in service. The base register and the TSC deadline are MSRs of their own: restore the base
// first, then the registers, then the deadline.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "chipset/local_apic/vector_set.h"
#include "cpu/local_apic.h"
#include "spec/x86/local_apic.h"
#include "support/clock.h"

namespace bygone::chipset {

class LocalApicModelSet;

class LocalApicModel final : public cpu::LocalApic {
 public:
  LocalApicModel(LocalApicModelSet& set, cpu::LocalApicHost& host, TimerService& timers, cpu::VpIndex vp);

  [[nodiscard]] std::optional<std::uint64_t> read_msr(std::uint32_t index) override;
  [[nodiscard]] bool write_msr(std::uint32_t index, std::uint64_t value) override;
  [[nodiscard]] std::uint32_t read_register(std::uint32_t offset) override;
  void write_register(std::uint32_t offset, std::uint32_t value) override;
  [[nodiscard]] std::optional<std::uint64_t> mmio_base() const override;
  [[nodiscard]] std::uint64_t read_cr8() override;
  void write_cr8(std::uint64_t value) override;
  [[nodiscard]] std::optional<std::uint8_t> pending() override;
  [[nodiscard]] std::optional<std::uint8_t> acknowledge() override;
  void accept(cpu::DeliveryMode delivery, std::uint8_t vector, cpu::TriggerMode trigger) override;
  void accept_auto_eoi(std::uint8_t vector) override;
  [[nodiscard]] cpu::LocalApicState save() override;
  void restore(const cpu::LocalApicState& state) override;
  void reset(bool is_init) override;

  /// A rising edge on LINT0 or LINT1 (`pin` 0 or 1), delivered as the local vector table says.
  void raise_local_pin(unsigned pin);

  // For the set.
  [[nodiscard]] bool is_addressed_by(cpu::DestinationMode mode, std::uint32_t destination) const;
  [[nodiscard]] std::uint8_t processor_priority() const;
  [[nodiscard]] bool is_accepting() const;

 private:
  /// What a register access asks of others, done after the lock is given back.
  struct Effects {
    bool notify = false;
    std::optional<std::uint8_t> level_eoi;
    std::optional<cpu::DeliveryMode> local_delivery;  // NMI or INIT from the local vector table
    std::optional<std::uint64_t> command;             // the ICR to carry out
    bool fault = false;                               // the access is a #GP in x2APIC mode
  };
  void carry_out(const Effects& effects);
  void send(std::uint64_t command);

  // All of these with mutex_ held.
  [[nodiscard]] std::uint32_t& at(spec::x86::ApicRegister which) { return registers_[static_cast<std::size_t>(which) / 16]; }
  [[nodiscard]] std::uint32_t at(spec::x86::ApicRegister which) const { return registers_[static_cast<std::size_t>(which) / 16]; }
  [[nodiscard]] bool is_x2apic() const { return (base_ & spec::x86::kApicBaseX2Apic) != 0; }
  [[nodiscard]] bool is_software_enabled() const;
  [[nodiscard]] std::optional<std::uint32_t> load(std::uint32_t offset);
  void store(std::uint32_t offset, std::uint32_t value, Effects& effects);
  void store_local_vector(std::uint32_t offset, std::uint32_t value, Effects& effects);
  void store_error_status();
  void end_of_interrupt(Effects& effects);
  void request(std::uint8_t vector, cpu::TriggerMode trigger, bool auto_eoi, Effects& effects);
  void raise_local(spec::x86::ApicRegister entry, Effects& effects);
  void raise_error(std::uint32_t bits, Effects& effects);
  [[nodiscard]] bool write_base(std::uint64_t value);
  void reset_registers();
  void refresh(Effects& effects);
  [[nodiscard]] std::uint8_t current_priority() const;

  // The timer, with mutex_ held.
  [[nodiscard]] spec::x86::ApicTimerMode timer_mode() const;
  [[nodiscard]] MachineTime count_to_time(std::uint64_t count) const;
  [[nodiscard]] std::uint32_t remaining_count() const;
  void start_timer(std::uint32_t count);
  void stop_timer();
  void arm_deadline(Effects& effects);
  void expire_count(Effects& effects);
  void on_timer();

  LocalApicModelSet& set_;
  cpu::LocalApicHost& host_;
  const Clock& clock_;
  const cpu::VpIndex vp_;

  mutable std::mutex mutex_;
  std::uint64_t base_ = 0;
  std::array<std::uint32_t, 64> registers_ = {};  // plain ones; the sets below are kept apart
  VectorSet requested_, in_service_, level_, auto_eoi_;
  std::uint32_t pending_errors_ = 0;
  std::uint64_t deadline_ = 0;      // TSC; 0: not armed
  MachineTime timer_end_{};         // when the count reaches 0
  bool is_counting_ = false;
  std::atomic<std::int16_t> deliverable_ = -1;
  std::unique_ptr<Timer> timer_;  // last: its destructor waits for on_timer()
};

/// The APICs of a partition. Threading: any thread.
class LocalApicModelSet final : public cpu::LocalApicSet {
 public:
  LocalApicModelSet(cpu::LocalApicHost& host, TimerService& timers, std::uint32_t count);
  [[nodiscard]] LocalApicModel& at(cpu::VpIndex vp) override { return *apics_[vp.value]; }
  void request(const cpu::InterruptRequest& request) override;

 private:
  friend class LocalApicModel;
  void deliver(const cpu::InterruptRequest& request, const LocalApicModel* except);
  void deliver_lowest(const cpu::InterruptRequest& request);

  std::vector<std::unique_ptr<LocalApicModel>> apics_;
  std::atomic<std::uint32_t> next_lowest_ = 0;
};

/// Binds the machine's time to the seam's factory; `timers` outlives every set.
[[nodiscard]] cpu::LocalApicFactory local_apic_factory(TimerService& timers);

}  // namespace bygone::chipset
