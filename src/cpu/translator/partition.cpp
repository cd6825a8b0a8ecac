#include "cpu/translator/partition.h"

#include <x86intrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "cpu/exit_names.h"
#include "cpu/reset_state.h"
#include "cpu/state_text.h"
#include "cpu/translator/cpuid_model.h"
#include "cpu/translator/msr_index.h"
#include "cpu/translator/tier1_creation.h"
#include "cpu/translator/xsave.h"

namespace bygone::cpu::translator {

SoftwarePartition::SoftwarePartition(PartitionOptions options, std::uint64_t tsc_frequency, Tiers tiers, std::unique_ptr<Lockstep> lockstep)
    : options_(std::move(options)), tsc_frequency_(tsc_frequency), physical_(*options_.memory), code_pages_(physical_.ram_pages()),
      dirty_pages_(physical_.ram_pages()), lockstep_(std::move(lockstep)) {
  set_processor_count(options_.cpuid, options_.vcpu_count);
  if (options_.local_apics) apics_ = options_.local_apics(*this, options_.vcpu_count);
  if (tiers == Tiers::kInterpreter) return;
  const TranslationOptions translation{.code_cache_bytes = options_.code_cache_bytes / options_.vcpu_count,
                                       .one_block = lockstep_ != nullptr,
                                       .at_once = tiers == Tiers::kTranslateAtOnce};
  translator_ = create_tier1_factory(code_pages_, translation, options_.log);
}

Result<std::unique_ptr<SoftwarePartition>> SoftwarePartition::create(PartitionOptions options, std::uint64_t tsc_frequency, Tiers tiers,
                                                                             std::unique_ptr<Lockstep> lockstep) {
  std::unique_ptr<SoftwarePartition> partition(new SoftwarePartition(std::move(options), tsc_frequency, tiers, std::move(lockstep)));
  BYGONE_CHECK(partition->add_processors());
  return partition;
}

Result<void> SoftwarePartition::add_processors() {
  const Shared shared{&physical_, &code_pages_, &options_.cpuid, apics_.get(), tsc_frequency_, &dirty_pages_, &time_stamps_};
  for (std::uint32_t i = 0; i < options_.vcpu_count; ++i) {
    BYGONE_ASSIGN(auto block, VcpuBlock::create());
    vcpus_.push_back(std::make_unique<SoftwareVcpu>(VpIndex{i}, shared, std::move(block)));
    code_pages_.add_processor(vcpus_.back()->core().block());
    if (translator_) vcpus_.back()->core().set_tier1(translator_->create(vcpus_.back()->core().block()));
  }
  if (lockstep_) vcpus_[0]->core().set_witness(*lockstep_);
  options_.memory->add_write_observer(*this);
  return {};
}

SoftwarePartition::~SoftwarePartition() {
  options_.memory->remove_write_observer(*this);
  apics_.reset();  // first: their timers may call for a processor until they are gone
}

void SoftwarePartition::request_interrupt(const InterruptRequest& request) {
  if (apics_) apics_->request(request);
}

void SoftwarePartition::request_synic_interrupt(VpIndex vp, std::uint8_t vector, bool auto_eoi) {
  if (!apics_ || vp.value >= vcpus_.size()) return;
  if (auto_eoi) {
    apics_->at(vp).accept_auto_eoi(vector);
  } else {
    apics_->at(vp).accept(DeliveryMode::kFixed, vector, TriggerMode::kEdge);
  }
}

std::uint64_t SoftwarePartition::guest_tsc() const { return guest_tsc(VpIndex{0}); }

std::uint64_t SoftwarePartition::guest_tsc(VpIndex vp) const {
  return vp.value < vcpus_.size() ? vcpus_[vp.value]->core().guest_tsc() : __rdtsc();
}

std::vector<std::byte> SoftwarePartition::hypercall_code() const {
  return {std::byte{0x0F}, std::byte{0x01}, std::byte{0xD9}, std::byte{0xC3}};  // VMMCALL, RET
}

void SoftwarePartition::flush_tlbs(std::span<const VpIndex> vps) {
  VcpuBlock* self = nullptr;
  for (const auto& vcpu : vcpus_) {
    if (vcpu->runs_on_this_thread()) self = &vcpu->core().block();
  }
  for (const VpIndex vp : vps) {
    if (vp.value < vcpus_.size()) code_pages_.request_flush(self, vcpus_[vp.value]->core().block(), kAttentionFlushTlb);
  }
}

void SoftwarePartition::drop_write_tags() {
  for (const auto& vcpu : vcpus_) code_pages_.request_flush(nullptr, vcpu->core().block(), kAttentionFlushWrites);
}

Result<void> SoftwarePartition::start_dirty_log() {
  dirty_pages_.start();
  drop_write_tags();
  return {};
}

Result<void> SoftwarePartition::take_dirty_pages(memory::PageSet& pages) {
  dirty_pages_.take([&](std::uint64_t ram_page) { pages.add(physical_.address_of(ram_page)); });
  drop_write_tags();
  return {};
}

void SoftwarePartition::deliver_start_up(VpIndex vp, std::uint8_t vector) {
  if (vp.value >= vcpus_.size()) return;
  vcpus_[vp.value]->core().set_start_up_vector(vector);
  attract(vp, kAttentionStartUp);
}

void SoftwarePartition::level_eoi(std::uint8_t vector) {
  for (const auto& vcpu : vcpus_) {
    if (vcpu->runs_on_this_thread()) {
      vcpu->core().level_eoi(vector);
      return;
    }
  }
  vcpus_.front()->core().level_eoi(vector);
}

void SoftwarePartition::host_wrote(memory::Gpa address, std::uint64_t length) {
  std::uint64_t at = address.value;
  const std::uint64_t end = at + length;
  while (at < end) {
    const std::uint64_t page_end = (at & ~std::uint64_t{0xFFF}) + 4096;
    const std::uint64_t stop = std::min(end, page_end);
    const PhysicalMemory::Place place = physical_.find(at);
    if (place.host != nullptr) {
      code_pages_.wrote(nullptr, place.ram_page, static_cast<std::uint32_t>(at & 0xFFF), static_cast<std::uint32_t>((stop - 1) & 0xFFF));
    }
    at = stop;
  }
  if (lockstep_) lockstep_->host_wrote(address, length);
}

namespace {

std::string exits_text(const SoftwareVcpu::ExitCounts& counts) {
  std::string text;
  for (std::size_t i = 0; i < counts.size(); ++i) text += fmt::format("{}\"{}\":{}", i == 0 ? "" : ",", kExitNames[i], counts[i]);
  return text;
}

}  // namespace

std::string SoftwarePartition::inspect() const {
  std::string text = "{\"processors\":[";
  for (std::size_t i = 0; i < vcpus_.size(); ++i) {
    Core& core = vcpus_[i]->core();
    const VcpuBlock& block = core.block();
    if (i != 0) text += ',';
    text += fmt::format("{{\"instructions_interpreted\":{},\"tlb_fills\":{},\"tlb_flushes\":{},\"tlb_entries_kept\":{},\"thunks\":{}",
                        block.instructions, block.tlb.fills, block.tlb.flushes, block.tlb.archive.kept, core.thunks().size());
    const std::uint64_t elsewhere = core.halted_cycles() + (core.tier1() != nullptr ? core.tier1()->cycles() : 0);
    const std::uint64_t cycles = vcpus_[i]->cycles();
    text += fmt::format(",\"cycles_halted\":{},\"cycles_interpreting\":{}", core.halted_cycles(), cycles > elsewhere ? cycles - elsewhere : 0);
    text += fmt::format(",\"cycles\":{},\"exits\":{{{}}}", cycles, exits_text(vcpus_[i]->exits()));
    if (core.tier1() != nullptr) text += fmt::format(",\"translator\":{{{}}}", core.tier1()->inspect());
    text += '}';
  }
  return text + "]}";
}

// ---- SoftwareVcpu ----

Result<Exit*> SoftwareVcpu::run() {
  thread_.store(std::this_thread::get_id());
  if (injected_) {
    core_.abandon_exit();
    is_exit_unseen_ = false;
    core_.block().fault = *injected_;
    injected_.reset();
    core_.deliver_fault();
  }
  const std::uint64_t start = __rdtsc();
  if (!std::exchange(is_exit_unseen_, false)) core_.run_until_exit();
  cycles_ += __rdtsc() - start;
  ++exits_[core_.exit().index()];
  if (auto* broken = std::get_if<UnrecoverableExit>(&core_.exit())) {
    if (auto state = read_state()) broken->dump += '\n' + to_text(*state);
  }
  return &core_.exit();
}

Result<void> SoftwareVcpu::finish_exit() {
  if (is_exit_unseen_ || !core_.finish_exit()) {
    is_exit_unseen_ = true;
    return fail(ErrorCode::kBusy, "processor {} is in an instruction that needs another answer of the machine", index().value);
  }
  return {};
}

namespace {

// What a saved processor needs beyond its registers (Intel SDM volume 4).
constexpr std::array<std::uint32_t, 46> kSavedMsrs = {
    msr::kTsc, msr::kTscAdjust, msr::kSpeculationControl, msr::kSysenterCs, msr::kSysenterEsp, msr::kSysenterEip, msr::kMiscEnable,
    msr::kPat, msr::kMtrrFixed64K, msr::kMtrrFixed16K, msr::kMtrrFixed16K + 1, msr::kMtrrFixed4K, msr::kMtrrFixed4K + 1,
    msr::kMtrrFixed4K + 2, msr::kMtrrFixed4K + 3, msr::kMtrrFixed4K + 4, msr::kMtrrFixed4K + 5, msr::kMtrrFixed4K + 6,
    msr::kMtrrFixed4K + 7, msr::kMtrrVariable, msr::kMtrrVariable + 1, msr::kMtrrVariable + 2, msr::kMtrrVariable + 3,
    msr::kMtrrVariable + 4, msr::kMtrrVariable + 5, msr::kMtrrVariable + 6, msr::kMtrrVariable + 7, msr::kMtrrVariable + 8,
    msr::kMtrrVariable + 9, msr::kMtrrVariable + 10, msr::kMtrrVariable + 11, msr::kMtrrVariable + 12, msr::kMtrrVariable + 13,
    msr::kMtrrVariable + 14, msr::kMtrrVariable + 15, msr::kMtrrDefaultType, msr::kXss, msr::kStar, msr::kLstar, msr::kCstar,
    msr::kSfmask, msr::kFsBase, msr::kGsBase, msr::kKernelGsBase, msr::kTscAux, msr::kDebugControl};

/// The standard format; AVX-512 components only when they hold something, so that an engine without them takes the rest.
std::vector<std::byte> xsave_image(const VcpuBlock& block) {
  const std::uint64_t components = (xsave::in_use(block) | xsave::kAvx) & xsave::offered();
  std::vector<std::byte> image(xsave::standard_size(components));
  auto* bytes = reinterpret_cast<std::uint8_t*>(image.data());
  xsave::to_fxsave(block, bytes, 16, true);
  std::memcpy(bytes + 512, &components, sizeof components);
  for (unsigned i = xsave::kFirstExtended; i < xsave::kComponentEnd; ++i) {
    if ((components >> i & 1) != 0) xsave::store_component(block, i, bytes + xsave::place_of(i).offset, true);
  }
  return image;
}

Result<void> load_xsave_image(VcpuBlock& block, std::span<const std::byte> image) {
  if (image.size() < 576) return fail(ErrorCode::kCorrupt, "the saved extended state has {} bytes, fewer than 576", image.size());
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(image.data());
  std::uint64_t present = 0;
  std::memcpy(&present, bytes + 512, sizeof present);
  if ((present & ~xsave::offered()) != 0) {
    return fail(ErrorCode::kUnsupported, "the saved extended state has components {:#x} that this processor does not carry", present);
  }
  block.vector = {};
  std::array<std::uint8_t, 512> legacy;
  std::memcpy(legacy.data(), bytes, legacy.size());
  if ((present & xsave::kX87) == 0) {
    const auto reset = reset_x87();
    std::memcpy(legacy.data(), reset.data(), 24);
    std::memset(legacy.data() + 32, 0, 128);
  }
  if ((present & xsave::kSse) == 0) std::memset(legacy.data() + 160, 0, 256);
  std::uint32_t mxcsr = 0;
  std::memcpy(&mxcsr, legacy.data() + 24, 4);
  if (mxcsr == 0 && present == 0) {
    mxcsr = 0x1F80;
    std::memcpy(legacy.data() + 24, &mxcsr, 4);
  }
  if (!xsave::from_fxsave(block, legacy.data(), 16, true)) return fail(ErrorCode::kCorrupt, "the saved MXCSR {:#x} has reserved bits", mxcsr);
  for (unsigned i = xsave::kFirstExtended; i < xsave::kComponentEnd; ++i) {
    if ((present >> i & 1) == 0) continue;
    const xsave::Place place = xsave::place_of(i);
    if (image.size() < place.offset + place.size) return fail(ErrorCode::kCorrupt, "the saved extended state ends inside of component {}", i);
    xsave::load_component(block, i, bytes + place.offset, true);
  }
  return {};
}

}  // namespace

namespace {

/// An interrupt that another engine had taken from the local APIC and not yet delivered: here it is requested again.
void take_back_interrupt(LocalApicState& apic, std::uint8_t vector) {
  constexpr std::size_t kInService = 0x10, kRequested = 0x20;  // registers 0x100 and 0x200, Intel SDM volume 3, 11.8.4
  const std::uint32_t bit = 1U << vector % 32;
  apic.registers[kInService + vector / 32] &= ~bit;
  apic.registers[kRequested + vector / 32] |= bit;
}

}  // namespace

Result<VcpuState> SoftwareVcpu::save_state() {
  BYGONE_CHECK(finish_exit());
  core_.serve_start_signals();
  return read_state();
}

Result<VcpuState> SoftwareVcpu::read_state() {
  VcpuBlock& block = core_.block();
  VcpuState state;
  BYGONE_ASSIGN(state.general, general_registers());
  BYGONE_ASSIGN(state.system, system_registers());
  state.debug = block.debug;
  state.extended.xsave = xsave_image(block);
  for (const std::uint32_t index : kSavedMsrs) {
    std::uint64_t value = 0;
    if (core_.get_own_msr(index, value)) state.msrs.push_back({index, value});
  }
  if (core_.apic() != nullptr) {
    state.local_apic = core_.apic()->save();  // first: it raises what is due, and clears the deadline then
    if (const auto deadline = core_.apic()->read_msr(msr::kTscDeadline)) state.msrs.push_back({msr::kTscDeadline, *deadline});
  }
  state.events.pending_nmis = (block.attention.load() & kAttentionNmi) != 0 ? nmis_with_one_more(block) : block.pending_nmis;
  state.events.nmi_masked = block.nmi_masked != 0;
  state.events.interrupt_shadow = block.interrupt_shadow != 0;
  state.events.activity = static_cast<ActivityState>(block.activity);
  if (injected_) {
    state.events.has_exception = true;
    state.events.exception_vector = injected_->vector;
    state.events.has_error_code = injected_->has_error_code;
    state.events.error_code = injected_->error_code;
  }
  return state;
}

Result<void> SoftwareVcpu::restore_state(const VcpuState& state) {
  VcpuBlock& block = core_.block();
  core_.abandon_exit();
  is_exit_unseen_ = false;
  BYGONE_CHECK(set_system_registers(state.system));
  BYGONE_CHECK(set_general_registers(state.general));
  block.debug = state.debug;
  if (state.extended.xsave.empty()) {
    block.vector = {};
  } else {
    BYGONE_CHECK(load_xsave_image(block, state.extended.xsave));
  }
  std::optional<std::uint64_t> deadline;
  for (const MsrValue& value : state.msrs) {
    if (value.index == msr::kTscDeadline) {
      deadline = value.value;
    } else if (value.index == kMsrTimeStampCounter) {
      block.tsc_offset = time_stamps_->offset_for(index(), value.value, __rdtsc());
    } else {
      static_cast<void>(core_.set_own_msr(value.index, value.value));
    }
  }
  if (core_.apic() != nullptr) {
    LocalApicState apic = state.local_apic;
    if (state.events.interrupt_vector) take_back_interrupt(apic, *state.events.interrupt_vector);
    core_.apic()->restore(apic);
    if (deadline) static_cast<void>(core_.apic()->write_msr(msr::kTscDeadline, *deadline));
  }
  block.pending_nmis = state.events.pending_nmis;
  block.nmi_masked = state.events.nmi_masked ? 1 : 0;
  block.interrupt_shadow = state.events.interrupt_shadow ? 1 : 0;
  block.activity = static_cast<std::uint8_t>(state.events.activity);
  injected_.reset();
  if (state.events.has_exception) {
    injected_ = FaultInfo{state.events.exception_vector, state.events.has_error_code, state.events.error_code, block.cr2};
  }
  block.attention.fetch_and(~std::uint32_t{kAttentionShutdown | kAttentionInit | kAttentionStartUp | kAttentionNmi});
  block.attention.fetch_or(kAttentionInterrupt);
  mmu::flush_all(block);
  mmu::update_mode(block);
  core_.forget_fetch();
  return {};
}

Result<GeneralRegisters> SoftwareVcpu::general_registers() {
  const VcpuBlock& block = core_.block();
  return GeneralRegisters{block.gpr, block.rip, block.rflags};
}

Result<void> SoftwareVcpu::set_general_registers(const GeneralRegisters& registers) {
  VcpuBlock& block = core_.block();
  block.gpr = registers.gpr;
  block.rip = registers.rip;
  block.rflags = (registers.rflags & 0x3F'7FD7) | rflags::kFixed;
  mmu::update_mode(block);
  core_.forget_fetch();
  return {};
}

Result<SystemRegisters> SoftwareVcpu::system_registers() {
  const VcpuBlock& block = core_.block();
  SystemRegisters registers;
  registers.segments = block.segments;
  registers.task = block.task;
  registers.local_descriptor_table = block.ldt;
  registers.gdt = block.gdt;
  registers.idt = block.idt;
  registers.cr0 = block.cr0;
  registers.cr2 = block.cr2;
  registers.cr3 = block.cr3;
  registers.cr4 = block.cr4;
  registers.efer = block.efer;
  registers.xcr0 = block.xcr0;
  if (core_.apic() != nullptr) {
    registers.cr8 = core_.apic()->read_cr8();
    registers.apic_base = core_.apic()->read_msr(msr::kApicBase).value_or(0);
  }
  return registers;
}

Result<void> SoftwareVcpu::set_system_registers(const SystemRegisters& registers) {
  VcpuBlock& block = core_.block();
  block.segments = registers.segments;
  block.task = registers.task;
  block.ldt = registers.local_descriptor_table;
  block.gdt = registers.gdt;
  block.idt = registers.idt;
  block.cr0 = registers.cr0 | cr0::kEt;
  block.cr2 = registers.cr2;
  block.cr3 = registers.cr3;
  block.cr4 = registers.cr4;
  block.efer = registers.efer;
  if ((block.efer & efer::kLme) != 0 && (block.cr0 & cr0::kPg) != 0) block.efer |= efer::kLma;
  block.xcr0 = registers.xcr0 == 0 ? 1 : registers.xcr0;
  // The privilege level is the stack segment's (SDM volume 3, 24.4.1); in real mode 0, in virtual-8086 mode 3.
  const Segment& stack = block.segments[static_cast<std::size_t>(SegmentName::kSs)];
  const Segment& code = block.segments[static_cast<std::size_t>(SegmentName::kCs)];
  if ((block.cr0 & cr0::kPe) == 0) {
    block.cpl = 0;
  } else if ((stack.attributes & kSegmentUnusable) != 0) {
    block.cpl = code.selector & 3;
  } else {
    block.cpl = (stack.attributes >> 5) & 3;
  }
  if (core_.apic() != nullptr) {
    if (registers.apic_base != 0) static_cast<void>(core_.apic()->write_msr(msr::kApicBase, registers.apic_base));
    core_.apic()->write_cr8(registers.cr8);
  }
  mmu::flush_all(block);
  mmu::update_mode(block);
  core_.forget_fetch();
  return {};
}

Result<void> SoftwareVcpu::reset() {
  injected_.reset();
  is_exit_unseen_ = false;
  core_.reset(false);
  return {};
}

Result<void> SoftwareVcpu::inject_exception(std::uint8_t vector, std::optional<std::uint32_t> error_code) {
  injected_ = FaultInfo{vector, error_code.has_value(), error_code.value_or(0), core_.block().cr2};
  return {};
}

Result<void> SoftwareVcpu::set_breakpoints(std::span<const std::uint64_t> addresses, bool single_step) {
  core_.set_breakpoints({addresses.begin(), addresses.end()}, single_step);
  return {};
}

Result<std::optional<memory::Gpa>> SoftwareVcpu::translate(std::uint64_t linear) {
  std::uint64_t physical = 0;
  if (!mmu::translate_for_debugger(core_.block(), linear, physical)) return std::optional<memory::Gpa>{};
  return std::optional<memory::Gpa>{memory::Gpa{physical}};
}

}  // namespace bygone::cpu::translator
