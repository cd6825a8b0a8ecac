// One KVM virtual machine: memory slots, split irqchip, MSR filter, processors.
// Threading: see cpu/partition.h.
#pragma once

#include <memory>
#include <vector>

#include "cpu/kvm/device.h"
#include "cpu/kvm/facilities.h"
#include "cpu/kvm/interrupt_routes.h"
#include "cpu/kvm/posted_writes.h"
#include "cpu/partition.h"
#include "cpu/time_stamps.h"

namespace bygone::cpu::kvm {

class KvmVcpu;

class KvmPartition final : public Partition {
 public:
  [[nodiscard]] static Result<std::unique_ptr<KvmPartition>> create(const Device& device, PartitionOptions options);
  ~KvmPartition() override;

  [[nodiscard]] Vcpu& vcpu(VpIndex index) override;
  void request_interrupt(const InterruptRequest& request) override;
  void request_synic_interrupt(VpIndex vp, std::uint8_t vector, bool auto_eoi) override;
  [[nodiscard]] bool supports_auto_eoi() const override { return false; }
  [[nodiscard]] std::uint64_t tsc_frequency() const override { return tsc_frequency_; }
  [[nodiscard]] std::uint64_t apic_timer_frequency() const override { return 1'000'000'000; }
  /// On kernels before 5.16 off by what the guest itself wrote to its TSC since the processor's state was last set.
  [[nodiscard]] std::uint64_t guest_tsc() const override;
  [[nodiscard]] std::vector<std::byte> hypercall_code() const override;
  void flush_tlbs(std::span<const VpIndex> vps) override;
  [[nodiscard]] Result<void> start_dirty_log() override { return map_memory(KVM_MEM_LOG_DIRTY_PAGES); }
  void stop_dirty_log() override;
  [[nodiscard]] Result<void> take_dirty_pages(memory::PageSet& pages) override;
  [[nodiscard]] HypervisorFacilities* facilities() override { return facilities_.get(); }
  [[nodiscard]] std::string inspect() const override;

  [[nodiscard]] int fd() const { return vm_.get(); }
  [[nodiscard]] const PartitionOptions& options() const { return options_; }
  [[nodiscard]] FacilitySet active_facilities() const { return facilities_ ? facilities_->active() : FacilitySet(); }
  [[nodiscard]] KvmVcpu& kvm_vcpu(VpIndex index) { return *vcpus_.at(index.value); }
  [[nodiscard]] InterruptRoutes& routes() { return routes_; }
  /// The level-triggered interrupts that the local APIC of `vp` had taken elsewhere: their ends are to be told too.
  [[nodiscard]] Result<void> watch_levels(VpIndex vp, const LocalApicState& apic);
  [[nodiscard]] PostedWrites& posted_writes() { return posted_writes_; }
  /// What a processor that is restored with this TSC adds to the host's. Processors are restored one after the other.
  [[nodiscard]] std::uint64_t tsc_offset_for(VpIndex vp, std::uint64_t value, std::uint64_t now) {
    return time_stamps_.offset_for(vp, value, now);
  }

 private:
  KvmPartition(UniqueFd vm, const Device& device, PartitionOptions options);
  [[nodiscard]] Result<void> set_up_interrupts();
  [[nodiscard]] Result<void> set_up_msr_filter();
  [[nodiscard]] Result<void> set_real_mode_pages();
  /// The slots as they are, with KVM's `flags`; later again to change the flags.
  [[nodiscard]] Result<void> map_memory(std::uint32_t flags);

  UniqueFd vm_;
  PartitionOptions options_;
  std::uint64_t tsc_frequency_ = 0;
  InterruptRoutes routes_;
  TimeStampOffsets time_stamps_;
  std::vector<std::unique_ptr<KvmVcpu>> vcpus_;
  PostedWrites posted_writes_;  ///< in the processors' memory
  std::unique_ptr<KvmFacilities> facilities_;
};

}  // namespace bygone::cpu::kvm
