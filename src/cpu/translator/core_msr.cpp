// Model-specific registers that the engine keeps; everything else is the machine's (MsrExit).
#include <x86intrin.h>

#include "cpu/translator/core.h"
#include "cpu/translator/msr_index.h"

namespace bygone::cpu::translator {
namespace {

bool is_apic_register(std::uint32_t index) {
  return index == msr::kApicBase || index == msr::kTscDeadline || (index >= msr::kX2ApicFirst && index <= msr::kX2ApicLast);
}

bool is_canonical(std::uint64_t linear) {
  const auto top = static_cast<std::int64_t>(linear) >> 47;
  return top == 0 || top == -1;
}

/// Registers that are plain storage: any value may be written.
std::uint64_t* plain_register(VcpuBlock& block, std::uint32_t index) {
  MsrFile& file = block.msrs;
  switch (index) {
    case msr::kStar: return &file.star;
    case msr::kSfmask: return &file.sfmask;
    case msr::kSysenterCs: return &file.sysenter_cs;
    case msr::kTscAux: return &file.tsc_aux;
    case msr::kMiscEnable: return &file.misc_enable;
    case msr::kMtrrDefaultType: return &file.mtrr_default_type;
    case msr::kDebugControl: return &file.debug_control;
    case msr::kSpeculationControl: return &file.speculation_control;
    case msr::kMicrocode: return &file.microcode_revision;
    case msr::kMtrrFixed64K: return &file.mtrr_fixed[0];
    case msr::kMtrrFixed16K: return &file.mtrr_fixed[1];
    case msr::kMtrrFixed16K + 1: return &file.mtrr_fixed[2];
    default: break;
  }
  if (index >= msr::kMtrrVariable && index < msr::kMtrrVariable + file.mtrr_variable.size()) {
    return &file.mtrr_variable[index - msr::kMtrrVariable];
  }
  if (index >= msr::kMtrrFixed4K && index < msr::kMtrrFixed4K + 8) return &file.mtrr_fixed[3 + index - msr::kMtrrFixed4K];
  return nullptr;
}

/// Registers that hold a linear address: #GP for one that is not canonical.
std::uint64_t* address_register(VcpuBlock& block, std::uint32_t index) {
  switch (index) {
    case msr::kLstar: return &block.msrs.lstar;
    case msr::kCstar: return &block.msrs.cstar;
    case msr::kSysenterEsp: return &block.msrs.sysenter_esp;
    case msr::kSysenterEip: return &block.msrs.sysenter_eip;
    case msr::kKernelGsBase: return &block.msrs.kernel_gs_base;
    case msr::kFsBase: return &block.segments[static_cast<std::size_t>(SegmentName::kFs)].base;
    case msr::kGsBase: return &block.segments[static_cast<std::size_t>(SegmentName::kGs)].base;
    default: return nullptr;
  }
}

}  // namespace

bool Core::get_own_msr(std::uint32_t index, std::uint64_t& value) {
  if (const std::uint64_t* place = plain_register(*block_, index)) {
    value = *place;
    return true;
  }
  if (const std::uint64_t* place = address_register(*block_, index)) {
    value = *place;
    return true;
  }
  switch (index) {
    case msr::kTsc: value = guest_tsc(); return true;
    case msr::kTscAdjust: value = 0; return true;
    case msr::kEfer: value = block_->efer; return true;
    case msr::kPat: value = block_->msrs.pat; return true;
    case msr::kXss: value = block_->msrs.xss; return true;
    case msr::kMtrrCapabilities: value = 0x508; return true;  // 8 variable ranges, fixed ranges, write-combining
    case msr::kMachineCheckCapabilities:
    case msr::kMachineCheckStatus: value = 0; return true;
    case msr::kAmdHardwareConfiguration: value = std::uint64_t{1} << 24; return true;  // TSC runs at the P0 rate
    case msr::kAmdDecodeConfiguration: value = 2; return true;                         // LFENCE serialises
    default: return false;
  }
}

bool Core::set_own_msr(std::uint32_t index, std::uint64_t value) {
  if (std::uint64_t* place = plain_register(*block_, index)) {
    *place = value;
    return true;
  }
  if (std::uint64_t* place = address_register(*block_, index)) {
    *place = value;
    return true;
  }
  switch (index) {
    case msr::kTsc: block_->tsc_offset = value - __rdtsc(); return true;
    case msr::kEfer:
      block_->efer = value;
      mmu::flush_all(*block_);
      mmu::update_mode(*block_);
      return true;
    case msr::kPat: block_->msrs.pat = value; return true;
    case msr::kXss: block_->msrs.xss = value; return true;
    case msr::kTscAdjust:
    case msr::kMachineCheckStatus:
    case msr::kPredictionCommand:
    case msr::kAmdPatchLoader:
    case msr::kAmdHardwareConfiguration:
    case msr::kAmdDecodeConfiguration: return true;
    default: return false;
  }
}

std::uint64_t Core::read_msr(std::uint32_t index) {
  if (apic_ != nullptr && is_apic_register(index)) {
    const auto value = apic_->read_msr(index);
    if (!value) raise_gp();
    return *value;
  }
  std::uint64_t value = 0;
  if (get_own_msr(index, value)) return value;
  MsrExit request;
  request.index = index;
  exit_ = request;
  leave();
}

void Core::write_msr(std::uint32_t index, std::uint64_t value) {
  if (apic_ != nullptr && is_apic_register(index)) {
    if (!apic_->write_msr(index, value)) raise_gp();
    return;
  }
  if (address_register(*block_, index) != nullptr && !is_canonical(value)) raise_gp();
  if (index == msr::kEfer) {
    constexpr std::uint64_t kAutomaticIbrs = 1U << 21;
    constexpr std::uint64_t kKnown = efer::kSce | efer::kLme | efer::kLma | efer::kNxe | efer::kFfxsr | kAutomaticIbrs;
    if ((value & ~kKnown) != 0) raise_gp();
    if (((value ^ block_->efer) & efer::kLme) != 0 && (block_->cr0 & cr0::kPg) != 0) raise_gp();
    value = (value & ~efer::kLma) | (block_->efer & efer::kLma);
  }
  if (index == msr::kPat) {
    for (unsigned i = 0; i < 8; ++i) {
      const std::uint64_t type = (value >> (8 * i)) & 0xFF;
      if (type > 7 || type == 2 || type == 3) raise_gp();
    }
  }
  if (index == msr::kXss && value != 0) raise_gp();
  if (set_own_msr(index, value)) return;
  MsrExit request;
  request.index = index;
  request.is_write = true;
  request.value = value;
  exit_ = request;
  leave();
}

}  // namespace bygone::cpu::translator
