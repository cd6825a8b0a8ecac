// The kernel's own Hyper-V emulation as an engine's facilities (Linux Documentation/virt/kvm/api.rst: KVM_CAP_HYPERV_*).
//
// The hypervisor in user space stays the owner of what the guest configured: the MSR filter sends those registers there, and
// set_register() repeats them to the kernel. The filter lets the guest reach the kernel only for what is asked often: the
// reference counter, the timers' counts, the processor's index, the APIC's registers.
//
// Threading: see cpu/facilities.h.
#pragma once

#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "cpu/facilities.h"
#include "cpu/kvm/device.h"
#include "support/event_loop.h"
#include "support/log.h"

namespace bygone::cpu::kvm {

class KvmPartition;

/// What this kernel can do.
[[nodiscard]] FacilitySet kernel_facilities(const Device& device);
/// Whether the host's processor serves guests' APICs (Intel's APICv, AMD's AVIC). True also where the kernel does not tell.
[[nodiscard]] bool processor_serves_apic();
/// Whether the guest reaches this register inside the kernel.
[[nodiscard]] bool is_answered_by_kernel(std::uint32_t msr, FacilitySet facilities);

class KvmFacilities final : public HypervisorFacilities {
 public:
  KvmFacilities(KvmPartition& partition, FacilitySet active);
  ~KvmFacilities() override;

  [[nodiscard]] FacilitySet active() const override { return active_; }
  [[nodiscard]] Result<void> set_register(VpIndex vp, std::uint32_t index, std::uint64_t value) override;
  [[nodiscard]] Result<std::uint64_t> get_register(VpIndex vp, std::uint32_t index) override;
  void raise(VpIndex vp, std::uint8_t source) override;
  void hold(VpIndex vp) override;
  void release(VpIndex vp) override;
  [[nodiscard]] std::uint64_t reference_time() const override;
  [[nodiscard]] Result<void> set_reference_time(std::uint64_t time) override;
  [[nodiscard]] Result<void> connect_event(std::uint32_t connection_id, std::function<void()> handler, EventLoop* loop) override;
  void disconnect_event(std::uint32_t connection_id) override;

 private:
  /// An eventfd that the kernel rings.
  struct Doorbell {
    UniqueFd descriptor;
    EventLoop* loop = nullptr;
    std::mutex mutex;  // held while the handler runs
    std::function<void()> handler;  // null: disconnected
  };
  [[nodiscard]] Result<void> start_thread();
  void silence(Doorbell& doorbell);

  KvmPartition& partition_;
  const FacilitySet active_;
  RateLimit complaints_;

  std::mutex mutex_;  // what follows
  std::unordered_map<std::uint32_t, std::shared_ptr<Doorbell>> doorbells_;
  std::unique_ptr<EventLoop> loop_;  // started with the first doorbell that brings none
  std::thread thread_;
};

}  // namespace bygone::cpu::kvm
