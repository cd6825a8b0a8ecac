#include "cpu/kvm/vcpu.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <thread>
#include <utility>

#include "cpu/kvm/kernel_call.h"
#include "cpu/kvm/kick_signal.h"
#include "cpu/kvm/msr_access.h"
#include "cpu/kvm/partition.h"
#include "cpu/state_text.h"
#include "cpu/time_stamps.h"

namespace bygone::cpu::kvm {
namespace {

constexpr std::uint64_t kHypercallFast = 1 << 16;  // TLFS 3.7, hypercall input value
constexpr std::uint64_t kHypercallCodeMask = 0xFFFF;
constexpr std::uint64_t kHypercallSignalEvent = 0x5D;
constexpr std::uint8_t kInvalidOpcode = 6;
constexpr std::uint32_t kMsrTscAdjust = 0x3B;
constexpr std::uint64_t kEferLongModeActive = 1 << 10;
constexpr std::uint64_t kCr0ProtectionEnable = 1;

constexpr std::uint64_t join(std::uint64_t high, std::uint64_t low) { return high << 32 | (low & 0xFFFFFFFF); }

std::string hex_dump(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x} ", byte);
  return text;
}

}  // namespace

KvmVcpu::KvmVcpu(KvmPartition& partition, VpIndex index, UniqueFd fd, kvm_run* run, std::size_t run_size)
    : partition_(partition), index_(index), fd_(std::move(fd)), run_(run), run_size_(run_size) {}

KvmVcpu::~KvmVcpu() { ::munmap(run_, run_size_); }

Result<std::unique_ptr<KvmVcpu>> KvmVcpu::create(const Device& device, KvmPartition& partition, VpIndex index) {
  BYGONE_CHECK(install_kick_signal());
  BYGONE_ASSIGN(const int raw_fd, kernel_call(partition.fd(), KVM_CREATE_VCPU, "KVM_CREATE_VCPU", index.value));
  UniqueFd fd(raw_fd);
  void* area = ::mmap(nullptr, device.run_area_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (area == MAP_FAILED) return fail_errno(errno, fmt::format("mapping processor {}", index.value));
  std::unique_ptr<KvmVcpu> vcpu(
      new KvmVcpu(partition, index, std::move(fd), static_cast<kvm_run*>(area), device.run_area_size()));
  if (const int size = device.extension(KVM_CAP_XSAVE2); size > static_cast<int>(sizeof(kvm_xsave))) {
    vcpu->xsave_size_ = static_cast<std::size_t>(size);
  }
  BYGONE_CHECK(vcpu->set_up());
  return vcpu;
}

Result<void> KvmVcpu::set_up() {
  BYGONE_CHECK(set_cpuid());
  if (partition_.active_facilities().has(Facility::kSynic)) {
    kvm_enable_cap request = {};
    request.cap = KVM_CAP_HYPERV_SYNIC2;
    BYGONE_CHECK(kernel_call(fd(), KVM_ENABLE_CAP, "KVM_CAP_HYPERV_SYNIC2", &request));
  }
  constexpr std::uint32_t kFeatureXsave = 1 << 26;  // CPUID.1:ECX
  has_xsave_ = (partition_.options().cpuid.query(1, 0).ecx & kFeatureXsave) != 0;
  find_saved_msrs();
  return reset();
}

Result<void> KvmVcpu::set_cpuid() {
  const auto& entries = partition_.options().cpuid.entries();
  std::vector<std::byte> buffer(sizeof(kvm_cpuid2) + entries.size() * sizeof(kvm_cpuid_entry2));
  auto* list = reinterpret_cast<kvm_cpuid2*>(buffer.data());
  for (const CpuidEntry& entry : entries) {
    kvm_cpuid_entry2& to = list->entries[list->nent++];
    to.function = entry.leaf;
    to.index = entry.subleaf.value_or(0);
    to.flags = entry.subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    to.eax = entry.result.eax;
    to.ebx = entry.result.ebx;
    to.ecx = entry.result.ecx;
    to.edx = entry.result.edx;
    if (entry.leaf == 1) to.ebx = (to.ebx & 0x00FFFFFF) | index_.value << 24;
    if (entry.leaf == 0xB || entry.leaf == 0x1F) to.edx = index_.value;
  }
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_CPUID2, "KVM_SET_CPUID2", list));
  return {};
}

// KVM_RUN with kick() and hold() possible at any moment. Each side writes its own flag before it reads the other's, so that a
// kick is either seen by KVM_RUN (immediate_exit) or finds is_inside_ set and sends the signal. Nobody leaves while a signal may
// still be on its way: it would interrupt a system call of a device's.
int KvmVcpu::enter() {
  thread_local const pid_t self = ::gettid();
  if (thread_.load(std::memory_order_relaxed) != self) {
    // Whoever used the thread before may have blocked every signal, and then nothing would end a guest that never exits.
    unblock_kick_signal();
    thread_.store(self, std::memory_order_relaxed);
  }
  for (;;) {
    is_inside_.store(true);
    const std::uint32_t holders = holders_.load();
    if (holders == 0) break;
    is_inside_.store(false);
    is_inside_.notify_all();
    holders_.wait(holders);
  }
  const int result = ::ioctl(fd(), KVM_RUN, 0);
  const int error_number = result < 0 ? errno : 0;
  is_inside_.store(false);
  while (kickers_.load() != 0) std::this_thread::yield();
  if (holders_.load() != 0) is_inside_.notify_all();
  return error_number;
}

void KvmVcpu::kick() {
  is_kicked_.store(true);
  std::atomic_ref<std::uint8_t>(run_->immediate_exit).store(1);
  kickers_.fetch_add(1);
  if (is_inside_.load()) ::tgkill(::getpid(), thread_.load(std::memory_order_relaxed), kick_signal());
  kickers_.fetch_sub(1);
}

void KvmVcpu::hold() {
  holders_.fetch_add(1);
  if (!is_inside_.load()) return;
  kick();
  is_inside_.wait(true);
}

void KvmVcpu::release() {
  if (holders_.fetch_sub(1) == 1) holders_.notify_all();
}

Result<Exit*> KvmVcpu::run() {
  if (std::exchange(is_exit_unseen_, false)) return &exit_;
  BYGONE_ASSIGN(const bool has_more, apply_answer());
  if (has_more) return &exit_;
  for (;;) {
    const int error_number = enter();
    partition_.posted_writes().drain();
    run_->kvm_dirty_regs = 0;
    if (error_number == 0) {
      BYGONE_ASSIGN(const bool is_ours, decode_exit());
      if (is_ours) break;
      BYGONE_CHECK(apply_answer());
      continue;
    }
    if (error_number == EINTR) {
      if (partition_.routes().watches_levels()) {
        BYGONE_ASSIGN(const bool has_exit, turn_back());
        if (has_exit) break;  // the kick stays for the next time
      }
      is_kicked_.store(false);
      std::atomic_ref<std::uint8_t>(run_->immediate_exit).store(0);
      exit_ = InterruptedExit{};
      break;
    }
    if (error_number == EAGAIN) continue;  // a waiting processor was started and has to be entered again
    return fail_errno(error_number, fmt::format("running processor {} (KVM_RUN)", index_.value));
  }
  std::atomic<std::uint64_t>& count = exits_[exit_.index()];
  count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return &exit_;
}

Result<bool> KvmVcpu::decode_exit() {
  owed_ = Owed::kNothing;
  switch (run_->exit_reason) {
    case KVM_EXIT_IO:
      if (run_->io.port == kHypercallPort && run_->io.direction == KVM_EXIT_IO_OUT && run_->io.count == 1) {
        return decode_hypercall();
      }
      return decode_port();
    case KVM_EXIT_MMIO:
      mmio_done_ = 0;
      present_mmio_piece();
      return true;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
      return decode_msr();
    case KVM_EXIT_HYPERV:
      return decode_kernel_hypercall();
    case KVM_EXIT_IOAPIC_EOI:
      exit_ = IoApicEoiExit{run_->eoi.vector};
      return true;
    case KVM_EXIT_HLT:
      exit_ = HaltExit{};
      return true;
    case KVM_EXIT_SHUTDOWN:
      exit_ = ShutdownExit{};
      return true;
    case KVM_EXIT_DEBUG:
      exit_ = DebugExit{run_->debug.arch.pc};
      return true;
    case KVM_EXIT_INTR:
      exit_ = InterruptedExit{};
      return true;
    case KVM_EXIT_INTERNAL_ERROR:
      make_unrecoverable(fmt::format("KVM gave up on an instruction (internal error {}, data {:#x} {:#x})",
                                     run_->internal.suberror, run_->internal.data[0], run_->internal.data[1]));
      return true;
    case KVM_EXIT_FAIL_ENTRY:
      make_unrecoverable(fmt::format("the processor refused the guest's state (hardware reason {:#x})",
                                     run_->fail_entry.hardware_entry_failure_reason));
      return true;
    default:
      make_unrecoverable(fmt::format("KVM exit {} is unknown here", run_->exit_reason));
      return true;
  }
}

bool KvmVcpu::decode_port() {
  owed_ = Owed::kReentry;
  auto* data = reinterpret_cast<std::byte*>(run_) + run_->io.data_offset;
  const std::size_t bytes = std::size_t{run_->io.size} * run_->io.count;
  exit_ = PortExit{.port = run_->io.port,
                   .size = run_->io.size,
                   .is_write = run_->io.direction == KVM_EXIT_IO_OUT,
                   .count = run_->io.count,
                   .data = {data, bytes}};
  if (run_->io.direction == KVM_EXIT_IO_OUT && bytes == 1) partition_.posted_writes().note_exit(run_->io.port);
  return true;
}

// KVM's pieces end at page borders but may be of any length up to 8; ours are powers of two.
void KvmVcpu::present_mmio_piece() {
  owed_ = Owed::kMmio;
  const auto left = static_cast<std::uint8_t>(std::min<std::uint32_t>(run_->mmio.len, 8) - mmio_done_);
  MmioExit mmio;
  mmio.address = {run_->mmio.phys_addr + mmio_done_};
  mmio.size = std::bit_floor(left);
  mmio.is_write = run_->mmio.is_write != 0;
  if (mmio.is_write) std::memcpy(&mmio.data, run_->mmio.data + mmio_done_, mmio.size);
  exit_ = mmio;
}

Result<bool> KvmVcpu::decode_msr() {
  const bool is_write = run_->exit_reason == KVM_EXIT_X86_WRMSR;
  owed_ = Owed::kMsr;
  MsrExit msr{.index = run_->msr.index, .is_write = is_write, .value = is_write ? run_->msr.data : 0};
  const bool is_tsc = is_write && (msr.index == kMsrTimeStampCounter || msr.index == kMsrTscAdjust);
  if (is_tsc) msr.fault = !write_tsc(msr.index, msr.value);
  exit_ = msr;
  return !is_tsc;
}

Result<bool> KvmVcpu::decode_hypercall() {
  kvm_sregs system;
  BYGONE_CHECK(kernel_call(fd(), KVM_GET_SREGS, "KVM_GET_SREGS", &system));
  owed_ = Owed::kHypercall;
  HypercallExit call;
  call.is_long_mode = (system.efer & kEferLongModeActive) != 0 && system.cs.l != 0;
  if ((system.cr0 & kCr0ProtectionEnable) == 0 || system.ss.dpl != 0) {
    call.fault = true;  // TLFS 3.5: only from the most privileged ring of protected mode
    exit_ = call;
    return false;
  }
  // Into the area that KVM_RUN takes changed registers from, where the result is put later.
  kvm_regs& registers = run_->s.regs.regs;
  BYGONE_CHECK(kernel_call(fd(), KVM_GET_REGS, "KVM_GET_REGS", &registers));
  if (call.is_long_mode) {
    call.control = registers.rcx;
    call.input = registers.rdx;
    call.output = registers.r8;
  } else {
    call.control = join(registers.rdx, registers.rax);
    call.input = join(registers.rbx, registers.rcx);
    call.output = join(registers.rdi, registers.rsi);
  }
  // Reading the vector registers costs a system call; the hottest fast call of all takes no XMM input.
  if ((call.control & kHypercallFast) != 0 && (call.control & kHypercallCodeMask) != kHypercallSignalEvent) {
    kvm_fpu fpu;
    BYGONE_CHECK(kernel_call(fd(), KVM_GET_FPU, "KVM_GET_FPU", &fpu));
    std::memcpy(call.xmm.data(), fpu.xmm, sizeof(call.xmm));
  }
  exit_ = call;
  return true;
}

// The kernel's own emulation passes on what it does not do itself. It has checked mode and ring; calls with vector registers
// as input are not among those.
Result<bool> KvmVcpu::decode_kernel_hypercall() {
  if (run_->hyperv.type != KVM_EXIT_HYPERV_HCALL) return false;  // it noticed a register that the hypervisor has set
  owed_ = Owed::kKernelHypercall;
  HypercallExit call;
  call.control = run_->hyperv.u.hcall.input;
  call.input = run_->hyperv.u.hcall.params[0];
  call.output = run_->hyperv.u.hcall.params[1];
  // Where the kernel looked for a signal's doorbell and found none, it has put the content of the input page in the place of the
  // page's address (seen on Linux 6.1). The registers still have it.
  if ((call.control & kHypercallCodeMask) == kHypercallSignalEvent && (call.control & kHypercallFast) == 0) {
    kvm_sregs system;
    kvm_regs registers;
    BYGONE_CHECK(kernel_call(fd(), KVM_GET_SREGS, "KVM_GET_SREGS", &system));
    BYGONE_CHECK(kernel_call(fd(), KVM_GET_REGS, "KVM_GET_REGS", &registers));
    const bool is_long_mode = (system.efer & kEferLongModeActive) != 0 && system.cs.l != 0;
    call.input = is_long_mode ? registers.rdx : join(registers.rbx, registers.rcx);
  }
  exit_ = call;
  return true;
}

Result<bool> KvmVcpu::apply_answer() {
  switch (std::exchange(owed_, Owed::kNothing)) {
    case Owed::kNothing:
    case Owed::kReentry:  // the machine wrote the data in place
      break;
    case Owed::kMmio: {
      const auto& mmio = std::get<MmioExit>(exit_);
      if (!mmio.is_write) std::memcpy(run_->mmio.data + mmio_done_, &mmio.data, mmio.size);
      mmio_done_ = static_cast<std::uint8_t>(mmio_done_ + mmio.size);
      if (mmio_done_ < std::min<std::uint32_t>(run_->mmio.len, 8)) {
        present_mmio_piece();
        return true;
      }
      break;
    }
    case Owed::kMsr: {
      const auto& msr = std::get<MsrExit>(exit_);
      run_->msr.error = msr.fault ? 1 : 0;
      if (!msr.is_write) run_->msr.data = msr.value;
      break;
    }
    case Owed::kHypercall:
      BYGONE_CHECK(finish_hypercall());
      break;
    case Owed::kKernelHypercall: {
      const auto& call = std::get<HypercallExit>(exit_);
      run_->hyperv.u.hcall.result = call.result;
      if (call.fault) BYGONE_CHECK(fault_hypercall());
      break;
    }
  }
  return false;
}

Result<void> KvmVcpu::finish_hypercall() {
  const auto& call = std::get<HypercallExit>(exit_);
  if (call.fault) return fault_hypercall();
  if (call.xmm_written) {
    kvm_fpu fpu;
    BYGONE_CHECK(kernel_call(fd(), KVM_GET_FPU, "KVM_GET_FPU", &fpu));
    std::memcpy(fpu.xmm, call.xmm.data(), sizeof(call.xmm));
    BYGONE_CHECK(kernel_call(fd(), KVM_SET_FPU, "KVM_SET_FPU", &fpu));
  }
  kvm_regs& registers = run_->s.regs.regs;
  if (call.is_long_mode) {
    registers.rax = call.result;
  } else {
    registers.rax = call.result & 0xFFFFFFFF;
    registers.rdx = call.result >> 32;
  }
  run_->kvm_dirty_regs = KVM_SYNC_X86_REGS;
  return {};
}

// Lets KVM step over the instruction, then steps back: an invalid-opcode fault points at it.
Result<void> KvmVcpu::fault_hypercall() {
  BYGONE_CHECK(complete_pending());
  BYGONE_ASSIGN(GeneralRegisters registers, general_registers());
  registers.rip -= kHypercallLength;
  BYGONE_CHECK(set_general_registers(registers));
  return inject_exception(kInvalidOpcode, std::nullopt);
}

Result<void> KvmVcpu::complete_pending() {
  for (;;) {
    if (!is_exit_unseen_) {
      BYGONE_ASSIGN(is_exit_unseen_, apply_answer());
    }
    if (is_exit_unseen_) {
      return fail(ErrorCode::kBusy, "processor {} is in an instruction that needs another answer of the machine", index_.value);
    }
    auto immediate = std::atomic_ref<std::uint8_t>(run_->immediate_exit);
    immediate.store(1);
    const int error_number = enter();
    partition_.posted_writes().drain();
    run_->kvm_dirty_regs = 0;
    // A kick stays a kick, also one that comes right now: it says so before it sets the flag.
    immediate.store(0);
    if (is_kicked_.load()) immediate.store(1);
    if (error_number == EINTR) return {};
    if (error_number != 0) {
      return fail_errno(error_number, fmt::format("completing an exit of processor {}", index_.value));
    }
    BYGONE_ASSIGN(is_exit_unseen_, decode_exit());
  }
}

Result<void> KvmVcpu::abandon_pending() {
  constexpr int kMost = 1 << 14;  // KVM goes on with a string instruction for 1024 elements, each of some exits
  for (int i = 0; i < kMost; ++i) {
    const auto completed = complete_pending();
    if (completed || completed.error().code != ErrorCode::kBusy) return completed;
    is_exit_unseen_ = false;
  }
  return fail(ErrorCode::kInternal, "processor {} comes to no end of an instruction", index_.value);
}

void KvmVcpu::make_unrecoverable(std::string_view what) {
  std::string dump = fmt::format("processor {}: {}\n", index_.value, what);
  if (auto state = read_state()) {
    dump += to_text(*state);
  } else if (auto general = general_registers()) {
    dump += to_text(*general);
  }
  if (auto general = general_registers()) {
    if (auto place = translate(general->rip); place && place->has_value()) {
      std::array<std::uint8_t, 15> code = {};
      if (partition_.options().memory->read(**place, std::as_writable_bytes(std::span(code)))) {
        dump += fmt::format("code at rip: {}\n", hex_dump(code));
      }
    }
  }
  exit_ = UnrecoverableExit{std::move(dump)};
}

namespace {

kvm_device_attr tsc_offset_attribute(std::uint64_t& offset) {
  kvm_device_attr attribute = {};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<std::uintptr_t>(&offset);
  return attribute;
}

}  // namespace

bool KvmVcpu::has_tsc_offset() const {
  std::uint64_t offset = 0;
  kvm_device_attr attribute = tsc_offset_attribute(offset);
  return kernel_call(fd(), KVM_HAS_DEVICE_ATTR, "KVM_HAS_DEVICE_ATTR", &attribute).has_value();
}

void KvmVcpu::refresh_tsc_offset() {
  std::uint64_t offset = 0;
  kvm_device_attr attribute = tsc_offset_attribute(offset);
  if (!kernel_call(fd(), KVM_GET_DEVICE_ATTR, "KVM_GET_DEVICE_ATTR", &attribute)) {
    offset = read_one_msr(fd(), kMsrTimeStampCounter).value_or(0) - __rdtsc();  // older kernels: a microsecond less exact
  }
  tsc_offset_.store(offset, std::memory_order_relaxed);
}

bool KvmVcpu::move_tsc(std::uint64_t offset) {
  kvm_device_attr attribute = tsc_offset_attribute(offset);
  return kernel_call(fd(), KVM_SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR", &attribute).has_value();
}

Result<void> KvmVcpu::set_tsc(std::uint64_t value) {
  if (move_tsc(partition_.tsc_offset_for(index_, value, __rdtsc()))) return {};
  return set_msr({kMsrTimeStampCounter, value});
}

// Intel SDM volume 3, 18.17.3: a write to either moves the counter, and TSC_ADJUST by as much.
bool KvmVcpu::write_tsc(std::uint32_t msr, std::uint64_t value) {
  const bool has_adjust = (partition_.options().cpuid.query(7, 0).ebx & 1U << 1) != 0;
  if (msr == kMsrTscAdjust && !has_adjust) return false;
  const std::uint64_t adjust = read_one_msr(fd(), kMsrTscAdjust).value_or(0);
  std::uint64_t offset = tsc_offset();
  const std::uint64_t change = msr == kMsrTimeStampCounter ? value - (__rdtsc() + offset) : value - adjust;
  offset += change;
  if (!move_tsc(offset)) return false;
  if (has_adjust) (void)write_one_msr(fd(), {kMsrTscAdjust, adjust + change});
  refresh_tsc_offset();
  return true;
}

}  // namespace bygone::cpu::kvm
