// How many port exits a second the KVM engine makes, beside a minimal program of bare ioctls in the same run, which is the most
// that KVM can do: the same loop in the same processor mode. The minimal program comes in two kinds, with the local APIC in the
// kernel as every machine has it, and without any, which no machine could live with but spares KVM work at every exit. Prints
// rates and ratios; needs a real KVM (`tests/nested` has one everywhere).
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <vector>

#include "cpu/entry_state.h"
#include "cpu/kvm/abi.h"
#include "cpu/kvm/engine.h"
#include "cpu/kvm/kernel_call.h"
#include "support/unique_fd.h"

namespace {

using namespace bygone;
using namespace bygone::cpu;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kCode = 0x1000;
constexpr std::uint64_t kMemory = 2 << 20;
constexpr std::array<std::uint8_t, 4> kLoop{0xE6, 0x80, 0xEB, 0xFC};  // out 0x80, al; jmp to it
// Many short slices in turn, the best of each: what else a busy host does holds up some, not all.
constexpr std::size_t kExits = 25;
constexpr int kRounds = 200;

double rate_of(const std::function<bool()>& one_exit) {
  const auto start = Clock::now();
  for (std::size_t i = 0; i < kExits; ++i) {
    if (!one_exit()) return 0;
  }
  return static_cast<double>(kExits) / std::chrono::duration<double>(Clock::now() - start).count();
}

/// The engine as the machine uses it.
class WithEngine {
 public:
  Result<void> create() {
    BYGONE_CHECK(memory_.add_ram({0}, kMemory));
    BYGONE_CHECK(memory_.write({kCode}, std::as_bytes(std::span(kLoop))));
    PartitionOptions options;
    options.memory = &memory_;
    BYGONE_ASSIGN(options.cpuid, engine_->supported_cpuid());
    BYGONE_ASSIGN(partition_, engine_->create_partition(std::move(options)));
    BYGONE_CHECK(vcpu().set_system_registers(prepare_real_mode(0)));
    GeneralRegisters general;
    general.rip = kCode;
    return vcpu().set_general_registers(general);
  }
  bool one_exit() {
    const auto exit = vcpu().run();
    return exit && std::holds_alternative<PortExit>(**exit);
  }

 private:
  Vcpu& vcpu() { return partition_->vcpu(VpIndex{0}); }
  std::unique_ptr<Engine> engine_ = kvm::create_engine();
  memory::GuestMemory memory_;
  std::unique_ptr<Partition> partition_;
};

/// The least that runs the same loop: nothing is looked at but the exit's reason.
class WithIoctls {
 public:
  explicit WithIoctls(bool has_local_apic) : has_local_apic_(has_local_apic) {}
  Result<void> create() {
    using kvm::kernel_call;
    kvm_ = UniqueFd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm_) return fail_errno(errno, "opening /dev/kvm");
    BYGONE_ASSIGN(const int vm, kernel_call(kvm_.get(), KVM_CREATE_VM, "KVM_CREATE_VM"));
    vm_ = UniqueFd(vm);
    if (has_local_apic_) {
      kvm_enable_cap split = {};
      split.cap = KVM_CAP_SPLIT_IRQCHIP;
      split.args[0] = 24;
      BYGONE_CHECK(kernel_call(vm_.get(), KVM_ENABLE_CAP, "KVM_CAP_SPLIT_IRQCHIP", &split));
    }
    BYGONE_CHECK(memory_.add_ram({0}, kMemory));
    BYGONE_CHECK(memory_.write({kCode}, std::as_bytes(std::span(kLoop))));
    kvm_userspace_memory_region region = {};
    region.memory_size = kMemory;
    region.userspace_addr = reinterpret_cast<std::uintptr_t>(memory_.slots()[0].host);
    BYGONE_CHECK(kernel_call(vm_.get(), KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", &region));
    BYGONE_ASSIGN(const int vcpu, kernel_call(vm_.get(), KVM_CREATE_VCPU, "KVM_CREATE_VCPU"));
    vcpu_ = UniqueFd(vcpu);
    BYGONE_ASSIGN(const int size, kernel_call(kvm_.get(), KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE"));
    void* area = ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_.get(), 0);
    if (area == MAP_FAILED) return fail_errno(errno, "mapping the processor");
    run_ = static_cast<kvm_run*>(area);
    BYGONE_CHECK(set_cpuid());
    kvm_sregs system;
    BYGONE_CHECK(kernel_call(vcpu_.get(), KVM_GET_SREGS, "KVM_GET_SREGS", &system));
    system.cs.base = 0;
    system.cs.selector = 0;
    system.cr0 = 0x10;  // caches on, as the engine's guest has them
    BYGONE_CHECK(kernel_call(vcpu_.get(), KVM_SET_SREGS, "KVM_SET_SREGS", &system));
    kvm_regs general = {};
    general.rip = kCode;
    general.rflags = 2;
    BYGONE_CHECK(kernel_call(vcpu_.get(), KVM_SET_REGS, "KVM_SET_REGS", &general));
    return {};
  }
  bool one_exit() { return ::ioctl(vcpu_.get(), KVM_RUN, 0) == 0 && run_->exit_reason == KVM_EXIT_IO; }

 private:
  Result<void> set_cpuid() {
    constexpr std::uint32_t kEntries = 256;
    std::vector<std::byte> buffer(sizeof(kvm_cpuid2) + kEntries * sizeof(kvm_cpuid_entry2));
    auto* list = reinterpret_cast<kvm_cpuid2*>(buffer.data());
    list->nent = kEntries;
    BYGONE_CHECK(kvm::kernel_call(kvm_.get(), KVM_GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID", list));
    BYGONE_CHECK(kvm::kernel_call(vcpu_.get(), KVM_SET_CPUID2, "KVM_SET_CPUID2", list));
    return {};
  }

  const bool has_local_apic_;
  UniqueFd kvm_, vm_, vcpu_;
  memory::GuestMemory memory_;
  kvm_run* run_ = nullptr;  // lives as long as the process
};

}  // namespace

int main() {
  WithEngine engine;
  WithIoctls bare(true), bare_without_apic(false);
  for (const Result<void>& made : {engine.create(), bare.create(), bare_without_apic.create()}) {
    if (!made) {
      fmt::print("cannot measure: {}\n", made.error().text());
      return 1;
    }
  }
  double best_engine = 0, best_bare = 0, best_without_apic = 0;
  for (int round = 0; round < kRounds; ++round) {
    best_without_apic = std::max(best_without_apic, rate_of([&] { return bare_without_apic.one_exit(); }));
    best_bare = std::max(best_bare, rate_of([&] { return bare.one_exit(); }));
    best_engine = std::max(best_engine, rate_of([&] { return engine.one_exit(); }));
  }
  fmt::print("port exits a second: engine {:.0f}, bare ioctls {:.0f}, ratio {:.3f}; bare without a local APIC {:.0f}, ratio {:.3f}\n",
             best_engine, best_bare, best_engine / best_bare, best_without_apic, best_engine / best_without_apic);
  return best_engine > 0 && best_bare > 0 && best_without_apic > 0 ? 0 : 1;
}
