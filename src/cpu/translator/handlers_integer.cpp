// Moves, the stack, division, decimal adjustments, bit strings, and the gateway to native execution of everything else.
#include <xmmintrin.h>

#include <array>
#include <cstring>
#include <limits>

#include "cpu/translator/handlers.h"
#include "cpu/translator/native_faults.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint64_t size_mask(std::uint8_t size) {
  return size == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * size)) - 1;
}

void move_rr(Core& core, const Decoded& decoded) {
  core.write_register(decoded.reg, decoded.operand_size, core.read_register(decoded.rm, decoded.operand_size));
}
void move_ri(Core& core, const Decoded& decoded) { core.write_register(decoded.reg, decoded.operand_size, decoded.immediate); }
template <typename T>
void move_rm(Core& core, const Decoded& decoded) {
  const T value = core.read<T>(core.memory_operand(decoded, sizeof(T), Access::kRead));
  core.write_register(decoded.reg, sizeof(T), value);
}
template <typename T>
void move_mr(Core& core, const Decoded& decoded) {
  core.write(core.memory_operand(decoded, sizeof(T), Access::kWrite), static_cast<T>(core.read_register(decoded.reg, sizeof(T))));
}
template <typename T>
void move_mi(Core& core, const Decoded& decoded) {
  core.write(core.memory_operand(decoded, sizeof(T), Access::kWrite), static_cast<T>(decoded.immediate));
}

void load_address(Core& core, const Decoded& decoded) {
  core.write_register(decoded.reg, decoded.operand_size, core.effective_offset(decoded));
}

/// MOVZX, MOVSX, MOVSXD; `memory_size` is the source's size in both forms.
void move_extended(Core& core, const Decoded& decoded) {
  std::uint64_t value = 0;
  const auto size = static_cast<std::uint8_t>(decoded.memory_size);
  if (decoded.is_memory != 0) {
    value = core.read_sized(core.memory_operand(decoded, size, Access::kRead), size);
  } else {
    value = core.read_register(decoded.rm, size);
  }
  if (decoded.mnemonic != ZYDIS_MNEMONIC_MOVZX) {
    const unsigned shift = 64 - 8U * size;
    value = static_cast<std::uint64_t>(static_cast<std::int64_t>(value << shift) >> shift);
  }
  core.write_register(decoded.reg, decoded.operand_size, value);
}

void push_value(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  std::uint64_t value = decoded.immediate;
  if (decoded.operands == kShapeR) value = core.read_register(decoded.reg, size);
  if (decoded.operands == kShapeM) value = core.read_sized(core.memory_operand(decoded, size, Access::kRead), size);
  core.push(value & size_mask(size), size);
}

void pop_value(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t value = core.peek(0, size);
  const std::uint64_t old = core.gpr(Gpr::kRsp);
  core.set_stack_pointer(old + size);
  if (decoded.operands == kShapeR) {
    core.write_register(decoded.reg, size, value);
    return;
  }
  try {  // the address is computed with the stack pointer after the pop
    core.write_sized(core.memory_operand(decoded, size, Access::kWrite), value, size);
  } catch (...) {
    core.gpr(Gpr::kRsp) = old;
    throw;
  }
}

void push_all(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.mnemonic == ZYDIS_MNEMONIC_PUSHAD ? 4 : 2;
  const std::uint64_t old = core.gpr(Gpr::kRsp);
  try {
    for (unsigned number = 0; number < 8; ++number) {
      core.push(number == 4 ? old & size_mask(size) : core.read_register(static_cast<std::uint8_t>(number), size), size);
    }
  } catch (...) {
    core.gpr(Gpr::kRsp) = old;
    throw;
  }
}

void pop_all(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.mnemonic == ZYDIS_MNEMONIC_POPAD ? 4 : 2;
  std::array<std::uint64_t, 8> values;
  for (unsigned i = 0; i < 8; ++i) values[i] = core.peek(std::uint64_t{size} * i, size);
  core.set_stack_pointer(core.gpr(Gpr::kRsp) + 8ULL * size);
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned number = 7 - i;
    if (number != 4) core.write_register(static_cast<std::uint8_t>(number), size, values[i]);
  }
}

std::uint8_t flags_size(const Decoded& decoded) {
  switch (decoded.mnemonic) {
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPFQ: return 8;
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_POPFD: return 4;
    default: return 2;
  }
}

void check_flags_access(Core& core) {
  if (core.is_virtual_8086() && (core.block().rflags & rflags::kIopl) != rflags::kIopl) core.raise_gp();
}

void push_flags(Core& core, const Decoded& decoded) {
  check_flags_access(core);
  const std::uint8_t size = flags_size(decoded);
  core.push(core.block().rflags & ~(rflags::kRf | rflags::kVm) & size_mask(size), size);
}

void pop_flags(Core& core, const Decoded& decoded) {
  check_flags_access(core);
  const std::uint8_t size = flags_size(decoded);
  const std::uint64_t value = core.peek(0, size);
  const unsigned iopl = static_cast<unsigned>(core.block().rflags >> 12) & 3;
  std::uint64_t mask = rflags::kStatus | rflags::kTf | rflags::kDf | rflags::kNt;
  if (size != 2) mask |= rflags::kAc | rflags::kId;
  if (core.block().cpl <= iopl || core.is_virtual_8086()) mask |= rflags::kIf;
  if (core.block().cpl == 0) mask |= rflags::kIopl;
  core.set_stack_pointer(core.gpr(Gpr::kRsp) + size);
  core.write_rflags(value, mask);
}

void leave_frame(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t frame = core.gpr(Gpr::kRbp) & core.stack_mask();
  const std::uint64_t value =
      core.read_sized(core.linear_address(static_cast<unsigned>(SegmentName::kSs), frame, size, Access::kRead), size);
  core.set_stack_pointer(frame + size);
  core.write_register(5, size, value);
}

void enter_frame(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t bytes = (decoded.immediate >> 16) & 0xFFFF;
  const unsigned level = decoded.immediate & 31;
  const std::uint64_t old_rsp = core.gpr(Gpr::kRsp);
  try {
    core.push(core.read_register(5, size), size);
    const std::uint64_t frame = core.gpr(Gpr::kRsp);
    std::uint64_t pointer = core.gpr(Gpr::kRbp);
    for (unsigned i = 1; i < level; ++i) {
      pointer = (pointer - size) & core.stack_mask();
      core.push(core.read_sized(core.linear_address(2, pointer, size, Access::kRead), size), size);
    }
    if (level > 0) core.push(frame, size);
    const std::uint64_t top = (core.gpr(Gpr::kRsp) - bytes) & core.stack_mask();
    core.probe_write(core.linear_address(2, top, 1, Access::kWrite), 1, core.block().tlb_context);
    core.set_stack_pointer(top);
    core.write_register(5, size, frame);
  } catch (...) {
    core.gpr(Gpr::kRsp) = old_rsp;
    throw;
  }
}

std::uint64_t source_operand(Core& core, const Decoded& decoded, std::uint8_t size) {
  if (decoded.is_memory != 0) return core.read_sized(core.memory_operand(decoded, size, Access::kRead), size);
  return core.read_register(decoded.reg, size);
}

void divide_unsigned(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t divisor = source_operand(core, decoded, size);
  if (divisor == 0) core.raise(vector::kDe);
  if (size == 1) {
    const std::uint64_t dividend = core.gpr(Gpr::kRax) & 0xFFFF;
    if (dividend / divisor > 0xFF) core.raise(vector::kDe);
    core.write_register(0, 2, (dividend / divisor) | ((dividend % divisor) << 8));
    return;
  }
  const std::uint64_t low = core.read_register(0, size);
  const std::uint64_t high = core.read_register(2, size);
  if (high >= divisor) core.raise(vector::kDe);
  std::uint64_t quotient = 0;
  std::uint64_t remainder = 0;
  if (size == 8) {
    asm("divq %4" : "=a"(quotient), "=d"(remainder) : "0"(low), "1"(high), "r"(divisor) : "cc");
  } else {
    const std::uint64_t dividend = (high << (8 * size)) | low;
    quotient = dividend / divisor;
    remainder = dividend % divisor;
  }
  core.write_register(0, size, quotient);
  core.write_register(2, size, remainder);
}

std::int64_t sign_extend(std::uint64_t value, std::uint8_t size) {
  const unsigned shift = 64 - 8U * size;
  return static_cast<std::int64_t>(value << shift) >> shift;
}

void divide_signed(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::int64_t divisor = sign_extend(source_operand(core, decoded, size), size);
  if (divisor == 0) core.raise(vector::kDe);
  if (size == 8) {
    // Magnitudes first: the host instruction may only run when the quotient fits.
    const std::uint64_t low = core.gpr(Gpr::kRax);
    const auto high = static_cast<std::int64_t>(core.gpr(Gpr::kRdx));
    const bool negative = high < 0;
    const std::uint64_t magnitude_low = negative ? ~low + 1 : low;
    const std::uint64_t magnitude_high = negative ? ~static_cast<std::uint64_t>(high) + (low == 0 ? 1 : 0) : static_cast<std::uint64_t>(high);
    const std::uint64_t magnitude = divisor < 0 ? ~static_cast<std::uint64_t>(divisor) + 1 : static_cast<std::uint64_t>(divisor);
    if (magnitude_high >= magnitude) core.raise(vector::kDe);
    std::uint64_t quotient = 0;
    std::uint64_t remainder = 0;
    asm("divq %4" : "=a"(quotient), "=d"(remainder) : "0"(magnitude_low), "1"(magnitude_high), "r"(magnitude) : "cc");
    const bool quotient_negative = negative != (divisor < 0);
    constexpr std::uint64_t kSign = std::uint64_t{1} << 63;
    if (quotient_negative ? quotient > kSign : quotient >= kSign) core.raise(vector::kDe);
    core.gpr(Gpr::kRax) = quotient_negative ? ~quotient + 1 : quotient;
    core.gpr(Gpr::kRdx) = negative ? ~remainder + 1 : remainder;
    return;
  }
  std::int64_t dividend = 0;
  if (size == 1) {
    dividend = sign_extend(core.gpr(Gpr::kRax), 2);
  } else {
    dividend = sign_extend((core.read_register(2, size) << (8 * size)) | core.read_register(0, size), static_cast<std::uint8_t>(2 * size));
  }
  if (dividend == std::numeric_limits<std::int64_t>::min() && divisor == -1) core.raise(vector::kDe);
  const std::int64_t quotient = dividend / divisor;
  const std::int64_t remainder = dividend % divisor;
  if (quotient != sign_extend(static_cast<std::uint64_t>(quotient), size)) core.raise(vector::kDe);
  if (size == 1) {
    core.write_register(0, 2, (static_cast<std::uint64_t>(quotient) & 0xFF) | ((static_cast<std::uint64_t>(remainder) & 0xFF) << 8));
    return;
  }
  core.write_register(0, size, static_cast<std::uint64_t>(quotient));
  core.write_register(2, size, static_cast<std::uint64_t>(remainder));
}

/// BT, BTS, BTR, BTC with a register offset into memory: the address moves by whole operands.
void bit_string(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::int64_t offset = sign_extend(core.read_register(decoded.reg, size), size);
  const unsigned bits = 8U * size;
  const std::int64_t step = (offset >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * size;
  std::uint64_t place = core.effective_offset(decoded) + static_cast<std::uint64_t>(step);
  if (decoded.address_size == 4) place &= 0xFFFF'FFFF;
  if (decoded.address_size == 2) place &= 0xFFFF;
  const bool writes = decoded.mnemonic != ZYDIS_MNEMONIC_BT;
  const std::uint64_t linear = core.linear_address(decoded.segment, place, size, writes ? Access::kWrite : Access::kRead);
  const std::uint64_t mask = std::uint64_t{1} << (static_cast<std::uint64_t>(offset) % bits);
  std::uint64_t old = 0;
  std::uint8_t* host = writes ? core.host_pointer(linear, size, Access::kWrite) : nullptr;
  if (host != nullptr && decoded.lock != 0) {
    // One byte is enough for the bit, and any byte can be changed atomically.
    const auto bit = static_cast<unsigned>(static_cast<std::uint64_t>(offset) % bits);
    const auto byte_mask = static_cast<std::uint8_t>(1U << (bit % 8));
    std::uint8_t* byte = host + bit / 8;
    std::uint8_t before = 0;
    if (decoded.mnemonic == ZYDIS_MNEMONIC_BTS) before = __atomic_fetch_or(byte, byte_mask, __ATOMIC_SEQ_CST);
    if (decoded.mnemonic == ZYDIS_MNEMONIC_BTR) before = __atomic_fetch_and(byte, static_cast<std::uint8_t>(~byte_mask), __ATOMIC_SEQ_CST);
    if (decoded.mnemonic == ZYDIS_MNEMONIC_BTC) before = __atomic_fetch_xor(byte, byte_mask, __ATOMIC_SEQ_CST);
    old = (before & byte_mask) != 0 ? mask : 0;
  } else {
    old = core.read_sized(linear, size);
    std::uint64_t changed = old;
    if (decoded.mnemonic == ZYDIS_MNEMONIC_BTS) changed |= mask;
    if (decoded.mnemonic == ZYDIS_MNEMONIC_BTR) changed &= ~mask;
    if (decoded.mnemonic == ZYDIS_MNEMONIC_BTC) changed ^= mask;
    if (writes) core.write_sized(linear, changed, size);
  }
  core.set_flags(rflags::kCf, (old & mask) != 0 ? rflags::kCf : 0);
}

std::uint64_t parity_zero_sign(std::uint8_t value) {
  std::uint64_t flags = 0;
  if ((__builtin_popcount(value) & 1) == 0) flags |= rflags::kPf;
  if (value == 0) flags |= rflags::kZf;
  if ((value & 0x80) != 0) flags |= rflags::kSf;
  return flags;
}

/// DAA and DAS (SDM volume 2).
void decimal_adjust(Core& core, const Decoded& decoded) {
  const bool subtracts = decoded.mnemonic == ZYDIS_MNEMONIC_DAS;
  const auto old = static_cast<std::uint8_t>(core.gpr(Gpr::kRax));
  const std::uint64_t flags = core.block().rflags;
  std::uint8_t value = old;
  std::uint64_t result = 0;
  const bool carry = (flags & rflags::kCf) != 0;
  if ((old & 15) > 9 || (flags & rflags::kAf) != 0) {
    value = static_cast<std::uint8_t>(subtracts ? value - 6 : value + 6);
    result |= rflags::kAf;
    if (carry || (subtracts ? old < 6 : old > 0xF9)) result |= rflags::kCf;
  }
  if (old > 0x99 || carry) {
    value = static_cast<std::uint8_t>(subtracts ? value - 0x60 : value + 0x60);
    result |= rflags::kCf;
  } else if (!subtracts) {
    result &= ~rflags::kCf;
  }
  core.write_register(0, 1, value);
  core.set_flags(rflags::kStatus, result | parity_zero_sign(value));
}

/// AAA and AAS.
void ascii_adjust(Core& core, const Decoded& decoded) {
  const bool subtracts = decoded.mnemonic == ZYDIS_MNEMONIC_AAS;
  std::uint64_t ax = core.gpr(Gpr::kRax) & 0xFFFF;
  std::uint64_t result = 0;
  if ((ax & 15) > 9 || (core.block().rflags & rflags::kAf) != 0) {
    ax = subtracts ? ax - 0x106 : ax + 0x106;
    result = rflags::kAf | rflags::kCf;
  }
  core.write_register(0, 2, ax & 0xFF0F);
  core.set_flags(rflags::kStatus, result | parity_zero_sign(static_cast<std::uint8_t>(ax & 15)));
}

void ascii_multiply(Core& core, const Decoded& decoded) {
  const auto base = static_cast<std::uint8_t>(decoded.immediate);
  if (base == 0) core.raise(vector::kDe);
  const auto al = static_cast<std::uint8_t>(core.gpr(Gpr::kRax));
  core.write_register(0, 2, static_cast<std::uint64_t>(((al / base) << 8) | (al % base)));
  core.set_flags(rflags::kStatus, parity_zero_sign(static_cast<std::uint8_t>(al % base)));
}

void ascii_divide(Core& core, const Decoded& decoded) {
  const std::uint64_t ax = core.gpr(Gpr::kRax);
  const auto value = static_cast<std::uint8_t>((ax & 0xFF) + ((ax >> 8) & 0xFF) * (decoded.immediate & 0xFF));
  core.write_register(0, 2, value);
  core.set_flags(rflags::kStatus, parity_zero_sign(value));
}

void set_al_from_carry(Core& core, const Decoded&) {
  core.write_register(0, 1, (core.block().rflags & rflags::kCf) != 0 ? 0xFF : 0);
}

void translate_byte(Core& core, const Decoded& decoded) {
  std::uint64_t offset = core.gpr(Gpr::kRbx) + (core.gpr(Gpr::kRax) & 0xFF);
  if (decoded.address_size == 4) offset &= 0xFFFF'FFFF;
  if (decoded.address_size == 2) offset &= 0xFFFF;
  core.write_register(0, 1, core.read<std::uint8_t>(core.linear_address(decoded.segment, offset, 1, Access::kRead)));
}

void no_operation(Core&, const Decoded&) {}

void clear_direction(Core& core, const Decoded&) { core.block().rflags &= ~rflags::kDf; }
void set_direction(Core& core, const Decoded&) { core.block().rflags |= rflags::kDf; }

/// CMPXCHG8B and 16B run natively after their alignment is checked.
constexpr HandlerEntry kHandlers[] = {
    {ZYDIS_MNEMONIC_LEA, load_address},
    {ZYDIS_MNEMONIC_MOVZX, move_extended},
    {ZYDIS_MNEMONIC_MOVSX, move_extended},
    {ZYDIS_MNEMONIC_MOVSXD, move_extended},
    {ZYDIS_MNEMONIC_PUSH, push_value},
    {ZYDIS_MNEMONIC_POP, pop_value},
    {ZYDIS_MNEMONIC_PUSHA, push_all},
    {ZYDIS_MNEMONIC_PUSHAD, push_all},
    {ZYDIS_MNEMONIC_POPA, pop_all},
    {ZYDIS_MNEMONIC_POPAD, pop_all},
    {ZYDIS_MNEMONIC_PUSHF, push_flags},
    {ZYDIS_MNEMONIC_PUSHFD, push_flags},
    {ZYDIS_MNEMONIC_PUSHFQ, push_flags},
    {ZYDIS_MNEMONIC_POPF, pop_flags},
    {ZYDIS_MNEMONIC_POPFD, pop_flags},
    {ZYDIS_MNEMONIC_POPFQ, pop_flags},
    {ZYDIS_MNEMONIC_LEAVE, leave_frame},
    {ZYDIS_MNEMONIC_ENTER, enter_frame},
    {ZYDIS_MNEMONIC_DIV, divide_unsigned},
    {ZYDIS_MNEMONIC_IDIV, divide_signed},
    {ZYDIS_MNEMONIC_BT, bit_string},
    {ZYDIS_MNEMONIC_BTS, bit_string},
    {ZYDIS_MNEMONIC_BTR, bit_string},
    {ZYDIS_MNEMONIC_BTC, bit_string},
    {ZYDIS_MNEMONIC_DAA, decimal_adjust},
    {ZYDIS_MNEMONIC_DAS, decimal_adjust},
    {ZYDIS_MNEMONIC_AAA, ascii_adjust},
    {ZYDIS_MNEMONIC_AAS, ascii_adjust},
    {ZYDIS_MNEMONIC_AAM, ascii_multiply},
    {ZYDIS_MNEMONIC_AAD, ascii_divide},
    {ZYDIS_MNEMONIC_SALC, set_al_from_carry},
    {ZYDIS_MNEMONIC_XLAT, translate_byte},
    {ZYDIS_MNEMONIC_NOP, no_operation},
    {ZYDIS_MNEMONIC_PAUSE, no_operation},
    {ZYDIS_MNEMONIC_ENDBR32, no_operation},
    {ZYDIS_MNEMONIC_ENDBR64, no_operation},
    {ZYDIS_MNEMONIC_PREFETCH, no_operation},
    {ZYDIS_MNEMONIC_PREFETCHW, no_operation},
    {ZYDIS_MNEMONIC_PREFETCHWT1, no_operation},
    {ZYDIS_MNEMONIC_PREFETCHNTA, no_operation},
    {ZYDIS_MNEMONIC_PREFETCHT0, no_operation},
    {ZYDIS_MNEMONIC_PREFETCHT1, no_operation},
    {ZYDIS_MNEMONIC_PREFETCHT2, no_operation},
    {ZYDIS_MNEMONIC_LFENCE, no_operation},
    {ZYDIS_MNEMONIC_CLD, clear_direction},
    {ZYDIS_MNEMONIC_STD, set_direction},
};

// ---- native execution ----

void run_native(Core& core, const Decoded& decoded) { run_thunk(core, decoded, nullptr); }

/// An x87 store that an unmasked exception prevents reaches for no memory, wherever its operand lies. True: it is such a one, and the
/// exception is noted. False: nothing has happened yet. What is stored is the same in two different buffers.
bool is_store_prevented(Core& core, const Decoded& decoded) {
  constexpr std::uint8_t kMasks = 0x3F;
  VcpuBlock& block = core.block();
  if ((decoded.native & (kNativeX87 | kNativeReads | kNativeWrites)) != (kNativeX87 | kNativeWrites)) return false;
  if ((block.vector.x87[0] & kMasks) == kMasks) return false;
  const auto x87 = block.vector.x87;
  const auto flags = block.rflags;
  const auto gpr = block.gpr;
  const auto run_on = [&](std::array<std::uint8_t, 512>& buffer) {
    block.vector.x87 = x87;
    run_thunk(core, decoded, buffer.data());
    block.rflags = flags;
    block.gpr = gpr;
  };
  std::array<std::uint8_t, 512> one = {}, other;
  other.fill(0xFF);
  run_on(one);
  run_on(other);
  if (std::memcmp(one.data(), other.data(), decoded.memory_size) != 0) return true;
  block.vector.x87 = x87;
  return false;
}

/// An operand that is not plainly in one page of RAM: through the scratch buffer, with the registers as they were when the
/// write must be asked of the machine.
void run_native_scratch(Core& core, const Decoded& decoded, std::uint64_t linear) {
  VcpuBlock& block = core.block();
  const std::uint32_t size = decoded.memory_size;
  std::uint8_t* buffer = core.scratch.data();
  if ((decoded.native & kNativeWrites) == 0) {
    core.read_bytes(linear, buffer, size);
    run_thunk(core, decoded, buffer);
    return;
  }
  core.probe_write(linear, size, block.tlb_context);
  if ((decoded.native & kNativeReads) != 0) core.read_bytes(linear, buffer, size);
  const auto gpr = block.gpr;
  const std::uint64_t flags = block.rflags;
  const auto x87 = block.vector.x87;
  run_thunk(core, decoded, buffer);
  try {
    core.write_bytes(linear, buffer, size);
  } catch (...) {
    block.gpr = gpr;
    block.rflags = flags;
    block.vector.x87 = x87;
    throw;
  }
}

void run_with_memory(Core& core, const Decoded& decoded) {
  if (is_store_prevented(core, decoded)) return;
  const bool writes = (decoded.native & kNativeWrites) != 0;
  const Access access = writes ? Access::kWrite : Access::kRead;
  const std::uint64_t linear = core.memory_operand(decoded, decoded.memory_size, access);
  if ((decoded.native & kNativeAligned) != 0 && linear % decoded.memory_size != 0) core.raise_gp();
  if (std::uint8_t* host = core.host_pointer(linear, decoded.memory_size, access)) {
    run_thunk(core, decoded, host);
    return;
  }
  if (writes && core.run_on_code_page(linear, decoded.memory_size, decoded)) return;
  run_native_scratch(core, decoded, linear);
}

void check_x87(Core& core, const Decoded& decoded) {
  VcpuBlock& block = core.block();
  if ((block.cr0 & cr0::kEm) != 0) core.raise((decoded.native & kNativeMmx) != 0 ? vector::kUd : vector::kNm);
  if ((block.cr0 & cr0::kTs) != 0) core.raise(vector::kNm);
  const bool waits = (decoded.native & (kNativeX87Waits | kNativeMmx)) != 0;
  if (waits && has_x87_error(block.vector)) core.raise(vector::kMf);
}

void check_sse(Core& core, const Decoded& decoded) {
  const VcpuBlock& block = core.block();
  if ((decoded.native & kNativeAvx512) != 0) {
    if ((block.mode & kModeAvx512) == 0) core.raise_ud();
  } else if ((decoded.native & kNativeAvx) != 0) {
    if ((block.mode & kModeAvx) == 0) core.raise_ud();
  } else if ((block.mode & kModeSse) == 0 || (block.cr0 & cr0::kEm) != 0) {
    core.raise_ud();
  }
  if ((block.cr0 & cr0::kTs) != 0) core.raise(vector::kNm);
}

void run_operand(Core& core, const Decoded& decoded) {
  if ((decoded.native & kNativeMasked) != 0) {
    run_masked(core, decoded);
  } else if (decoded.is_memory != 0) {
    run_with_memory(core, decoded);
  } else {
    run_native(core, decoded);
  }
}

/// SIMD floating point: the host raises what the guest has not masked.
void run_float(Core& core, const Decoded& decoded) {
  constexpr std::uint32_t kMasks = 0x1F80;
  constexpr std::uint32_t kStatus = 0x3F;
  const std::uint32_t before = core.block().vector.mxcsr;
  if ((before & kMasks) == kMasks) [[likely]] {
    run_operand(core, decoded);
  } else {
    const NativeFaultGuard guard(core.thunks());
    run_operand(core, decoded);
  }
  if ((before & ~kStatus) != kMasks) _mm_setcsr(kMasks);  // rounding and flushing modes are the guest's alone
}

void run_vector(Core& core, const Decoded& decoded) {
  if ((decoded.native & (kNativeX87 | kNativeMmx)) != 0) check_x87(core, decoded);
  if ((decoded.native & (kNativeSse | kNativeAvx)) != 0) check_sse(core, decoded);
  if ((decoded.native & kNativeFloat) != 0) {
    run_float(core, decoded);
  } else {
    run_operand(core, decoded);
  }
  if ((decoded.native & kNativeX87Data) != 0) {
    // FXSAVE noted the host's instruction and operand: put the guest's there.
    VcpuBlock& block = core.block();
    const std::uint64_t instruction = block.rip;
    const std::uint64_t operand = decoded.is_memory != 0 ? core.effective_offset(decoded) : 0;
    std::memcpy(block.vector.x87.data() + 8, &instruction, sizeof instruction);
    if (decoded.is_memory != 0) std::memcpy(block.vector.x87.data() + 16, &operand, sizeof operand);
  }
}

}  // namespace

void run_thunk(Core& core, const Decoded& decoded, void* memory) {
  if (decoded.thunk(&core.block(), memory) == 0) [[likely]] return;
  _mm_setcsr(0x1F80);
  core.raise((core.block().cr4 & cr4::kOsxmmexcpt) != 0 ? vector::kXm : vector::kUd);
}

bool Core::run_on_code_page(std::uint64_t linear, std::uint32_t size, const Decoded& decoded) {
  if ((linear & 0xFFF) + size > 4096) return false;
  const MmuResult place = look(linear, Access::kWrite, block_->tlb_context);
  if (place.status != MmuStatus::kCode) return false;
  run_thunk(*this, decoded, place.host);
  const auto offset = static_cast<std::uint32_t>(place.physical & 0xFFF);
  shared_.code_pages->wrote(block_.get(), shared_.physical->find(place.physical).ram_page, offset, offset + size - 1);
  return true;
}

std::span<const HandlerEntry> integer_handlers() {
  return kHandlers;
}

Handler move_handler(std::uint8_t shape, std::uint8_t size) {
  switch (shape) {
    case kShapeRR: return move_rr;
    case kShapeRI: return move_ri;
    case kShapeRM: return size == 1 ? move_rm<std::uint8_t> : size == 2 ? move_rm<std::uint16_t> : size == 4 ? move_rm<std::uint32_t> : move_rm<std::uint64_t>;
    case kShapeMR: return size == 1 ? move_mr<std::uint8_t> : size == 2 ? move_mr<std::uint16_t> : size == 4 ? move_mr<std::uint32_t> : move_mr<std::uint64_t>;
    case kShapeMI: return size == 1 ? move_mi<std::uint8_t> : size == 2 ? move_mi<std::uint16_t> : size == 4 ? move_mi<std::uint32_t> : move_mi<std::uint64_t>;
    default: return nullptr;
  }
}

Handler native_handler(const Decoded& decoded) {
  if ((decoded.native & (kNativeX87 | kNativeMmx | kNativeSse | kNativeAvx | kNativeFloat)) != 0) return run_vector;
  return decoded.is_memory != 0 ? run_with_memory : run_native;
}

void raise_undefined(Core& core, const Decoded&) { core.raise_ud(); }
void raise_too_long(Core& core, const Decoded&) { core.raise_gp(); }

}  // namespace bygone::cpu::translator
