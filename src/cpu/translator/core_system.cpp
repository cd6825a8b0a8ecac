// Control registers, reset, halts, hypercalls, the live fields of CPUID, flags that change modes.
#include <cstring>

#include "cpu/translator/core.h"
#include "cpu/translator/msr_index.h"
#include "cpu/translator/xsave.h"

namespace bygone::cpu::translator {

namespace {

/// Paging with entries of 64 bits under 32-bit code reads its four pointers when CR3 is loaded, and refuses them then. SDM volume 3, 4.4.1.
bool has_bad_pointers(const VcpuBlock& block, std::uint64_t cr3) {
  constexpr std::uint64_t kPresentPointer = 1;
  constexpr std::uint64_t kReserved = 0x1E6 | ~((std::uint64_t{1} << 46) - 1);
  constexpr std::uint64_t kTable = 0xFFFF'FFE0;
  for (std::uint64_t i = 0; i < 4; ++i) {
    const std::uint8_t* place = block.physical->find((cr3 & kTable) + 8 * i).host;
    if (place == nullptr) continue;
    std::uint64_t pointer = 0;
    std::memcpy(&pointer, place, sizeof pointer);
    if ((pointer & kPresentPointer) != 0 && (pointer & kReserved) != 0) return true;
  }
  return false;
}

}  // namespace

bool Core::condition(std::uint8_t code) const {
  const std::uint64_t flags = block_->rflags;
  const bool carry = (flags & rflags::kCf) != 0;
  const bool zero = (flags & rflags::kZf) != 0;
  const bool sign = (flags & rflags::kSf) != 0;
  const bool overflow = (flags & rflags::kOf) != 0;
  bool value = false;
  switch (code >> 1) {
    case 0: value = overflow; break;
    case 1: value = carry; break;
    case 2: value = zero; break;
    case 3: value = carry || zero; break;
    case 4: value = sign; break;
    case 5: value = (flags & rflags::kPf) != 0; break;
    case 6: value = sign != overflow; break;
    default: value = zero || sign != overflow; break;
  }
  return value != ((code & 1) != 0);
}

void Core::write_rflags(std::uint64_t value, std::uint64_t mask) {
  constexpr std::uint64_t kModeFlags = rflags::kTf | rflags::kAc | rflags::kVm;
  const std::uint64_t old = block_->rflags;
  block_->rflags = ((old & ~mask) | (value & mask)) | rflags::kFixed;
  if (((old ^ block_->rflags) & kModeFlags) != 0) mmu::update_mode(*block_);
}

void Core::write_cr0(std::uint64_t value) {
  constexpr std::uint64_t kKnown = cr0::kPe | cr0::kMp | cr0::kEm | cr0::kTs | cr0::kEt | cr0::kNe | cr0::kWp | cr0::kAm | cr0::kNw |
                                   cr0::kCd | cr0::kPg;
  if ((value >> 32) != 0) raise_gp();
  value = (value & kKnown) | cr0::kEt;
  if ((value & cr0::kPg) != 0 && (value & cr0::kPe) == 0) raise_gp();
  if ((value & cr0::kNw) != 0 && (value & cr0::kCd) == 0) raise_gp();
  const std::uint64_t old = block_->cr0;
  if (((old ^ value) & cr0::kPg) != 0) {
    if ((value & cr0::kPg) != 0 && (block_->efer & efer::kLme) != 0) {
      if ((block_->cr4 & cr4::kPae) == 0 || (segment(SegmentName::kCs).attributes & kSegmentLong) != 0) raise_gp();
      block_->efer |= efer::kLma;
    } else if ((value & cr0::kPg) != 0) {
      if ((block_->cr4 & cr4::kPae) != 0 && has_bad_pointers(*block_, block_->cr3)) raise_gp();
    } else {
      if (is_64() || (block_->cr4 & cr4::kPcide) != 0) raise_gp();
      block_->efer &= ~efer::kLma;
    }
  }
  block_->cr0 = value;
  if (((old ^ value) & (cr0::kPg | cr0::kWp | cr0::kPe)) != 0) mmu::flush_all(*block_);
  mmu::update_mode(*block_);
  forget_fetch();
}

void Core::write_cr3(std::uint64_t value) {
  constexpr std::uint64_t kKeep = std::uint64_t{1} << 63, kPcid = 0xFFF;
  const bool has_pcids = (block_->cr4 & cr4::kPcide) != 0;
  const bool keeps = has_pcids && (value & kKeep) != 0;
  if (has_pcids) value &= ~kKeep;
  if (in_long_mode() && (value >> 46) != 0) raise_gp();
  const bool has_pointers = !in_long_mode() && (block_->cr0 & cr0::kPg) != 0 && (block_->cr4 & cr4::kPae) != 0;
  if (has_pointers && has_bad_pointers(*block_, value)) raise_gp();
  const auto from = static_cast<std::uint16_t>(block_->cr3 & kPcid);
  const auto to = static_cast<std::uint16_t>(value & kPcid);
  block_->cr3 = value;
  if (has_pcids && from != to) {
    mmu::change_address_space(*block_, from, to, keeps);
  } else if (!keeps) {
    mmu::flush_non_global(*block_);
  }
}

void Core::write_cr4(std::uint64_t value) {
  constexpr std::uint64_t kKnown = cr4::kTsd | cr4::kDe | cr4::kPse | cr4::kPae | cr4::kMce | cr4::kPge | cr4::kPce |
                                   cr4::kOsfxsr | cr4::kOsxmmexcpt | cr4::kUmip | cr4::kFsgsbase | cr4::kPcide | cr4::kOsxsave |
                                   cr4::kSmep | cr4::kSmap;
  if ((value & ~kKnown) != 0) raise_gp();
  if (in_long_mode() && (value & cr4::kPae) == 0) raise_gp();
  const std::uint64_t changed = block_->cr4 ^ value;
  if ((changed & cr4::kPcide) != 0 && (value & cr4::kPcide) != 0 && (!in_long_mode() || (block_->cr3 & 0xFFF) != 0)) raise_gp();
  const bool turns_pointers_on = (changed & value & cr4::kPae) != 0 && (block_->cr0 & cr0::kPg) != 0;
  if (turns_pointers_on && has_bad_pointers(*block_, block_->cr3)) raise_gp();
  block_->cr4 = value;
  constexpr std::uint64_t kPaging = cr4::kPse | cr4::kPae | cr4::kPge | cr4::kPcide | cr4::kSmep | cr4::kSmap;
  if ((changed & kPaging) != 0) mmu::flush_all(*block_);
  mmu::update_mode(*block_);
}

void Core::halt() {
  block_->activity = static_cast<std::uint8_t>(ActivityState::kHalted);
  block_->attention.fetch_or(kAttentionInterrupt);  // look at the APIC once more before sleeping
}

void Core::hypercall() {
  if (block_->cpl != 0) raise_ud();
  HypercallExit call;
  call.is_long_mode = is_64();
  const auto low = [&](Gpr which) { return gpr(which) & 0xFFFF'FFFF; };
  if (call.is_long_mode) {
    call.control = gpr(Gpr::kRcx);
    call.input = gpr(Gpr::kRdx);
    call.output = gpr(Gpr::kR8);
  } else {
    call.control = (low(Gpr::kRdx) << 32) | low(Gpr::kRax);
    call.input = (low(Gpr::kRbx) << 32) | low(Gpr::kRcx);
    call.output = (low(Gpr::kRdi) << 32) | low(Gpr::kRsi);
  }
  for (std::size_t i = 0; i < call.xmm.size(); ++i) std::memcpy(call.xmm[i].data(), block_->vector.zmm[i].data(), 16);
  exit_ = call;
  leave();
}

CpuidResult Core::cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  CpuidResult result;
  if (shared_.cpuid != nullptr) result = shared_.cpuid->query(leaf, subleaf);
  switch (leaf) {
    case 1:
      result.ebx = (result.ebx & 0x00FF'FFFF) | (index_.value << 24);
      if (apic_ != nullptr && (apic_->read_msr(msr::kApicBase).value_or(0) & (1U << 11)) == 0) result.edx &= ~(1U << 9);
      result.ecx = (block_->cr4 & cr4::kOsxsave) != 0 ? result.ecx | (1U << 27) : result.ecx & ~(1U << 27);
      break;
    case 0xB:
    case 0x1F: result.edx = index_.value; break;
    case 0xD:
      if (subleaf == 0) result.ebx = xsave::standard_size(block_->xcr0);
      if (subleaf == 1) result.ebx = xsave::compacted_size(block_->xcr0 | block_->msrs.xss);
      break;
    case 0x8000'001E: result.eax = index_.value; break;
    default: break;
  }
  return result;
}

void Core::reset(bool is_init) {
  VcpuBlock& block = *block_;
  block.gpr = {};
  if (shared_.cpuid != nullptr) block.gpr[2] = shared_.cpuid->query(1, 0).eax;
  block.rip = 0xFFF0;
  block.rflags = rflags::kFixed;
  block.interrupt_shadow = 0;
  for (Segment& place : block.segments) place = {0, 0xFFFF, 0, 0x93};
  segment(SegmentName::kCs) = {0xFFFF'0000, 0xFFFF, 0xF000, 0x9B};
  block.task = {0, 0xFFFF, 0, 0x8B};
  block.ldt = {0, 0xFFFF, 0, 0x82};
  block.gdt = block.idt = {0, 0xFFFF};
  block.cr0 = is_init ? (block.cr0 & (cr0::kCd | cr0::kNw)) | cr0::kEt : cr0::kCd | cr0::kNw | cr0::kEt;
  block.cr2 = block.cr3 = block.cr4 = block.efer = 0;
  block.cpl = 0;
  block.nmi_masked = block.pending_nmis = 0;
  block.debug = {};
  block.fault = {};
  if (!is_init) {
    block.xcr0 = 1;
    block.msrs = {};
    block.vector = {};
    block.tsc_offset = 0;
    block.attention.store(0);
  }
  const bool boots = index_.value == 0;
  block.activity = static_cast<std::uint8_t>(boots ? ActivityState::kRunning : ActivityState::kWaitForSipi);
  exit_pending_ = false;
  block_->interrupt_held = 0;
  answers_count_ = answers_used_ = 0;
  if (apic_ != nullptr) apic_->reset(is_init);
  mmu::flush_all(block);
  mmu::update_mode(block);
  forget_fetch();
}

}  // namespace bygone::cpu::translator
