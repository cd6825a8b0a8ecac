// Control and segment registers, tables, MSRs, ports, CPUID, time, cache and TLB control, hypercalls.
#include <x86intrin.h>

#include "cpu/translator/handlers.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint64_t low32(std::uint64_t value) { return value & 0xFFFF'FFFF; }

void need_cpl0(Core& core) {
  if (core.block().cpl != 0) core.raise_gp();
}

void need_protected(Core& core) {
  if (!core.is_protected() || core.is_virtual_8086()) core.raise_ud();
}

void check_umip(Core& core) {
  if ((core.block().cr4 & cr4::kUmip) != 0 && core.block().cpl != 0) core.raise_gp();
}

void halt(Core& core, const Decoded&) {
  need_cpl0(core);
  core.halt();
}

void identify(Core& core, const Decoded&) {
  const CpuidResult result =
      core.cpuid(static_cast<std::uint32_t>(core.gpr(Gpr::kRax)), static_cast<std::uint32_t>(core.gpr(Gpr::kRcx)));
  core.gpr(Gpr::kRax) = result.eax;
  core.gpr(Gpr::kRbx) = result.ebx;
  core.gpr(Gpr::kRcx) = result.ecx;
  core.gpr(Gpr::kRdx) = result.edx;
  core.forget_fetch();  // serialising: code changed by another processor is seen from here on
}

void read_time(Core& core, const Decoded& decoded) {
  if ((core.block().cr4 & cr4::kTsd) != 0 && core.block().cpl != 0) core.raise_gp();
  const std::uint64_t now = core.guest_tsc();
  core.gpr(Gpr::kRax) = low32(now);
  core.gpr(Gpr::kRdx) = now >> 32;
  if (decoded.mnemonic == ZYDIS_MNEMONIC_RDTSCP) core.gpr(Gpr::kRcx) = low32(core.block().msrs.tsc_aux);
}

void read_processor_id(Core& core, const Decoded& decoded) {
  core.write_register(decoded.reg, core.is_64() ? 8 : 4, core.block().msrs.tsc_aux);
}

void read_performance_counter(Core& core, const Decoded&) { core.raise_gp(); }

void read_model_register(Core& core, const Decoded&) {
  need_cpl0(core);
  const std::uint64_t value = core.read_msr(static_cast<std::uint32_t>(core.gpr(Gpr::kRcx)));
  core.gpr(Gpr::kRax) = low32(value);
  core.gpr(Gpr::kRdx) = value >> 32;
}

void write_model_register(Core& core, const Decoded&) {
  need_cpl0(core);
  core.write_msr(static_cast<std::uint32_t>(core.gpr(Gpr::kRcx)), (core.gpr(Gpr::kRdx) << 32) | low32(core.gpr(Gpr::kRax)));
}

// ---- MOV with control, debug and segment registers; Decoded::condition holds the opcode ----

std::uint64_t read_control(Core& core, unsigned number) {
  const VcpuBlock& block = core.block();
  switch (number) {
    case 0: return block.cr0;
    case 2: return block.cr2;
    case 3: return block.cr3;
    case 4: return block.cr4;
    case 8: return core.apic() != nullptr ? core.apic()->read_cr8() : 0;
    default: core.raise_ud();
  }
}

void write_control(Core& core, unsigned number, std::uint64_t value) {
  switch (number) {
    case 0: core.write_cr0(value); break;
    case 2: core.block().cr2 = value; break;
    case 3: core.write_cr3(value); break;
    case 4: core.write_cr4(value); break;
    case 8:
      if (value > 15) core.raise_gp();
      if (core.apic() != nullptr) core.apic()->write_cr8(value);
      break;
    default: core.raise_ud();
  }
}

unsigned debug_number(Core& core, unsigned number) {
  if (number == 4 || number == 5) {
    if ((core.block().cr4 & cr4::kDe) != 0) core.raise_ud();
    return number + 2;
  }
  if (number > 7) core.raise_ud();
  return number;
}

/// General detection: the debugger wants to see who touches its registers.
void detect_debug_access(Core& core) {
  constexpr std::uint64_t kGeneralDetect = 1U << 13;  // of DR7
  constexpr std::uint64_t kDetected = 1U << 13;       // of DR6
  if ((core.block().debug.dr7 & kGeneralDetect) == 0) return;
  core.block().debug.dr6 |= kDetected;
  core.raise(vector::kDb);
}

std::uint64_t read_debug(Core& core, unsigned number) {
  number = debug_number(core, number);
  if (number < 4) return core.block().debug.dr[number];
  return number == 6 ? core.block().debug.dr6 : core.block().debug.dr7;
}

void write_debug(Core& core, unsigned number, std::uint64_t value) {
  number = debug_number(core, number);
  VcpuBlock& block = core.block();
  if (number < 4) {
    block.debug.dr[number] = value;
  } else if (number == 6) {
    block.debug.dr6 = (value & 0xE00F) | 0xFFFF'0FF0;
  } else {
    block.debug.dr7 = (value & 0xFFFF'2BFF) | 0x400;
    mmu::update_mode(block);
    mmu::flush_all(block);  // data breakpoints work on what the TLB does not hold
  }
}

void move_special(Core& core, const Decoded& decoded) {
  const std::uint8_t width = core.is_64() ? 8 : 4;
  switch (decoded.condition) {
    case 0x20:
      need_cpl0(core);
      core.write_register(decoded.reg, width, read_control(core, decoded.rm));
      break;
    case 0x22:
      need_cpl0(core);
      write_control(core, decoded.reg, core.read_register(decoded.rm, width));
      break;
    case 0x21:
      need_cpl0(core);
      detect_debug_access(core);
      core.write_register(decoded.reg, width, read_debug(core, decoded.rm));
      break;
    case 0x23:
      need_cpl0(core);
      detect_debug_access(core);
      write_debug(core, decoded.reg, core.read_register(decoded.rm, width));
      break;
    case 0x8C: {
      const unsigned number = decoded.is_memory != 0 ? decoded.reg : decoded.rm;
      const std::uint16_t selector = core.block().segments[number].selector;
      if (decoded.is_memory != 0) {
        core.write<std::uint16_t>(core.memory_operand(decoded, 2, Access::kWrite), selector);
      } else {
        core.write_register(decoded.reg, decoded.operand_size, selector);
      }
      break;
    }
    case 0x8E: {
      const auto name = static_cast<SegmentName>(decoded.reg);
      if (name == SegmentName::kCs || decoded.reg > 5) core.raise_ud();
      const auto selector = static_cast<std::uint16_t>(
          decoded.is_memory != 0 ? core.read<std::uint16_t>(core.memory_operand(decoded, 2, Access::kRead)) : core.read_register(decoded.rm, 2));
      core.load_segment(name, selector);
      if (name == SegmentName::kSs) core.block().interrupt_shadow = 2;
      break;
    }
    default: core.raise_ud();
  }
}

void push_segment(Core& core, unsigned number, std::uint8_t size) { core.push(core.block().segments[number].selector, size); }

void pop_segment(Core& core, unsigned number, std::uint8_t size) {
  const auto selector = static_cast<std::uint16_t>(core.peek(0, size));
  const auto name = static_cast<SegmentName>(number);
  const std::uint64_t pointer = core.gpr(Gpr::kRsp) + size;
  const std::uint64_t mask = core.stack_mask();  // of the old stack, should SS change
  core.load_segment(name, selector);
  std::uint64_t& rsp = core.gpr(Gpr::kRsp);
  rsp = mask == 0xFFFF ? (rsp & ~mask) | (pointer & mask) : pointer & mask;
  if (name == SegmentName::kSs) core.block().interrupt_shadow = 2;
}

/// LDS, LES, LFS, LGS, LSS.
void load_far_pointer(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t linear = core.memory_operand(decoded, size + 2U, Access::kRead);
  const std::uint64_t offset = core.read_sized(linear, size);
  const std::uint16_t selector = core.read<std::uint16_t>(linear + size);
  SegmentName name = SegmentName::kDs;
  if (decoded.mnemonic == ZYDIS_MNEMONIC_LES) name = SegmentName::kEs;
  if (decoded.mnemonic == ZYDIS_MNEMONIC_LFS) name = SegmentName::kFs;
  if (decoded.mnemonic == ZYDIS_MNEMONIC_LGS) name = SegmentName::kGs;
  if (decoded.mnemonic == ZYDIS_MNEMONIC_LSS) name = SegmentName::kSs;
  core.load_segment(name, selector);
  core.write_register(decoded.reg, size, offset);
}

void load_table(Core& core, const Decoded& decoded) {
  need_cpl0(core);
  const std::uint64_t linear = core.memory_operand(decoded, core.is_64() ? 10 : 6, Access::kRead);
  const std::uint16_t limit = core.read<std::uint16_t>(linear);
  std::uint64_t base = core.is_64() ? core.read<std::uint64_t>(linear + 2) : core.read<std::uint32_t>(linear + 2);
  if (!core.is_64() && decoded.native == 2) base &= 0xFF'FFFF;  // a 16-bit operand size
  (decoded.mnemonic == ZYDIS_MNEMONIC_LGDT ? core.block().gdt : core.block().idt) = {base, limit};
}

void store_table(Core& core, const Decoded& decoded) {
  check_umip(core);
  const std::uint32_t size = core.is_64() ? 10 : 6;
  const std::uint64_t linear = core.memory_operand(decoded, size, Access::kWrite);
  const TableRegister& table = decoded.mnemonic == ZYDIS_MNEMONIC_SGDT ? core.block().gdt : core.block().idt;
  std::array<std::uint8_t, 10> image;
  std::memcpy(image.data(), &table.limit, 2);
  std::memcpy(image.data() + 2, &table.base, 8);
  core.write_bytes(linear, image.data(), size);
}

std::uint16_t selector_operand(Core& core, const Decoded& decoded) {
  if (decoded.is_memory != 0) return core.read<std::uint16_t>(core.memory_operand(decoded, 2, Access::kRead));
  return static_cast<std::uint16_t>(core.read_register(decoded.reg, 2));
}

void store_selector(Core& core, const Decoded& decoded, std::uint64_t value) {
  if (decoded.is_memory != 0) {
    core.write<std::uint16_t>(core.memory_operand(decoded, 2, Access::kWrite), static_cast<std::uint16_t>(value));
  } else {
    core.write_register(decoded.reg, decoded.operand_size, value);
  }
}

void load_task_register(Core& core, const Decoded& decoded) {
  need_protected(core);
  need_cpl0(core);
  core.load_task(selector_operand(core, decoded));
}
void load_local_table(Core& core, const Decoded& decoded) {
  need_protected(core);
  need_cpl0(core);
  core.load_local_descriptor_table(selector_operand(core, decoded));
}
void store_task_register(Core& core, const Decoded& decoded) {
  need_protected(core);
  check_umip(core);
  store_selector(core, decoded, core.block().task.selector);
}
void store_local_table(Core& core, const Decoded& decoded) {
  need_protected(core);
  check_umip(core);
  store_selector(core, decoded, core.block().ldt.selector);
}
void store_machine_status(Core& core, const Decoded& decoded) {
  check_umip(core);
  store_selector(core, decoded, core.block().cr0);
}
void load_machine_status(Core& core, const Decoded& decoded) {
  need_cpl0(core);
  const std::uint64_t value = selector_operand(core, decoded);
  const std::uint64_t sticky = core.block().cr0 & cr0::kPe;  // it can be set this way, not cleared
  core.write_cr0((core.block().cr0 & ~std::uint64_t{0xF}) | (value & 0xF) | sticky);
}
void clear_task_switched(Core& core, const Decoded&) {
  need_cpl0(core);
  core.block().cr0 &= ~cr0::kTs;
  mmu::update_mode(core.block());
}

/// LAR, LSL, VERR, VERW: the descriptor when the selector may be looked at.
bool visible_descriptor(Core& core, std::uint16_t selector, Core::Descriptor& descriptor) {
  if ((selector & 0xFFFC) == 0 || !core.try_read_descriptor(selector, descriptor)) return false;
  const bool conforming_code = descriptor.is_code() && descriptor.conforming();
  return conforming_code || (descriptor.dpl() >= core.block().cpl && descriptor.dpl() >= (selector & 3U));
}

std::uint16_t second_selector(Core& core, const Decoded& decoded) {
  if (decoded.is_memory != 0) return core.read<std::uint16_t>(core.memory_operand(decoded, 2, Access::kRead));
  return static_cast<std::uint16_t>(core.read_register(decoded.rm, 2));
}

void load_access_rights(Core& core, const Decoded& decoded) {
  need_protected(core);
  const std::uint16_t selector = second_selector(core, decoded);
  Core::Descriptor descriptor;
  bool valid = visible_descriptor(core, selector, descriptor);
  if (valid && descriptor.is_system()) {
    const unsigned type = descriptor.type();
    const unsigned allowed = core.in_long_mode() ? 0x1A04 : 0x1A3E;  // LDT, TSS, call gates (and task gates and 16-bit ones)
    valid = ((allowed >> type) & 1) != 0;
  }
  if (valid) core.write_register(decoded.reg, decoded.operand_size, (descriptor.raw >> 32) & 0x00FF'FF00);
  core.set_flags(rflags::kZf, valid ? rflags::kZf : 0);
}

void load_segment_limit(Core& core, const Decoded& decoded) {
  need_protected(core);
  const std::uint16_t selector = second_selector(core, decoded);
  Core::Descriptor descriptor;
  bool valid = visible_descriptor(core, selector, descriptor);
  if (valid && descriptor.is_system()) {
    const unsigned allowed = core.in_long_mode() ? 0x0A04 : 0x0A0E;
    valid = ((allowed >> descriptor.type()) & 1) != 0;
  }
  if (valid) core.write_register(decoded.reg, decoded.operand_size, descriptor.limit);
  core.set_flags(rflags::kZf, valid ? rflags::kZf : 0);
}

void verify_segment(Core& core, const Decoded& decoded) {
  need_protected(core);
  const std::uint16_t selector = selector_operand(core, decoded);
  Core::Descriptor descriptor;
  bool valid = visible_descriptor(core, selector, descriptor) && !descriptor.is_system();
  if (valid) {
    valid = decoded.mnemonic == ZYDIS_MNEMONIC_VERR ? !descriptor.is_code() || (descriptor.attributes & 2) != 0 : descriptor.writable_data();
  }
  core.set_flags(rflags::kZf, valid ? rflags::kZf : 0);
}

void adjust_rpl(Core& core, const Decoded& decoded) {
  need_protected(core);
  // ARPL r/m16, r16
  const bool memory = decoded.is_memory != 0;
  const std::uint64_t linear = memory ? core.memory_operand(decoded, 2, Access::kWrite) : 0;
  const auto target = static_cast<std::uint16_t>(memory ? core.read<std::uint16_t>(linear) : core.read_register(decoded.reg, 2));
  const auto model = static_cast<std::uint16_t>(core.read_register(memory ? decoded.reg : decoded.rm, 2));
  const bool raises = (target & 3) < (model & 3);
  if (raises) {
    const auto value = static_cast<std::uint16_t>((target & 0xFFFC) | (model & 3));
    if (memory) core.write<std::uint16_t>(linear, value); else core.write_register(decoded.reg, 2, value);
  }
  core.set_flags(rflags::kZf, raises ? rflags::kZf : 0);
}

void invalidate_page(Core& core, const Decoded& decoded) {
  need_cpl0(core);
  const std::uint64_t offset = core.effective_offset(decoded);
  const std::uint64_t linear = core.is_64() && decoded.segment < 4 ? offset : core.block().segments[decoded.segment].base + offset;
  mmu::flush_page(core.block(), core.is_64() ? linear : low32(linear));
}

/// INVPCID (SDM volume 2): one address of an address space, one address space, all with global pages, all without them.
void invalidate_context(Core& core, const Decoded& decoded) {
  need_cpl0(core);
  const std::uint64_t type = core.read_register(decoded.reg, core.is_64() ? 8 : 4);
  const std::uint64_t linear = core.memory_operand(decoded, 16, Access::kRead);
  const std::uint64_t space = core.read<std::uint64_t>(linear);
  const std::uint64_t address = core.read<std::uint64_t>(linear + 8);
  VcpuBlock& block = core.block();
  const bool has_pcids = (block.cr4 & cr4::kPcide) != 0;
  if (type > 3 || (space >> 12) != 0) core.raise_gp();
  if (type < 2 && !has_pcids && space != 0) core.raise_gp();
  const auto top = static_cast<std::int64_t>(address) >> 47;
  if (type == 0 && top != 0 && top != -1) core.raise_gp();
  const bool is_present = !has_pcids || space == (block.cr3 & 0xFFF);
  switch (type) {
    case 0:
    case 1:
      if (!is_present) mmu::forget_address_space(block, static_cast<std::uint16_t>(space));
      else if (type == 0) mmu::flush_page(block, address);
      else mmu::flush_non_global(block);
      break;
    case 2: mmu::flush_all(block); break;
    default:
      mmu::forget_other_address_spaces(block);
      mmu::flush_non_global(block);
      break;
  }
}

void control_caches(Core& core, const Decoded&) { need_cpl0(core); }
void flush_line(Core& core, const Decoded& decoded) {
  static_cast<void>(core.read<std::uint8_t>(core.memory_operand(decoded, 1, Access::kRead)));
}

void check_interrupt_flag_access(Core& core) {
  const unsigned iopl = static_cast<unsigned>(core.block().rflags >> 12) & 3;
  if (core.is_protected() && (core.is_virtual_8086() ? iopl < 3 : core.block().cpl > iopl)) core.raise_gp();
}

void clear_interrupts(Core& core, const Decoded&) {
  check_interrupt_flag_access(core);
  core.block().rflags &= ~rflags::kIf;
}
void set_interrupts(Core& core, const Decoded&) {
  check_interrupt_flag_access(core);
  if ((core.block().rflags & rflags::kIf) == 0) core.block().interrupt_shadow = 2;
  core.block().rflags |= rflags::kIf;
}

void clear_access_check(Core& core, const Decoded&) {
  if (core.block().cpl != 0) core.raise_ud();
  core.write_rflags(0, rflags::kAc);
}
void set_access_check(Core& core, const Decoded&) {
  if (core.block().cpl != 0) core.raise_ud();
  core.write_rflags(rflags::kAc, rflags::kAc);
}

void swap_gs(Core& core, const Decoded&) {
  if (!core.is_64()) core.raise_ud();
  need_cpl0(core);
  std::swap(core.segment(SegmentName::kGs).base, core.block().msrs.kernel_gs_base);
}

void segment_base_access(Core& core, const Decoded& decoded) {
  if (!core.is_64() || (core.block().cr4 & cr4::kFsgsbase) == 0) core.raise_ud();
  const bool is_fs = decoded.mnemonic == ZYDIS_MNEMONIC_RDFSBASE || decoded.mnemonic == ZYDIS_MNEMONIC_WRFSBASE;
  const bool writes = decoded.mnemonic == ZYDIS_MNEMONIC_WRFSBASE || decoded.mnemonic == ZYDIS_MNEMONIC_WRGSBASE;
  std::uint64_t& base = core.segment(is_fs ? SegmentName::kFs : SegmentName::kGs).base;
  if (!writes) {
    core.write_register(decoded.reg, decoded.operand_size, base);
    return;
  }
  const std::uint64_t value = core.read_register(decoded.reg, decoded.operand_size);
  const auto top = static_cast<std::int64_t>(value) >> 47;
  if (top != 0 && top != -1) core.raise_gp();
  base = value;
}

void hypercall(Core& core, const Decoded&) { core.hypercall(); }

/// IN and OUT. The port is DX or the immediate; `operands` says which operand is which.
void input(Core& core, const Decoded& decoded) {
  const auto port = static_cast<std::uint16_t>(decoded.operands == kShapeRI ? decoded.immediate & 0xFF : core.gpr(Gpr::kRdx) & 0xFFFF);
  core.check_port(port, decoded.operand_size);
  core.write_register(0, decoded.operand_size, core.port_read(port, decoded.operand_size));
}

void output(Core& core, const Decoded& decoded) {
  // OUT imm8, AL and OUT DX, AL: the size is the second operand's.
  const bool immediate = decoded.operands != kShapeRR;
  const auto port = static_cast<std::uint16_t>(immediate ? decoded.immediate & 0xFF : core.gpr(Gpr::kRdx) & 0xFFFF);
  const auto size = static_cast<std::uint8_t>(decoded.memory_size);
  core.check_port(port, size);
  core.port_write(port, size, static_cast<std::uint32_t>(core.read_register(0, size)));
}

constexpr HandlerEntry kHandlers[] = {
    {ZYDIS_MNEMONIC_HLT, halt},
    {ZYDIS_MNEMONIC_CPUID, identify},
    {ZYDIS_MNEMONIC_RDTSC, read_time},
    {ZYDIS_MNEMONIC_RDTSCP, read_time},
    {ZYDIS_MNEMONIC_RDPID, read_processor_id},
    {ZYDIS_MNEMONIC_RDPMC, read_performance_counter},
    {ZYDIS_MNEMONIC_RDMSR, read_model_register},
    {ZYDIS_MNEMONIC_WRMSR, write_model_register},
    {ZYDIS_MNEMONIC_MOV, move_special},
    {ZYDIS_MNEMONIC_LDS, load_far_pointer},
    {ZYDIS_MNEMONIC_LES, load_far_pointer},
    {ZYDIS_MNEMONIC_LFS, load_far_pointer},
    {ZYDIS_MNEMONIC_LGS, load_far_pointer},
    {ZYDIS_MNEMONIC_LSS, load_far_pointer},
    {ZYDIS_MNEMONIC_LGDT, load_table},
    {ZYDIS_MNEMONIC_LIDT, load_table},
    {ZYDIS_MNEMONIC_SGDT, store_table},
    {ZYDIS_MNEMONIC_SIDT, store_table},
    {ZYDIS_MNEMONIC_LTR, load_task_register},
    {ZYDIS_MNEMONIC_LLDT, load_local_table},
    {ZYDIS_MNEMONIC_STR, store_task_register},
    {ZYDIS_MNEMONIC_SLDT, store_local_table},
    {ZYDIS_MNEMONIC_SMSW, store_machine_status},
    {ZYDIS_MNEMONIC_LMSW, load_machine_status},
    {ZYDIS_MNEMONIC_CLTS, clear_task_switched},
    {ZYDIS_MNEMONIC_LAR, load_access_rights},
    {ZYDIS_MNEMONIC_LSL, load_segment_limit},
    {ZYDIS_MNEMONIC_VERR, verify_segment},
    {ZYDIS_MNEMONIC_VERW, verify_segment},
    {ZYDIS_MNEMONIC_ARPL, adjust_rpl},
    {ZYDIS_MNEMONIC_INVLPG, invalidate_page},
    {ZYDIS_MNEMONIC_INVPCID, invalidate_context},
    {ZYDIS_MNEMONIC_WBINVD, control_caches},
    {ZYDIS_MNEMONIC_INVD, control_caches},
    {ZYDIS_MNEMONIC_CLFLUSH, flush_line},
    {ZYDIS_MNEMONIC_CLFLUSHOPT, flush_line},
    {ZYDIS_MNEMONIC_CLWB, flush_line},
    {ZYDIS_MNEMONIC_CLI, clear_interrupts},
    {ZYDIS_MNEMONIC_STI, set_interrupts},
    {ZYDIS_MNEMONIC_CLAC, clear_access_check},
    {ZYDIS_MNEMONIC_STAC, set_access_check},
    {ZYDIS_MNEMONIC_SWAPGS, swap_gs},
    {ZYDIS_MNEMONIC_RDFSBASE, segment_base_access},
    {ZYDIS_MNEMONIC_RDGSBASE, segment_base_access},
    {ZYDIS_MNEMONIC_WRFSBASE, segment_base_access},
    {ZYDIS_MNEMONIC_WRGSBASE, segment_base_access},
    {ZYDIS_MNEMONIC_VMCALL, hypercall},
    {ZYDIS_MNEMONIC_VMMCALL, hypercall},
    {ZYDIS_MNEMONIC_IN, input},
    {ZYDIS_MNEMONIC_OUT, output},
};

}  // namespace

void push_segment_register(Core& core, const Decoded& decoded) { push_segment(core, decoded.reg, decoded.operand_size); }
void pop_segment_register(Core& core, const Decoded& decoded) { pop_segment(core, decoded.reg, decoded.operand_size); }

std::span<const HandlerEntry> system_handlers() { return kHandlers; }

}  // namespace bygone::cpu::translator
