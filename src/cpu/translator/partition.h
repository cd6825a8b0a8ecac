// The software engine's partition and processors. Threading: as cpu/partition.h and cpu/vcpu.h say.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "cpu/partition.h"
#include "cpu/translator/code_pages.h"
#include "cpu/translator/core.h"
#include "cpu/translator/dirty_pages.h"
#include "cpu/translator/engine.h"
#include "cpu/translator/lockstep.h"
#include "cpu/translator/physical_memory.h"
#include "cpu/translator/tier1.h"

namespace bygone::cpu::translator {

class SoftwareVcpu final : public Vcpu {
 public:
  SoftwareVcpu(VpIndex index, const Shared& shared, std::unique_ptr<VcpuBlock> block)
      : core_(index, shared, std::move(block)), time_stamps_(shared.time_stamps) {}

  [[nodiscard]] VpIndex index() const override { return core_.index(); }
  [[nodiscard]] Result<Exit*> run() override;
  void kick() override { core_.attract(kAttentionKick); }
  [[nodiscard]] Result<VcpuState> save_state() override;
  [[nodiscard]] Result<void> restore_state(const VcpuState& state) override;
  [[nodiscard]] Result<GeneralRegisters> general_registers() override;
  [[nodiscard]] Result<void> set_general_registers(const GeneralRegisters& registers) override;
  [[nodiscard]] Result<SystemRegisters> system_registers() override;
  [[nodiscard]] Result<void> set_system_registers(const SystemRegisters& registers) override;
  [[nodiscard]] Result<void> reset() override;
  [[nodiscard]] Result<void> inject_exception(std::uint8_t vector, std::optional<std::uint32_t> error_code) override;
  [[nodiscard]] Result<void> set_breakpoints(std::span<const std::uint64_t> addresses, bool single_step) override;
  [[nodiscard]] Result<std::optional<memory::Gpa>> translate(std::uint64_t linear) override;

  [[nodiscard]] Core& core() { return core_; }
  [[nodiscard]] const Core& core() const { return core_; }
  /// For inspect(): how often run() ended how, by Exit's index, and the time spent in it, halts among it.
  using ExitCounts = std::array<std::uint64_t, std::variant_size_v<Exit>>;
  [[nodiscard]] const ExitCounts& exits() const { return exits_; }
  [[nodiscard]] std::uint64_t cycles() const { return cycles_; }
  [[nodiscard]] bool runs_on_this_thread() const { return thread_.load() == std::this_thread::get_id(); }

 private:
  [[nodiscard]] Result<void> finish_exit();

  /// As save_state(), with a pending exit left pending.
  [[nodiscard]] Result<VcpuState> read_state();

  Core core_;
  TimeStampOffsets* time_stamps_;
  std::atomic<std::thread::id> thread_;
  std::optional<FaultInfo> injected_;
  bool is_exit_unseen_ = false;  ///< the core's exit came while its last one was completed, and the machine has not been told
  ExitCounts exits_ = {};
  std::uint64_t cycles_ = 0;
};

class SoftwarePartition final : public Partition, private LocalApicHost, private memory::GuestMemory::WriteObserver {
 public:
  /// `lockstep`: who compares the translator with the interpreter; may be null. Errors: kExhausted.
  [[nodiscard]] static Result<std::unique_ptr<SoftwarePartition>> create(PartitionOptions options, std::uint64_t tsc_frequency,
                                                                         Tiers tiers = Tiers::kBoth,
                                                                         std::unique_ptr<Lockstep> lockstep = nullptr);
  ~SoftwarePartition() override;

  [[nodiscard]] Vcpu& vcpu(VpIndex index) override { return *vcpus_.at(index.value); }
  void request_interrupt(const InterruptRequest& request) override;
  void request_synic_interrupt(VpIndex vp, std::uint8_t vector, bool auto_eoi) override;
  [[nodiscard]] bool supports_auto_eoi() const override { return true; }
  [[nodiscard]] std::uint64_t tsc_frequency() const override { return tsc_frequency_; }
  [[nodiscard]] std::uint64_t apic_timer_frequency() const override { return kLocalApicTimerFrequency; }
  [[nodiscard]] std::uint64_t guest_tsc() const override;
  [[nodiscard]] std::vector<std::byte> hypercall_code() const override;
  void flush_tlbs(std::span<const VpIndex> vps) override;
  [[nodiscard]] Result<void> start_dirty_log() override;
  void stop_dirty_log() override { dirty_pages_.stop(); }
  [[nodiscard]] Result<void> take_dirty_pages(memory::PageSet& pages) override;
  [[nodiscard]] std::string inspect() const override;

 private:
  SoftwarePartition(PartitionOptions options, std::uint64_t tsc_frequency, Tiers tiers, std::unique_ptr<Lockstep> lockstep);
  [[nodiscard]] Result<void> add_processors();

  // LocalApicHost
  void notify(VpIndex vp) override { attract(vp, kAttentionInterrupt); }
  void deliver_nmi(VpIndex vp) override { attract(vp, kAttentionNmi); }
  void deliver_init(VpIndex vp) override { attract(vp, kAttentionInit); }
  void deliver_start_up(VpIndex vp, std::uint8_t vector) override;
  [[nodiscard]] std::uint64_t guest_tsc(VpIndex vp) const override;
  [[nodiscard]] std::uint64_t guest_tsc_frequency() const override { return tsc_frequency_; }
  void level_eoi(std::uint8_t vector) override;
  // GuestMemory::WriteObserver
  void host_wrote(memory::Gpa address, std::uint64_t length) override;

  void drop_write_tags();
  void attract(VpIndex vp, std::uint32_t attention) {
    if (vp.value < vcpus_.size()) vcpus_[vp.value]->core().attract(attention);
  }

  PartitionOptions options_;
  std::uint64_t tsc_frequency_;
  PhysicalMemory physical_;
  CodePages code_pages_;
  DirtyPages dirty_pages_;
  TimeStampOffsets time_stamps_;
  std::unique_ptr<Lockstep> lockstep_;  ///< may be null
  std::unique_ptr<LocalApicSet> apics_;
  std::unique_ptr<Tier1Factory> translator_;
  std::vector<std::unique_ptr<SoftwareVcpu>> vcpus_;
};

}  // namespace bygone::cpu::translator
