// The state of a processor, between cpu/state.h and KVM's structures (Linux Documentation/virt/kvm/api.rst).
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>

#include "cpu/kvm/kernel_call.h"
#include "cpu/kvm/kick_signal.h"
#include "cpu/kvm/msr_access.h"
#include "cpu/kvm/partition.h"
#include "cpu/kvm/vcpu.h"
#include "cpu/reset_state.h"
#include "cpu/time_stamps.h"

namespace bygone::cpu::kvm {
namespace {

constexpr std::uint32_t kMsrTscDeadline = 0x6E0;

// What a saved processor needs beyond its registers. Those that this kernel does not know are left out at creation.
// Intel SDM volume 4: TSC_ADJUST, SPEC_CTRL, SYSENTER, MISC_ENABLE, PAT, MTRRs, XSS, SYSCALL, bases, TSC_AUX.
constexpr std::array<std::uint32_t, 46> kSavedMsrs{
    kMsrTimeStampCounter, 0x3B,       0x48,       0x174,      0x175,      0x176,      0x1A0,      0x277,
    0x250,      0x258,      0x259,      0x268,      0x269,      0x26A,      0x26B,      0x26C,
    0x26D,      0x26E,      0x26F,      0x200,      0x201,      0x202,      0x203,      0x204,
    0x205,      0x206,      0x207,      0x208,      0x209,      0x20A,      0x20B,      0x20C,
    0x20D,      0x20E,      0x20F,      0x2FF,      0xDA0,      0xC0000081, 0xC0000082, 0xC0000083,
    0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103, kMsrTscDeadline};

// kvm_regs names its members; ours are in encoding order.
constexpr std::array kGprMembers{&kvm_regs::rax, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rbx,
                                 &kvm_regs::rsp, &kvm_regs::rbp, &kvm_regs::rsi, &kvm_regs::rdi,
                                 &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
                                 &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};

constexpr std::array kSegmentMembers{&kvm_sregs::es, &kvm_sregs::cs, &kvm_sregs::ss,
                                     &kvm_sregs::ds, &kvm_sregs::fs, &kvm_sregs::gs};

Segment from_kvm(const kvm_segment& from) {
  return {.base = from.base,
          .limit = from.limit,
          .selector = from.selector,
          .attributes = static_cast<std::uint32_t>(from.type & 0xF) | static_cast<std::uint32_t>(from.s & 1) << 4 |
                        static_cast<std::uint32_t>(from.dpl & 3) << 5 |
                        static_cast<std::uint32_t>(from.present & 1) << 7 |
                        static_cast<std::uint32_t>(from.avl & 1) << 12 |
                        static_cast<std::uint32_t>(from.l & 1) << 13 | static_cast<std::uint32_t>(from.db & 1) << 14 |
                        static_cast<std::uint32_t>(from.g & 1) << 15 |
                        (from.unusable != 0 ? kSegmentUnusable : 0)};
}

kvm_segment to_kvm(const Segment& from) {
  const auto bits = [&](int shift, std::uint32_t mask) {
    return static_cast<std::uint8_t>(from.attributes >> shift & mask);
  };
  kvm_segment to = {};
  to.base = from.base;
  to.limit = from.limit;
  to.selector = from.selector;
  to.type = bits(0, 0xF);
  to.s = bits(4, 1);
  to.dpl = bits(5, 3);
  to.present = bits(7, 1);
  to.avl = bits(12, 1);
  to.l = bits(13, 1);
  to.db = bits(14, 1);
  to.g = bits(15, 1);
  to.unusable = bits(16, 1);
  return to;
}

std::uint32_t to_mp_state(ActivityState activity) {
  switch (activity) {
    case ActivityState::kRunning: return KVM_MP_STATE_RUNNABLE;
    case ActivityState::kHalted: return KVM_MP_STATE_HALTED;
    case ActivityState::kWaitForInit: return KVM_MP_STATE_UNINITIALIZED;
    case ActivityState::kWaitForSipi: return KVM_MP_STATE_INIT_RECEIVED;
  }
  return KVM_MP_STATE_RUNNABLE;
}

ActivityState from_mp_state(std::uint32_t state) {
  switch (state) {
    case KVM_MP_STATE_HALTED: return ActivityState::kHalted;
    case KVM_MP_STATE_UNINITIALIZED: return ActivityState::kWaitForInit;
    case KVM_MP_STATE_INIT_RECEIVED:
    case KVM_MP_STATE_SIPI_RECEIVED: return ActivityState::kWaitForSipi;
    default: return ActivityState::kRunning;
  }
}

// The standard XSAVE format: legacy area, then the header at 512 (Intel SDM volume 1, 13.4).
constexpr std::size_t kXsaveMxcsr = 24;
constexpr std::size_t kXsaveMinimum = 576;
constexpr std::size_t kXsaveHeader = 512;
constexpr std::uint64_t kXsaveLegacy = 3;  // x87 and SSE
constexpr std::uint16_t kFcwInitial = 0x37F;
constexpr std::uint32_t kMxcsrInitial = 0x1F80;

// Places in LocalApicState, Intel SDM volume 3, table 11-1, and the modes of figure 11-8.
constexpr std::size_t kApicTimerVector = 0x32, kApicInitialCount = 0x38, kApicCurrentCount = 0x39;
constexpr std::uint32_t kApicTimerModes = 3U << 17;

/// A one-shot timer that has reached zero.
bool has_run_out(const LocalApicState& apic) {
  return (apic.registers[kApicTimerVector] & kApicTimerModes) == 0 && apic.registers[kApicInitialCount] != 0 &&
         apic.registers[kApicCurrentCount] == 0;
}

}  // namespace

Result<GeneralRegisters> KvmVcpu::general_registers() {
  kvm_regs from;
  BYGONE_CHECK(kernel_call(fd(), KVM_GET_REGS, "KVM_GET_REGS", &from));
  GeneralRegisters to;
  for (std::size_t i = 0; i < kGprMembers.size(); ++i) to.gpr[i] = from.*kGprMembers[i];
  to.rip = from.rip;
  to.rflags = from.rflags;
  return to;
}

Result<void> KvmVcpu::set_general_registers(const GeneralRegisters& from) {
  kvm_regs to = {};
  for (std::size_t i = 0; i < kGprMembers.size(); ++i) to.*kGprMembers[i] = from.gpr[i];
  to.rip = from.rip;
  to.rflags = from.rflags;
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_REGS, "KVM_SET_REGS", &to));
  return {};
}

Result<SystemRegisters> KvmVcpu::system_registers() {
  kvm_sregs from;
  BYGONE_CHECK(kernel_call(fd(), KVM_GET_SREGS, "KVM_GET_SREGS", &from));
  SystemRegisters to;
  for (std::size_t i = 0; i < kSegmentMembers.size(); ++i) to.segments[i] = from_kvm(from.*kSegmentMembers[i]);
  to.task = from_kvm(from.tr);
  to.local_descriptor_table = from_kvm(from.ldt);
  to.gdt = {from.gdt.base, from.gdt.limit};
  to.idt = {from.idt.base, from.idt.limit};
  to.cr0 = from.cr0;
  to.cr2 = from.cr2;
  to.cr3 = from.cr3;
  to.cr4 = from.cr4;
  to.cr8 = from.cr8;
  to.efer = from.efer;
  to.apic_base = from.apic_base;
  if (has_xsave_) {
    kvm_xcrs xcrs;
    BYGONE_CHECK(kernel_call(fd(), KVM_GET_XCRS, "KVM_GET_XCRS", &xcrs));
    for (std::uint32_t i = 0; i < xcrs.nr_xcrs; ++i) {
      if (xcrs.xcrs[i].xcr == 0) to.xcr0 = xcrs.xcrs[i].value;
    }
  }
  return to;
}

Result<void> KvmVcpu::set_system_registers(const SystemRegisters& from) {
  kvm_sregs to = {};
  for (std::size_t i = 0; i < kSegmentMembers.size(); ++i) to.*kSegmentMembers[i] = to_kvm(from.segments[i]);
  to.tr = to_kvm(from.task);
  to.ldt = to_kvm(from.local_descriptor_table);
  to.gdt.base = from.gdt.base;
  to.gdt.limit = from.gdt.limit;
  to.idt.base = from.idt.base;
  to.idt.limit = from.idt.limit;
  to.cr0 = from.cr0;
  to.cr2 = from.cr2;
  to.cr3 = from.cr3;
  to.cr4 = from.cr4;
  to.cr8 = from.cr8;
  to.efer = from.efer;
  to.apic_base = from.apic_base;
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_SREGS, "KVM_SET_SREGS", &to));
  if (has_xsave_) {
    kvm_xcrs xcrs = {};
    xcrs.nr_xcrs = 1;
    xcrs.xcrs[0].value = from.xcr0;
    BYGONE_CHECK(kernel_call(fd(), KVM_SET_XCRS, "KVM_SET_XCRS", &xcrs));
  }
  return {};
}

void KvmVcpu::find_saved_msrs() {
  std::ranges::copy_if(kSavedMsrs, std::back_inserter(saved_msrs_),
                       [&](std::uint32_t index) { return read_one_msr(fd(), index).has_value(); });
}

Result<std::vector<MsrValue>> KvmVcpu::get_msrs() {
  std::vector<std::byte> buffer(sizeof(kvm_msrs) + saved_msrs_.size() * sizeof(kvm_msr_entry));
  auto* list = reinterpret_cast<kvm_msrs*>(buffer.data());
  for (const std::uint32_t index : saved_msrs_) list->entries[list->nmsrs++].index = index;
  BYGONE_ASSIGN(const int read, kernel_call(fd(), KVM_GET_MSRS, "KVM_GET_MSRS", list));
  std::vector<MsrValue> msrs;
  msrs.reserve(static_cast<std::size_t>(read));
  for (int i = 0; i < read; ++i) msrs.push_back({list->entries[i].index, list->entries[i].data});
  return msrs;
}

Result<void> KvmVcpu::set_msr(const MsrValue& msr) {
  // Another engine may keep registers that this one has not; while they are zero nobody has used them.
  if (msr.value == 0 && std::ranges::find(saved_msrs_, msr.index) == saved_msrs_.end()) return {};
  if (write_one_msr(fd(), msr)) return {};
  return fail(ErrorCode::kUnsupported, "this host's KVM refuses the value {:#x} for MSR {:#x}", msr.value, msr.index);
}

Result<ExtendedState> KvmVcpu::get_extended() {
  ExtendedState extended;
  extended.xsave.resize(xsave_size_);
  const bool is_large = xsave_size_ > sizeof(kvm_xsave);
  BYGONE_CHECK(kernel_call(fd(), is_large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, "KVM_GET_XSAVE", extended.xsave.data()));
  // The host's processor may have components that this guest's has not; KVM reports them as present.
  const CpuidResult guest = partition_.options().cpuid.query(0xD, 0);
  std::uint64_t present = 0;
  std::memcpy(&present, extended.xsave.data() + kXsaveHeader, sizeof(present));
  present &= kXsaveLegacy | guest.eax | std::uint64_t{guest.edx} << 32;
  std::memcpy(extended.xsave.data() + kXsaveHeader, &present, sizeof(present));
  return extended;
}

Result<void> KvmVcpu::set_extended(const ExtendedState& extended) {
  if (!extended.xsave.empty() && extended.xsave.size() < kXsaveMinimum) {
    return fail(ErrorCode::kCorrupt, "the saved extended state has {} bytes, fewer than {}", extended.xsave.size(),
                kXsaveMinimum);
  }
  if (extended.xsave.size() > xsave_size_ &&
      std::ranges::any_of(extended.xsave.begin() + static_cast<std::ptrdiff_t>(xsave_size_), extended.xsave.end(),
                          [](std::byte byte) { return byte != std::byte{0}; })) {
    return fail(ErrorCode::kUnsupported, "the saved extended state has {} bytes; this host's processor holds {}",
                extended.xsave.size(), xsave_size_);
  }
  std::vector<std::byte> buffer(xsave_size_);
  if (extended.xsave.empty()) {
    std::memcpy(buffer.data(), &kFcwInitial, sizeof(kFcwInitial));
    std::memcpy(buffer.data() + kXsaveMxcsr, &kMxcsrInitial, sizeof(kMxcsrInitial));
  } else {
    std::copy_n(extended.xsave.begin(), std::min(extended.xsave.size(), buffer.size()), buffer.begin());
  }
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_XSAVE, "KVM_SET_XSAVE", buffer.data()));
  return {};
}

Result<LocalApicState> KvmVcpu::get_local_apic() {
  kvm_lapic_state from = {};
  BYGONE_CHECK(kernel_call(fd(), KVM_GET_LAPIC, "KVM_GET_LAPIC", &from));
  LocalApicState to;
  for (std::size_t i = 0; i < to.registers.size(); ++i) std::memcpy(&to.registers[i], from.regs + i * 16, sizeof(std::uint32_t));
  return to;
}

Result<void> KvmVcpu::set_local_apic(const LocalApicState& state) {
  LocalApicState from = state;
  // KVM starts a timer whose count is zero afresh, and it fires at once; one that has run out has had its interrupt.
  if (has_run_out(from)) from.registers[kApicInitialCount] = 0;
  kvm_lapic_state to = {};
  for (std::size_t i = 0; i < from.registers.size(); ++i) std::memcpy(to.regs + i * 16, &from.registers[i], sizeof(std::uint32_t));
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_LAPIC, "KVM_SET_LAPIC", &to));
  return {};
}

// KVM does this on its way from one entry to the next. A signal that is pending and let in by KVM_RUN's own mask makes it turn
// back before the entry; one that waited before the call, with immediate_exit, would make it turn back too early.
Result<bool> KvmVcpu::turn_back() {
  sigset_t kick, before;
  ::sigemptyset(&kick);
  ::sigaddset(&kick, kick_signal());
  ::pthread_sigmask(SIG_BLOCK, &kick, &before);
  sigset_t during = before;
  ::sigdelset(&during, kick_signal());
  constexpr std::size_t kKernelSetBytes = 8;
  alignas(kvm_signal_mask) std::array<std::byte, sizeof(kvm_signal_mask) + kKernelSetBytes> bytes = {};
  auto* mask = reinterpret_cast<kvm_signal_mask*>(bytes.data());
  mask->len = kKernelSetBytes;
  std::memcpy(bytes.data() + sizeof(kvm_signal_mask), &during, kKernelSetBytes);
  bool has_exit = false;
  if (kernel_call(fd(), KVM_SET_SIGNAL_MASK, "KVM_SET_SIGNAL_MASK", mask)) {
    ::raise(kick_signal());
    std::atomic_ref<std::uint8_t>(run_->immediate_exit).store(0);
    has_exit = enter() == 0;
    partition_.posted_writes().drain();
    run_->kvm_dirty_regs = 0;
    if (is_kicked_.load()) std::atomic_ref<std::uint8_t>(run_->immediate_exit).store(1);
    constexpr timespec kNow = {};
    while (::sigtimedwait(&kick, nullptr, &kNow) > 0) {
    }
    (void)kernel_call(fd(), KVM_SET_SIGNAL_MASK, "KVM_SET_SIGNAL_MASK");
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return has_exit ? decode_exit() : false;
}

Result<PendingEvents> KvmVcpu::get_events() {
  kvm_vcpu_events from;
  BYGONE_CHECK(kernel_call(fd(), KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS", &from));
  kvm_mp_state activity;
  BYGONE_CHECK(kernel_call(fd(), KVM_GET_MP_STATE, "KVM_GET_MP_STATE", &activity));
  PendingEvents to;
  to.has_exception = from.exception.injected != 0;
  if (to.has_exception) {
    to.exception_vector = from.exception.nr;
    to.has_error_code = from.exception.has_error_code != 0;
    to.error_code = from.exception.error_code;
  }
  if (from.interrupt.injected != 0) to.interrupt_vector = from.interrupt.nr;
  // One that KVM was about to deliver when it turned back is not delivered; on AMD processors it masks the others already.
  to.pending_nmis = static_cast<std::uint8_t>(from.nmi.pending + from.nmi.injected);
  to.nmi_masked = from.nmi.masked != 0 && from.nmi.injected == 0;
  to.interrupt_shadow = from.interrupt.shadow != 0;
  to.activity = from_mp_state(activity.mp_state);
  return to;
}

Result<void> KvmVcpu::set_events(const PendingEvents& from) {
  kvm_vcpu_events to = {};
  to.exception.injected = from.has_exception ? 1 : 0;
  to.exception.nr = from.exception_vector;
  to.exception.has_error_code = from.has_error_code ? 1 : 0;
  to.exception.error_code = from.error_code;
  if (from.interrupt_vector) {
    to.interrupt.injected = 1;
    to.interrupt.nr = *from.interrupt_vector;
  }
  to.interrupt.shadow = from.interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0;
  to.nmi.pending = from.pending_nmis;
  to.nmi.masked = from.nmi_masked ? 1 : 0;
  to.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS", &to));
  kvm_mp_state activity = {to_mp_state(from.activity)};
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_MP_STATE, "KVM_SET_MP_STATE", &activity));
  return {};
}

Result<VcpuState> KvmVcpu::save_state() {
  BYGONE_CHECK(complete_pending());
  // Asking for the activity makes KVM serve an INIT or start-up message that came meanwhile, which changes the registers: so first.
  kvm_mp_state activity;
  BYGONE_CHECK(kernel_call(fd(), KVM_GET_MP_STATE, "KVM_GET_MP_STATE", &activity));
  BYGONE_ASSIGN(const LocalApicState apic, get_local_apic());
  if (has_run_out(apic)) {
    BYGONE_ASSIGN(is_exit_unseen_, turn_back());
    if (is_exit_unseen_) return fail(ErrorCode::kBusy, "processor {} has something to tell the machine first", index_.value);
  }
  return read_state();
}

Result<VcpuState> KvmVcpu::read_state() {
  VcpuState state;
  BYGONE_ASSIGN(state.general, general_registers());
  BYGONE_ASSIGN(state.system, system_registers());
  kvm_debugregs debug;
  BYGONE_CHECK(kernel_call(fd(), KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS", &debug));
  std::copy_n(debug.db, state.debug.dr.size(), state.debug.dr.begin());
  state.debug.dr6 = debug.dr6;
  state.debug.dr7 = debug.dr7;
  BYGONE_ASSIGN(state.extended, get_extended());
  BYGONE_ASSIGN(state.msrs, get_msrs());
  BYGONE_ASSIGN(state.local_apic, get_local_apic());
  BYGONE_ASSIGN(state.events, get_events());
  return state;
}

Result<void> KvmVcpu::restore_state(const VcpuState& state) {
  if (owed_ != Owed::kNothing || is_exit_unseen_) BYGONE_CHECK(abandon_pending());
  // INIT first: a processor that is running has latched events and a mode that would forbid some of the values.
  BYGONE_CHECK(set_system_registers(state.system));
  BYGONE_CHECK(set_general_registers(state.general));
  BYGONE_CHECK(set_extended(state.extended));
  kvm_debugregs debug = {};
  std::copy_n(state.debug.dr.begin(), state.debug.dr.size(), debug.db);
  debug.dr6 = state.debug.dr6;
  debug.dr7 = state.debug.dr7;
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS", &debug));
  for (const MsrValue& msr : state.msrs) {
    if (msr.index != kMsrTscDeadline && msr.index != kMsrTimeStampCounter) BYGONE_CHECK(set_msr(msr));
  }
  if (const auto tsc = time_stamp_of(state)) BYGONE_CHECK(set_tsc(*tsc));
  BYGONE_CHECK(partition_.watch_levels(index_, state.local_apic));
  BYGONE_CHECK(set_local_apic(state.local_apic));
  // The deadline counts only in the timer mode that the local vector table, restored above, selects.
  for (const MsrValue& msr : state.msrs) {
    if (msr.index == kMsrTscDeadline && msr.value != 0) BYGONE_CHECK(set_msr(msr));
  }
  BYGONE_CHECK(set_events(state.events));
  refresh_tsc_offset();
  return {};
}

Result<void> KvmVcpu::reset() { return restore_state(reset_state(index_, partition_.options().cpuid)); }

Result<void> KvmVcpu::inject_exception(std::uint8_t vector, std::optional<std::uint32_t> error_code) {
  if (owed_ != Owed::kNothing || is_exit_unseen_) BYGONE_CHECK(abandon_pending());
  kvm_vcpu_events events;
  BYGONE_CHECK(kernel_call(fd(), KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS", &events));
  events.exception.injected = 1;
  events.exception.nr = vector;
  events.exception.has_error_code = error_code ? 1 : 0;
  events.exception.error_code = error_code.value_or(0);
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS", &events));
  return {};
}

Result<void> KvmVcpu::set_breakpoints(std::span<const std::uint64_t> addresses, bool single_step) {
  constexpr std::size_t kDebugAddresses = 4;
  if (addresses.size() > kDebugAddresses) {
    return fail(ErrorCode::kExhausted, "the processor has {} breakpoints, not {}", kDebugAddresses, addresses.size());
  }
  kvm_guest_debug debug = {};
  if (!addresses.empty() || single_step) debug.control = KVM_GUESTDBG_ENABLE;
  if (single_step) debug.control |= KVM_GUESTDBG_SINGLESTEP;
  if (!addresses.empty()) debug.control |= KVM_GUESTDBG_USE_HW_BP;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    debug.arch.debugreg[i] = addresses[i];
    debug.arch.debugreg[7] |= 1ULL << (i * 2);  // DR7.Li; condition 0 is execution
  }
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_GUEST_DEBUG, "KVM_SET_GUEST_DEBUG", &debug));
  return {};
}

Result<std::optional<memory::Gpa>> KvmVcpu::translate(std::uint64_t linear) {
  kvm_translation translation = {};
  translation.linear_address = linear;
  BYGONE_CHECK(kernel_call(fd(), KVM_TRANSLATE, "KVM_TRANSLATE", &translation));
  if (translation.valid == 0) return std::nullopt;
  return memory::Gpa{translation.physical_address};
}

}  // namespace bygone::cpu::kvm
