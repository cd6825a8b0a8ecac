#include "cpu/kvm/facilities.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <utility>

#include "cpu/kvm/kernel_call.h"
#include "cpu/kvm/msr_access.h"
#include "cpu/kvm/partition.h"
#include "cpu/kvm/vcpu.h"

namespace bygone::cpu::kvm {
namespace {

// TLFS appendix F; this room knows the hypervisor's registers only by number.
constexpr std::uint32_t kMsrVpIndex = 0x40000002;
constexpr std::uint32_t kMsrReferenceTime = 0x40000020;
constexpr std::uint32_t kMsrEoi = 0x40000070, kMsrTpr = 0x40000072;  // the command register between them
constexpr std::uint32_t kMsrTimer0 = 0x400000B0, kMsrTimersEnd = 0x400000B8;  // configuration and count alternate

// TLFS 2.4.4 and 2.4.5.
constexpr std::uint32_t kLeafFeatures = 0x40000003, kLeafRecommendations = 0x40000004;
constexpr std::uint32_t kXmmInput = 1U << 4, kDirectTimers = 1U << 19;                       // features, EDX
constexpr std::uint32_t kTlbFlush = 1U << 2, kClusterIpi = 1U << 10, kExtendedMasks = 1U << 11;  // recommendations, EAX

constexpr bool has_all(std::uint32_t value, std::uint32_t bits) { return (value & bits) == bits; }

}  // namespace

FacilitySet kernel_facilities(const Device& device) {
  FacilitySet set;
  if (device.extension(KVM_CAP_HYPERV) <= 0) return set;
  const CpuidTable leaves = device.hypervisor_cpuid();
  const CpuidResult features = leaves.query(kLeafFeatures, 0), recommendations = leaves.query(kLeafRecommendations, 0);
  if (device.extension(KVM_CAP_HYPERV_SYNIC2) > 0) set.add(Facility::kSynic);
  if (device.extension(KVM_CAP_HYPERV_TIME) > 0 && device.extension(KVM_CAP_ADJUST_CLOCK) > 0) set.add(Facility::kReferenceTime);
  if (device.extension(KVM_CAP_HYPERV_VP_INDEX) > 0) set.add(Facility::kVpIndex);
  // The guest is told of both kinds of timers and of all these hypercalls: a kernel that has only some serves none.
  if (has_all(features.edx, kDirectTimers)) set.add(Facility::kTimers);
  if (device.extension(KVM_CAP_HYPERV_TLBFLUSH) > 0 && device.extension(KVM_CAP_HYPERV_SEND_IPI) > 0 &&
      has_all(features.edx, kXmmInput) && has_all(recommendations.eax, kTlbFlush | kClusterIpi | kExtendedMasks)) {
    set.add(Facility::kHypercalls);
  }
  if (device.extension(KVM_CAP_HYPERV_VAPIC) > 0) set.add(Facility::kApicRegisters);
  if (device.extension(KVM_CAP_HYPERV_EVENTFD) > 0) set.add(Facility::kEventSignals);
  return set.consistent();
}

bool processor_serves_apic() {
  for (const char* path : {"/sys/module/kvm_amd/parameters/avic", "/sys/module/kvm_intel/parameters/enable_apicv"}) {
    std::ifstream parameter(path);
    if (char first = 0; parameter.get(first)) return first != 'N' && first != '0';
  }
  return true;
}

bool is_answered_by_kernel(std::uint32_t msr, FacilitySet facilities) {
  if (msr == kMsrVpIndex) return facilities.has(Facility::kVpIndex);
  if (msr == kMsrReferenceTime) return facilities.has(Facility::kReferenceTime);
  if (msr >= kMsrEoi && msr <= kMsrTpr) return facilities.has(Facility::kApicRegisters);
  if (msr >= kMsrTimer0 && msr < kMsrTimersEnd) return facilities.has(Facility::kTimers) && (msr - kMsrTimer0) % 2 == 1;
  return false;
}

KvmFacilities::KvmFacilities(KvmPartition& partition, FacilitySet active) : partition_(partition), active_(active) {}

KvmFacilities::~KvmFacilities() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
}

Result<void> KvmFacilities::set_register(VpIndex vp, std::uint32_t index, std::uint64_t value) {
  const Exclusion standing(this, vp);  // the kernel would wait for the processor, which may halt for ever
  if (write_one_msr(partition_.kvm_vcpu(vp).fd(), {index, value})) return {};
  return fail(ErrorCode::kUnsupported, "KVM refuses the value {:#x} for the hypervisor's register {:#x}", value, index);
}

Result<std::uint64_t> KvmFacilities::get_register(VpIndex vp, std::uint32_t index) {
  const Exclusion standing(this, vp);
  if (const auto value = read_one_msr(partition_.kvm_vcpu(vp).fd(), index)) return *value;
  return fail(ErrorCode::kUnsupported, "KVM does not give the hypervisor's register {:#x}", index);
}

void KvmFacilities::raise(VpIndex vp, std::uint8_t source) {
  if (auto raised = partition_.routes().raise(vp, source); !raised && complaints_.allow()) {
    partition_.options().log.error("synthetic interrupt {} of processor {}: {}", source, vp.value, raised.error().text());
  }
}

void KvmFacilities::hold(VpIndex vp) { partition_.kvm_vcpu(vp).hold(); }
void KvmFacilities::release(VpIndex vp) { partition_.kvm_vcpu(vp).release(); }

std::uint64_t KvmFacilities::reference_time() const {
  kvm_clock_data clock = {};
  // Never refused for a VM's own descriptor and a valid address.
  (void)kernel_call(partition_.fd(), KVM_GET_CLOCK, "KVM_GET_CLOCK", &clock);
  return clock.clock / 100;
}

Result<void> KvmFacilities::set_reference_time(std::uint64_t time) {
  kvm_clock_data clock = {};
  clock.clock = time * 100;
  BYGONE_CHECK(kernel_call(partition_.fd(), KVM_SET_CLOCK, "KVM_SET_CLOCK", &clock));
  return {};
}

// ---- doorbells ----

Result<void> KvmFacilities::start_thread() {
  if (loop_) return {};
  BYGONE_ASSIGN(loop_, EventLoop::create());
  thread_ = std::thread([loop = loop_.get()] {
    ::pthread_setname_np(::pthread_self(), "doorbells");
    loop->run();
  });
  return {};
}

Result<void> KvmFacilities::connect_event(std::uint32_t connection_id, std::function<void()> handler, EventLoop* loop) {
  const std::lock_guard lock(mutex_);
  if (loop == nullptr) {
    BYGONE_CHECK(start_thread());
    loop = loop_.get();
  }
  auto doorbell = std::make_shared<Doorbell>();
  doorbell->descriptor.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!doorbell->descriptor) return fail_errno(errno, "creating an eventfd");
  doorbell->loop = loop;
  doorbell->handler = std::move(handler);
  // Edge-triggered: each ring is told once, and the count need not be taken back, which would be a system call.
  BYGONE_CHECK(loop->watch(doorbell->descriptor.get(), EPOLLIN | EPOLLET, [doorbell](std::uint32_t) {
    const std::lock_guard running(doorbell->mutex);
    if (doorbell->handler) doorbell->handler();
  }));
  kvm_hyperv_eventfd request = {};
  request.conn_id = connection_id;
  request.fd = doorbell->descriptor.get();
  if (auto assigned = kernel_call(partition_.fd(), KVM_HYPERV_EVENTFD, "KVM_HYPERV_EVENTFD", &request); !assigned) {
    silence(*doorbell);
    return std::unexpected(std::move(assigned).error());
  }
  doorbells_[connection_id] = std::move(doorbell);
  return {};
}

/// Its loop need not run any more.
void KvmFacilities::silence(Doorbell& doorbell) {
  doorbell.loop->unwatch(doorbell.descriptor.get());
  const std::lock_guard running(doorbell.mutex);
  doorbell.handler = nullptr;
}

void KvmFacilities::disconnect_event(std::uint32_t connection_id) {
  const std::lock_guard lock(mutex_);
  const auto found = doorbells_.find(connection_id);
  if (found == doorbells_.end()) return;
  kvm_hyperv_eventfd request = {};
  request.conn_id = connection_id;
  request.fd = -1;
  request.flags = KVM_HYPERV_EVENTFD_DEASSIGN;
  (void)kernel_call(partition_.fd(), KVM_HYPERV_EVENTFD, "KVM_HYPERV_EVENTFD", &request);
  silence(*found->second);
  doorbells_.erase(found);
}

}  // namespace bygone::cpu::kvm
