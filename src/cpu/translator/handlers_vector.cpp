// Extended state as a whole: FXSAVE, the XSAVE family, MXCSR, and the vector instructions that do not run natively.
#include <algorithm>

#include "cpu/translator/handlers.h"
#include "cpu/translator/xsave.h"

namespace bygone::cpu::translator {
namespace {

using xsave::kAvx;
using xsave::kSse;
using xsave::kX87;

constexpr std::size_t kStateBits = 512, kCompactedBits = 520;

void need_fpu(Core& core) {
  if ((core.block().cr0 & (cr0::kTs | cr0::kEm)) != 0) core.raise(vector::kNm);
}

void need_sse(Core& core) {
  if ((core.block().cr0 & cr0::kEm) != 0 || (core.block().mode & kModeSse) == 0) core.raise_ud();
  if ((core.block().cr0 & cr0::kTs) != 0) core.raise(vector::kNm);
}

void need_avx(Core& core) {
  if ((core.block().mode & kModeAvx) == 0) core.raise_ud();
  if ((core.block().cr0 & cr0::kTs) != 0) core.raise(vector::kNm);
}

unsigned xmm_count(Core& core) { return core.is_64() ? 16 : 8; }

void save_fx(Core& core, const Decoded& decoded) {
  need_fpu(core);
  const std::uint64_t linear = core.memory_operand(decoded, 512, Access::kWrite);
  if ((linear & 15) != 0) core.raise_gp();
  core.probe_write(linear, 512, core.block().tlb_context);
  std::array<std::uint8_t, 512> image = {};
  core.read_bytes(linear, image.data(), 512);
  xsave::to_fxsave(core.block(), image.data(), xmm_count(core), true);
  core.write_bytes(linear, image.data(), 512);
}

void restore_fx(Core& core, const Decoded& decoded) {
  need_fpu(core);
  const std::uint64_t linear = core.memory_operand(decoded, 512, Access::kRead);
  if ((linear & 15) != 0) core.raise_gp();
  std::array<std::uint8_t, 512> image;
  core.read_bytes(linear, image.data(), 512);
  if (!xsave::from_fxsave(core.block(), image.data(), xmm_count(core), true)) core.raise_gp();
}

std::uint64_t requested(Core& core) {
  const std::uint64_t mask = (core.gpr(Gpr::kRdx) << 32) | (core.gpr(Gpr::kRax) & 0xFFFF'FFFF);
  return mask & core.block().xcr0;
}

std::uint64_t xsave_area(Core& core, const Decoded& decoded, Access access) {
  if ((core.block().cr4 & cr4::kOsxsave) == 0) core.raise_ud();
  if ((core.block().cr0 & cr0::kTs) != 0) core.raise(vector::kNm);
  const std::uint64_t linear = core.memory_operand(decoded, 576, access);
  if ((linear & 63) != 0) core.raise_gp();
  return linear;
}

/// XSAVE and XSAVEOPT in the standard format, XSAVEC in the compacted one; what is in its initial state is only said to be so.
void save_x(Core& core, const Decoded& decoded) {
  const std::uint64_t linear = xsave_area(core, decoded, Access::kWrite);
  const VcpuBlock& block = core.block();
  const std::uint64_t components = requested(core);
  const bool compacts = decoded.mnemonic == ZYDIS_MNEMONIC_XSAVEC || decoded.mnemonic == ZYDIS_MNEMONIC_XSAVEC64;
  const bool writes_all = decoded.mnemonic == ZYDIS_MNEMONIC_XSAVE || decoded.mnemonic == ZYDIS_MNEMONIC_XSAVE64;
  const std::uint64_t used = xsave::in_use(block) & components;
  const auto packed = xsave::compacted_places(components);
  const std::uint32_t size = compacts ? xsave::compacted_size(components) : xsave::standard_size(components);
  core.probe_write(linear, size, block.tlb_context);
  std::array<std::uint8_t, xsave::kLargestImage> image = {};
  core.read_bytes(linear, image.data(), size);
  if ((components & kX87) != 0) xsave::to_fxsave(block, image.data(), 0, false);
  if ((components & (kSse | kAvx)) != 0) {
    std::memcpy(image.data() + 24, &block.vector.mxcsr, 4);
    std::memcpy(image.data() + 28, &xsave::kMxcsrMask, 4);
  }
  if ((components & kSse) != 0) {
    for (unsigned i = 0; i < xmm_count(core); ++i) std::memcpy(image.data() + 160 + 16ULL * i, block.vector.zmm[i].data(), 16);
  }
  for (unsigned i = xsave::kFirstExtended; i < xsave::kComponentEnd; ++i) {
    if (((writes_all ? components : used) >> i & 1) == 0) continue;
    xsave::store_component(block, i, image.data() + (compacts ? packed[i] : xsave::place_of(i)).offset, core.is_64());
  }
  std::uint64_t bits = 0;
  std::memcpy(&bits, image.data() + kStateBits, 8);
  bits = compacts ? used : (bits & ~components) | used;
  std::memcpy(image.data() + kStateBits, &bits, 8);
  if (compacts) {
    const std::uint64_t format = components | (std::uint64_t{1} << 63);
    std::memcpy(image.data() + kCompactedBits, &format, 8);
  }
  core.write_bytes(linear, image.data(), size);
}

/// What an XRSTOR is about to load, checked: nothing changes before all of it is known to be good.
struct RestoreImage {
  std::array<std::uint8_t, xsave::kLargestImage> bytes = {};
  std::uint64_t present = 0;
  std::array<xsave::Place, xsave::kComponentEnd> places;
  bool compacted = false;
};

void read_restore_image(Core& core, std::uint64_t linear, std::uint64_t components, RestoreImage& image) {
  core.read_bytes(linear, image.bytes.data(), xsave::kHeaderEnd);
  std::uint64_t format = 0;
  std::memcpy(&image.present, image.bytes.data() + kStateBits, 8);
  std::memcpy(&format, image.bytes.data() + kCompactedBits, 8);
  image.compacted = (format >> 63) != 0;
  const std::uint64_t packed = format << 1 >> 1;
  if ((image.present & ~core.block().xcr0) != 0 || (!image.compacted && format != 0)) core.raise_gp();
  if (image.compacted && ((packed & ~core.block().xcr0) != 0 || (image.present & ~packed) != 0)) core.raise_gp();
  for (std::size_t i = 528; i < 576; ++i) {
    if (image.bytes[i] != 0) core.raise_gp();
  }
  image.places = xsave::compacted_places(packed);
  for (unsigned i = xsave::kFirstExtended; i < xsave::kComponentEnd; ++i) {
    if (!image.compacted) image.places[i] = xsave::place_of(i);
    if ((image.present & components) >> i & 1) {
      core.read_bytes(linear + image.places[i].offset, image.bytes.data() + image.places[i].offset, image.places[i].size);
    }
  }
}

void restore_x(Core& core, const Decoded& decoded) {
  const std::uint64_t linear = xsave_area(core, decoded, Access::kRead);
  const std::uint64_t components = requested(core);
  RestoreImage image;
  read_restore_image(core, linear, components, image);
  const std::uint64_t present = image.present;
  VectorState& state = core.block().vector;
  if ((components & (kSse | kAvx)) != 0) {
    std::uint32_t mxcsr = 0;
    std::memcpy(&mxcsr, image.bytes.data() + 24, 4);
    if (!image.compacted || (present & components & kSse) != 0) {
      if ((mxcsr & ~xsave::kMxcsrMask) != 0) core.raise_gp();
      state.mxcsr = mxcsr;
    } else if ((components & kSse) != 0) {
      state.mxcsr = 0x1F80;
    }
  }
  if ((components & kX87) != 0) {
    if ((present & kX87) != 0) {
      static_cast<void>(xsave::from_fxsave(core.block(), image.bytes.data(), 0, false));
    } else {
      state.x87 = reset_x87();
    }
  }
  for (unsigned i = 0; (components & kSse) != 0 && i < xmm_count(core); ++i) {
    if ((present & kSse) != 0) std::memcpy(state.zmm[i].data(), image.bytes.data() + 160 + 16ULL * i, 16); else std::memset(state.zmm[i].data(), 0, 16);
  }
  for (unsigned i = xsave::kFirstExtended; i < xsave::kComponentEnd; ++i) {
    if ((components >> i & 1) == 0) continue;
    if ((present >> i & 1) != 0) xsave::load_component(core.block(), i, image.bytes.data() + image.places[i].offset, core.is_64());
    else xsave::clear_component(core.block(), i, core.is_64());
  }
}

void get_control(Core& core, const Decoded&) {
  if ((core.block().cr4 & cr4::kOsxsave) == 0) core.raise_ud();
  const std::uint64_t index = core.gpr(Gpr::kRcx) & 0xFFFF'FFFF;
  if (index > 1) core.raise_gp();
  const std::uint64_t value = index == 0 ? core.block().xcr0 : core.block().xcr0 & xsave::in_use(core.block());
  core.gpr(Gpr::kRax) = value & 0xFFFF'FFFF;
  core.gpr(Gpr::kRdx) = value >> 32;
}

void set_control(Core& core, const Decoded&) {
  if ((core.block().cr4 & cr4::kOsxsave) == 0) core.raise_ud();
  if (core.block().cpl != 0 || (core.gpr(Gpr::kRcx) & 0xFFFF'FFFF) != 0) core.raise_gp();
  const std::uint64_t value = (core.gpr(Gpr::kRdx) << 32) | (core.gpr(Gpr::kRax) & 0xFFFF'FFFF);
  const CpuidResult offered = core.cpuid(0xD, 0);
  if ((value & ~std::uint64_t{offered.eax}) != 0 || (value & kX87) == 0) core.raise_gp();
  if ((value & kAvx) != 0 && (value & kSse) == 0) core.raise_gp();
  if ((value & xsave::kAvx512) != 0 && (value & (xsave::kAvx512 | kAvx | kSse)) != (xsave::kAvx512 | kAvx | kSse)) core.raise_gp();
  core.block().xcr0 = value;
  mmu::update_mode(core.block());
}

void load_mxcsr(Core& core, const Decoded& decoded) {
  if (decoded.mnemonic == ZYDIS_MNEMONIC_VLDMXCSR) need_avx(core); else need_sse(core);
  const std::uint32_t value = core.read<std::uint32_t>(core.memory_operand(decoded, 4, Access::kRead));
  if ((value & ~xsave::kMxcsrMask) != 0) core.raise_gp();
  core.block().vector.mxcsr = value;
}

void store_mxcsr(Core& core, const Decoded& decoded) {
  if (decoded.mnemonic == ZYDIS_MNEMONIC_VSTMXCSR) need_avx(core); else need_sse(core);
  core.write<std::uint32_t>(core.memory_operand(decoded, 4, Access::kWrite), core.block().vector.mxcsr);
}

void zero_upper(Core& core, const Decoded& decoded) {
  need_avx(core);
  const std::size_t from = decoded.mnemonic == ZYDIS_MNEMONIC_VZEROALL ? 0 : 16;
  for (unsigned i = 0; i < xmm_count(core); ++i) std::memset(core.block().vector.zmm[i].data() + from, 0, 64 - from);
}

void wait_fpu(Core& core, const Decoded&) {
  if ((core.block().cr0 & (cr0::kTs | cr0::kMp)) == (cr0::kTs | cr0::kMp)) core.raise(vector::kNm);
  if (has_x87_error(core.block().vector)) core.raise(vector::kMf);
}

/// MASKMOVDQU and MASKMOVQ: bytes whose mask is clear are neither read nor written.
void masked_move(Core& core, const Decoded& decoded) {
  const bool is_mmx = decoded.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ;
  if (is_mmx) need_fpu(core); else if (decoded.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU) need_avx(core); else need_sse(core);
  const unsigned count = is_mmx ? 8 : 16;
  const VectorState& state = core.block().vector;
  const std::uint8_t* source = is_mmx ? state.x87.data() + 32 + 16ULL * decoded.reg : state.zmm[decoded.reg].data();
  const std::uint8_t* mask = is_mmx ? state.x87.data() + 32 + 16ULL * decoded.rm : state.zmm[decoded.rm].data();
  std::uint64_t offset = core.gpr(Gpr::kRdi);
  if (decoded.address_size == 4) offset &= 0xFFFF'FFFF;
  for (unsigned i = 0; i < count; ++i) {
    if ((mask[i] & 0x80) == 0) continue;
    core.write<std::uint8_t>(core.linear_address(decoded.segment, offset + i, 1, Access::kWrite), source[i]);
  }
}

/// VMASKMOVPS/PD, VPMASKMOVD/Q: elements whose mask's top bit is clear do not fault.
void masked_elements(Core& core, const Decoded& decoded) {
  need_avx(core);
  const bool wide = decoded.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD || decoded.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ;
  const unsigned element = wide ? 8 : 4;
  const unsigned bytes = decoded.memory_size;
  const std::uint64_t offset = core.effective_offset(decoded);
  VectorState& state = core.block().vector;
  const bool loads = decoded.operands == kShapeRR;  // register, mask, memory; a store has the memory first
  const unsigned mask_register = loads ? decoded.rm : decoded.reg;
  std::array<std::uint8_t, 64> result = {};
  for (unsigned at = 0; at < bytes; at += element) {
    if ((state.zmm[mask_register][at + element - 1] & 0x80) == 0) continue;
    const std::uint64_t linear = core.linear_address(decoded.segment, offset + at, element, loads ? Access::kRead : Access::kWrite);
    if (loads) {
      core.read_bytes(linear, result.data() + at, element);
    } else {
      core.probe_write(linear, element, core.block().tlb_context);
    }
  }
  if (loads) {
    state.zmm[decoded.reg] = result;
    return;
  }
  for (unsigned at = 0; at < bytes; at += element) {
    if ((state.zmm[mask_register][at + element - 1] & 0x80) == 0) continue;
    core.write_bytes(core.linear_address(decoded.segment, offset + at, element, Access::kWrite), state.zmm[decoded.rm].data() + at, element);
  }
}

struct GatherForm {
  unsigned index = 4, element = 4;  ///< bytes
};

GatherForm gather_form(std::uint16_t mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_VGATHERDPD: case ZYDIS_MNEMONIC_VPGATHERDQ: return {4, 8};
    case ZYDIS_MNEMONIC_VGATHERQPS: case ZYDIS_MNEMONIC_VPGATHERQD: return {8, 4};
    case ZYDIS_MNEMONIC_VGATHERQPD: case ZYDIS_MNEMONIC_VPGATHERQQ: return {8, 8};
    default: return {4, 4};
  }
}

/// AVX2 gathers: elements whose mask's top bit is set are loaded, and their mask cleared; a fault keeps what came before it.
void gather(Core& core, const Decoded& decoded) {
  need_avx(core);
  const unsigned index_register = decoded.condition;
  if (decoded.reg == decoded.rm || decoded.reg == index_register || decoded.rm == index_register) core.raise_ud();
  const GatherForm form = gather_form(decoded.mnemonic);
  const unsigned count = decoded.memory_size / std::max(form.index, form.element);
  VectorState& state = core.block().vector;
  const std::array<std::uint8_t, 64> indexes = state.zmm[index_register];
  std::array<std::uint8_t, 64> result = state.zmm[decoded.reg];
  std::array<std::uint8_t, 64> mask = state.zmm[decoded.rm];
  const std::uint64_t place = core.effective_offset(decoded);
  try {
    for (unsigned i = 0; i < count; ++i) {
      std::uint8_t* own_mask = mask.data() + std::size_t{i} * form.element;
      if ((own_mask[form.element - 1] & 0x80) != 0) {
        std::int64_t index = 0;
        std::memcpy(&index, indexes.data() + std::size_t{i} * form.index, form.index);
        if (form.index == 4) index = static_cast<std::int32_t>(index);
        std::uint64_t offset = place + static_cast<std::uint64_t>(index) * decoded.scale;
        if (decoded.address_size == 4) offset &= 0xFFFF'FFFF;
        const std::uint64_t value = core.read_sized(core.linear_address(decoded.segment, offset, form.element, Access::kRead),
                                                    static_cast<std::uint8_t>(form.element));
        std::memcpy(result.data() + std::size_t{i} * form.element, &value, form.element);
      }
      std::memset(own_mask, 0, form.element);
    }
  } catch (const GuestFault&) {
    state.zmm[decoded.reg] = result;
    state.zmm[decoded.rm] = mask;
    throw;
  }
  std::memset(result.data() + std::size_t{count} * form.element, 0, 64 - std::size_t{count} * form.element);
  state.zmm[decoded.reg] = result;
  state.zmm[decoded.rm] = {};
}

constexpr HandlerEntry kHandlers[] = {
    {ZYDIS_MNEMONIC_VGATHERDPS, gather},     {ZYDIS_MNEMONIC_VGATHERDPD, gather},    {ZYDIS_MNEMONIC_VGATHERQPS, gather},
    {ZYDIS_MNEMONIC_VGATHERQPD, gather},     {ZYDIS_MNEMONIC_VPGATHERDD, gather},    {ZYDIS_MNEMONIC_VPGATHERDQ, gather},
    {ZYDIS_MNEMONIC_VPGATHERQD, gather},     {ZYDIS_MNEMONIC_VPGATHERQQ, gather},
    {ZYDIS_MNEMONIC_FXSAVE, save_fx},        {ZYDIS_MNEMONIC_FXSAVE64, save_fx},     {ZYDIS_MNEMONIC_FXRSTOR, restore_fx},
    {ZYDIS_MNEMONIC_FXRSTOR64, restore_fx},  {ZYDIS_MNEMONIC_XSAVE, save_x},         {ZYDIS_MNEMONIC_XSAVE64, save_x},
    {ZYDIS_MNEMONIC_XSAVEOPT, save_x},       {ZYDIS_MNEMONIC_XSAVEOPT64, save_x},    {ZYDIS_MNEMONIC_XSAVEC, save_x},
    {ZYDIS_MNEMONIC_XSAVEC64, save_x},       {ZYDIS_MNEMONIC_XRSTOR, restore_x},     {ZYDIS_MNEMONIC_XRSTOR64, restore_x},
    {ZYDIS_MNEMONIC_XGETBV, get_control},    {ZYDIS_MNEMONIC_XSETBV, set_control},   {ZYDIS_MNEMONIC_LDMXCSR, load_mxcsr},
    {ZYDIS_MNEMONIC_VLDMXCSR, load_mxcsr},   {ZYDIS_MNEMONIC_STMXCSR, store_mxcsr},  {ZYDIS_MNEMONIC_VSTMXCSR, store_mxcsr},
    {ZYDIS_MNEMONIC_VZEROUPPER, zero_upper}, {ZYDIS_MNEMONIC_VZEROALL, zero_upper},  {ZYDIS_MNEMONIC_FWAIT, wait_fpu},
    {ZYDIS_MNEMONIC_MASKMOVDQU, masked_move}, {ZYDIS_MNEMONIC_MASKMOVQ, masked_move}, {ZYDIS_MNEMONIC_VMASKMOVDQU, masked_move},
    {ZYDIS_MNEMONIC_VMASKMOVPS, masked_elements}, {ZYDIS_MNEMONIC_VMASKMOVPD, masked_elements},
    {ZYDIS_MNEMONIC_VPMASKMOVD, masked_elements}, {ZYDIS_MNEMONIC_VPMASKMOVQ, masked_elements},
};

}  // namespace

std::span<const HandlerEntry> vector_handlers() { return kHandlers; }

}  // namespace bygone::cpu::translator
