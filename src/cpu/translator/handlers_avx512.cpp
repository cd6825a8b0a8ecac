// AVX-512 instructions that touch memory element by element: operands under an opmask, gathers and scatters
// (Intel SDM volume 1, 15.6; volume 2, VPGATHERDD, VPSCATTERDD and their kin). Everything else of AVX-512 runs natively.
#include <algorithm>
#include <bit>

#include "cpu/translator/handlers.h"

namespace bygone::cpu::translator {
namespace {

/// Which elements of the operand in memory are touched: bit by bit from the lowest.
std::uint64_t touched_elements(Core& core, const Decoded& decoded, unsigned count) {
  const std::uint64_t lanes_mask = decoded.mask_lanes >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << decoded.mask_lanes) - 1;
  const std::uint64_t mask = core.block().vector.opmask[decoded.mask] & lanes_mask;
  if (decoded.is_packed != 0) {
    const int set = std::popcount(mask);
    return set == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << set) - 1;
  }
  // A broadcast element is touched when any of its copies is wanted.
  std::uint64_t touched = 0;
  for (unsigned lane = 0; lane < decoded.mask_lanes; ++lane) {
    if ((mask >> lane & 1) != 0) touched |= std::uint64_t{1} << (lane % count);
  }
  return touched;
}

struct SparseForm {
  unsigned index = 4, element = 4;  ///< bytes
};

SparseForm sparse_form(std::uint16_t mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_VGATHERDPD: case ZYDIS_MNEMONIC_VPGATHERDQ: case ZYDIS_MNEMONIC_VSCATTERDPD: case ZYDIS_MNEMONIC_VPSCATTERDQ:
      return {4, 8};
    case ZYDIS_MNEMONIC_VGATHERQPS: case ZYDIS_MNEMONIC_VPGATHERQD: case ZYDIS_MNEMONIC_VSCATTERQPS: case ZYDIS_MNEMONIC_VPSCATTERQD:
      return {8, 4};
    case ZYDIS_MNEMONIC_VGATHERQPD: case ZYDIS_MNEMONIC_VPGATHERQQ: case ZYDIS_MNEMONIC_VSCATTERQPD: case ZYDIS_MNEMONIC_VPSCATTERQQ:
      return {8, 8};
    default: return {4, 4};
  }
}

/// The elements of a gather or scatter: `visit(number, linear address)` for each one whose mask bit is set, from the lowest;
/// the bit is cleared behind it, so that a fault keeps what came before.
template <typename Visit>
void for_each_element(Core& core, const Decoded& decoded, Access access, Visit visit) {
  if ((core.block().mode & kModeAvx512) == 0 || decoded.mask == 0) core.raise_ud();
  if ((core.block().cr0 & cr0::kTs) != 0) core.raise(vector::kNm);
  const SparseForm form = sparse_form(decoded.mnemonic);
  const unsigned count = decoded.memory_size / std::max(form.index, form.element);
  VectorState& state = core.block().vector;
  const std::array<std::uint8_t, 64> indexes = state.zmm[decoded.condition];
  std::uint64_t& mask = state.opmask[decoded.mask];
  const std::uint64_t place = core.effective_offset(decoded);
  for (unsigned i = 0; i < count; ++i) {
    if ((mask >> i & 1) != 0) {
      std::int64_t index = 0;
      std::memcpy(&index, indexes.data() + std::size_t{i} * form.index, form.index);
      if (form.index == 4) index = static_cast<std::int32_t>(index);
      std::uint64_t offset = place + static_cast<std::uint64_t>(index) * decoded.scale;
      if (decoded.address_size == 4) offset &= 0xFFFF'FFFF;
      visit(i, core.linear_address(decoded.segment, offset, form.element, access));
    }
    mask &= ~(std::uint64_t{1} << i);
  }
  mask = 0;
}

void gather(Core& core, const Decoded& decoded) {
  if (decoded.reg == decoded.condition) core.raise_ud();
  const SparseForm form = sparse_form(decoded.mnemonic);
  const unsigned count = decoded.memory_size / std::max(form.index, form.element);
  auto& target = core.block().vector.zmm[decoded.reg];
  for_each_element(core, decoded, Access::kRead, [&](unsigned i, std::uint64_t linear) {
    const std::uint64_t value = core.read_sized(linear, static_cast<std::uint8_t>(form.element));
    std::memcpy(target.data() + std::size_t{i} * form.element, &value, form.element);
  });
  std::fill(target.begin() + static_cast<std::ptrdiff_t>(count * form.element), target.end(), std::uint8_t{0});
}

void scatter(Core& core, const Decoded& decoded) {
  const SparseForm form = sparse_form(decoded.mnemonic);
  const auto& source = core.block().vector.zmm[decoded.reg];
  for_each_element(core, decoded, Access::kWrite, [&](unsigned i, std::uint64_t linear) {
    core.write_bytes(linear, source.data() + std::size_t{i} * form.element, form.element);
  });
}

}  // namespace

Handler sparse_handler(bool scatters) { return scatters ? scatter : gather; }

void run_masked(Core& core, const Decoded& decoded) {
  const bool writes = (decoded.native & kNativeWrites) != 0;
  const Access access = writes ? Access::kWrite : Access::kRead;
  const unsigned element = decoded.mask_element;
  const unsigned count = decoded.memory_size / element;
  const std::uint64_t offset = core.effective_offset(decoded);
  const std::uint64_t touched = touched_elements(core, decoded, count);
  if ((decoded.native & kNativeAligned) != 0) {
    const bool has_base = !core.is_64() || decoded.segment >= 4;
    const std::uint64_t base = has_base ? core.block().segments[decoded.segment].base : 0;
    if ((base + offset) % decoded.memory_size != 0) core.raise_gp();
  }
  const auto address = [&](unsigned i) {
    std::uint64_t at = offset + std::uint64_t{i} * element;
    if (decoded.address_size == 4) at &= 0xFFFF'FFFF;
    return core.linear_address(decoded.segment, at, element, access);
  };
  const auto is_touched = [&](unsigned i) { return (touched >> i & 1) != 0; };
  std::uint8_t* buffer = core.scratch.data();
  std::memset(buffer, 0, decoded.memory_size);
  for (unsigned i = 0; i < count; ++i) {
    if (!is_touched(i)) continue;
    if (writes) core.probe_write(address(i), element, core.block().tlb_context);
    else core.read_bytes(address(i), buffer + std::size_t{i} * element, element);
  }
  run_thunk(core, decoded, buffer);
  for (unsigned i = 0; writes && i < count; ++i) {
    if (is_touched(i)) core.write_bytes(address(i), buffer + std::size_t{i} * element, element);
  }
}

}  // namespace bygone::cpu::translator
