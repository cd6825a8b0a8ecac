#include "cpu/translator/thunks.h"

#include <sys/mman.h>
#include <unistd.h>
#include <xbyak/xbyak.h>

#include <array>
#include <cstring>
#include <new>
#include <optional>

#include "cpu/translator/native_faults.h"
#include "cpu/translator/registers.h"
#include "cpu/translator/state.h"
#include "cpu/translator/xsave.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint32_t bit(unsigned number) { return 1U << number; }
constexpr unsigned kRsp = 4;

/// What one instruction touches, by register number.
struct Footprint {
  std::uint32_t gpr_used = 0, gpr_written = 0;
  std::uint32_t vector_used = 0, vector_written = 0;
  std::uint32_t mask_used = 0, mask_written = 0;
  bool has_memory = false;
  bool supported = true;
};

struct RegisterName {
  unsigned number = 0;
  bool high = false;
};

std::optional<RegisterName> gpr_number(ZydisRegister name) {
  const ZydisRegisterClass kind = ZydisRegisterGetClass(name);
  const auto id = unsigned{static_cast<std::uint8_t>(ZydisRegisterGetId(name))};
  switch (kind) {
    case ZYDIS_REGCLASS_GPR8:  // AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B…
      if (id < 4) return RegisterName{id, false};
      if (id < 8) return RegisterName{id - 4, true};
      return RegisterName{id - 4, false};
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: return RegisterName{id, false};
    default: return std::nullopt;
  }
}

ZydisRegister gpr_name(unsigned number, ZydisRegisterClass kind) {
  if (kind == ZYDIS_REGCLASS_GPR8) return ZydisRegisterEncode(kind, static_cast<ZyanU8>(number < 4 ? number : number + 4));
  return ZydisRegisterEncode(kind, static_cast<ZyanU8>(number));
}

void note_register(Footprint& print, const ZydisDecodedOperand& operand) {
  const ZydisRegister name = operand.reg.value;
  const bool writes = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
  if (const auto gpr = gpr_number(name)) {
    print.gpr_used |= bit(gpr->number);
    if (writes) print.gpr_written |= bit(gpr->number);
    return;
  }
  if (name == ZYDIS_REGISTER_MXCSR || name == ZYDIS_REGISTER_X87CONTROL || name == ZYDIS_REGISTER_X87STATUS ||
      name == ZYDIS_REGISTER_X87TAG) {
    return;
  }
  switch (ZydisRegisterGetClass(name)) {
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
    case ZYDIS_REGCLASS_ZMM: {
      const auto number = unsigned{static_cast<std::uint8_t>(ZydisRegisterGetId(name))};
      print.vector_used |= bit(number & 31);
      if (writes) print.vector_written |= bit(number & 31);
      break;
    }
    case ZYDIS_REGCLASS_MASK: {
      const auto number = unsigned{static_cast<std::uint8_t>(ZydisRegisterGetId(name))};
      print.mask_used |= bit(number & 7);
      if (writes) print.mask_written |= bit(number & 7);
      break;
    }
    case ZYDIS_REGCLASS_X87:
    case ZYDIS_REGCLASS_MMX:
    case ZYDIS_REGCLASS_FLAGS:
    case ZYDIS_REGCLASS_IP: break;
    default: print.supported = false; break;
  }
}

Footprint footprint_of(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands) {
  Footprint print;
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    const ZydisDecodedOperand& operand = operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      note_register(print, operand);
    } else if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      if (operand.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT || operand.mem.type != ZYDIS_MEMOP_TYPE_MEM) print.supported = false;
      print.has_memory = true;
    } else if (operand.type == ZYDIS_OPERAND_TYPE_POINTER) {
      print.supported = false;
    }
  }
  return print;
}

/// Host registers beside the guest's own.
struct Plan {
  unsigned block = 11;
  unsigned memory = kRsp;   ///< kRsp: none
  unsigned stack = kRsp;    ///< stands in for guest RSP
};

std::optional<Plan> plan_registers(const Footprint& print) {
  std::uint32_t taken = print.gpr_used | bit(kRsp);
  Plan plan;
  const auto take = [&](std::initializer_list<unsigned> order) -> std::optional<unsigned> {
    for (const unsigned number : order) {
      if ((taken & bit(number)) == 0) {
        taken |= bit(number);
        return number;
      }
    }
    return std::nullopt;
  };
  const auto block = take({11, 10, 9, 8, 15, 14, 13, 12});
  if (!block) return std::nullopt;
  plan.block = *block;
  if (print.has_memory) {
    // Without REX, so that AH-DH stay encodable beside it; RDI last, it carries the block in.
    const auto memory = take({6, 2, 1, 0, 3, 7, 5});
    if (!memory) return std::nullopt;
    plan.memory = *memory;
  }
  if ((print.gpr_used & bit(kRsp)) != 0) {
    const auto stack = take({2, 1, 0, 3, 7, 6, 5});
    if (!stack) return std::nullopt;
    plan.stack = *stack;
  }
  return plan;
}

/// The instruction with its operands moved to the plan's registers, in 64-bit encoding.
std::optional<std::string> encode(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands, const Plan& plan) {
  ZydisEncoderRequest request;
  if (!ZYAN_SUCCESS(ZydisEncoderDecodedInstructionToEncoderRequest(&instruction, operands, instruction.operand_count_visible, &request))) {
    return std::nullopt;
  }
  request.machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
  request.prefixes &= ZYDIS_ATTRIB_HAS_LOCK;
  request.address_size_hint = ZYDIS_ADDRESS_SIZE_HINT_NONE;
  for (unsigned i = 0; i < request.operand_count; ++i) {
    ZydisEncoderOperand& operand = request.operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      operand.mem.base = gpr_name(plan.memory, ZYDIS_REGCLASS_GPR64);
      operand.mem.index = ZYDIS_REGISTER_NONE;
      operand.mem.scale = 0;
      operand.mem.displacement = 0;
    } else if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      const auto gpr = gpr_number(operand.reg.value);
      if (gpr && gpr->number == kRsp && !gpr->high) {
        operand.reg.value = gpr_name(plan.stack, ZydisRegisterGetClass(operand.reg.value));
      }
    }
  }
  std::array<std::uint8_t, ZYDIS_MAX_INSTRUCTION_LENGTH> bytes;
  ZyanUSize length = bytes.size();
  if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(&request, bytes.data(), &length))) return std::nullopt;
  // The encoder takes XCHG EAX, EAX for a no-operation, but it clears RAX's upper half.
  if (instruction.mnemonic == ZYDIS_MNEMONIC_XCHG && length == 1 && bytes[0] == 0x90) return "\x87\xC0";
  return std::string(reinterpret_cast<const char*>(bytes.data()), length);
}

/// An EVEX instruction with its memory operand at [plan.memory]. Its bytes stay but for that and for what other modes ignore.
std::string rewrite_evex(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands,
                         std::span<const std::uint8_t> bytes, const Plan& plan) {
  constexpr std::uint8_t kR = 0x80, kX = 0x40, kB = 0x20, kRHigh = 0x10;  // of the first byte, all inverted
  const auto& raw = instruction.raw;
  std::uint8_t first = bytes[raw.evex.offset + 1U];
  std::uint8_t second = bytes[raw.evex.offset + 2U];
  std::uint8_t third = bytes[raw.evex.offset + 3U];
  std::uint8_t modrm = bytes[raw.modrm.offset];
  const bool has_memory = raw.modrm.mod != 3;
  const bool is_64 = instruction.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
  bool names_general = has_memory && has_general_width(instruction.mnemonic) && instruction.mnemonic != ZYDIS_MNEMONIC_VPBROADCASTQ &&
                       instruction.mnemonic != ZYDIS_MNEMONIC_VPBROADCASTD && instruction.mnemonic != ZYDIS_MNEMONIC_VMOVQ;
  for (unsigned i = 0; i < instruction.operand_count_visible; ++i) {
    if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    const auto gpr = gpr_number(operands[i].reg.value);
    if (!gpr) continue;
    names_general = true;
    if (gpr->number != kRsp) continue;
    const auto stack = static_cast<std::uint8_t>(plan.stack);
    if (operands[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
      modrm = static_cast<std::uint8_t>((modrm & 0xC7) | stack << 3);
      first |= kR | kRHigh;
    } else {
      modrm = static_cast<std::uint8_t>((modrm & 0xF8) | stack);
      first |= kX | kB;
    }
  }
  if (!is_64) {
    first |= kR | kX | kB | kRHigh;
    second |= 0x40;  // the highest bits of the register in vvvv
    third |= 0x08;
    if (names_general) second &= 0x7F;  // W makes no general register wide there
  }
  std::string code;
  if (has_memory) {
    first |= kX | kB;
    modrm = static_cast<std::uint8_t>((modrm & 0x38) | 0x40 | plan.memory);  // [register + 0]
  }
  for (const std::uint8_t byte : {std::uint8_t{0x62}, first, second, third, bytes[raw.modrm.offset - 1U], modrm}) {
    code.push_back(static_cast<char>(byte));
  }
  if (has_memory) code.push_back(0);
  for (const auto& immediate : raw.imm) {
    for (unsigned i = 0; i < immediate.size / 8U; ++i) code.push_back(static_cast<char>(bytes[immediate.offset + i]));
  }
  return code;
}

struct FlagUse {
  bool load = false, store = false;
};

FlagUse flag_use(const ZydisDecodedInstruction& instruction) {
  if (instruction.cpu_flags == nullptr) return {};
  const ZydisAccessedFlags& flags = *instruction.cpu_flags;
  constexpr auto kStatus = static_cast<ZydisAccessedFlagsMask>(rflags::kStatus);
  const auto written = (flags.modified | flags.set_0 | flags.set_1 | flags.undefined) & kStatus;
  FlagUse use;
  use.store = written != 0;
  const ZydisInstructionCategory category = instruction.meta.category;
  const bool writes_all = written == kStatus && (category == ZYDIS_CATEGORY_BINARY || category == ZYDIS_CATEGORY_LOGICAL);
  use.load = (flags.tested & kStatus) != 0 || (use.store && !writes_all);
  return use;
}

class Emitter : public Xbyak::CodeGenerator {
 public:
  Emitter() : Xbyak::CodeGenerator(4096) {}

  void emit(const Footprint& print, const Plan& plan, const std::string& instruction, FlagUse flags, std::uint16_t native) {
    reset();
    using Xbyak::Reg64;
    const Reg64 block(static_cast<int>(plan.block));
    const auto at = [&](std::size_t displacement) { return ptr[block + displacement]; };
    const auto host_of = [&](unsigned guest) { return Reg64(static_cast<int>(guest == kRsp ? plan.stack : guest)); };

    std::uint32_t used = (print.gpr_used & ~bit(kRsp)) | bit(plan.block);
    if (plan.memory != kRsp) used |= bit(plan.memory);
    if (plan.stack != kRsp) used |= bit(plan.stack);
    constexpr std::array<unsigned, 6> kPreserved = {3, 5, 12, 13, 14, 15};
    for (const unsigned number : kPreserved) {
      if ((used & bit(number)) != 0) push(Reg64(static_cast<int>(number)));
    }
    mov(block, rdi);
    if ((native & (kNativeX87 | kNativeMmx)) != 0) fxrstor64(at(offset::kX87));
    if ((native & kNativeFloat) != 0) ldmxcsr(at(offset::kMxcsr));
    const bool wide = (native & kNativeAvx) != 0;
    const bool widest = (native & kNativeAvx512) != 0;
    for (int number = 0; number < 32; ++number) {
      if ((print.vector_used & bit(static_cast<unsigned>(number))) == 0) continue;
      const std::size_t home = offset::kZmm + 64 * static_cast<std::size_t>(number);
      if (widest) vmovups(Xbyak::Zmm(number), at(home));
      else if (wide) vmovups(Xbyak::Ymm(number), at(home));
      else movups(Xbyak::Xmm(number), at(home));
    }
    for (int number = 0; number < 8; ++number) {
      if ((print.mask_used & bit(static_cast<unsigned>(number))) != 0) kmovq(Xbyak::Opmask(number), at(opmask(number)));
    }
    if (flags.load) {
      movzx(eax, word[block + static_cast<int>(offset::kRflags)]);
      xchg(al, ah);
      and_(al, 8);       // OF
      add(al, 0x78);     // overflows when it was set
      sahf();
    }
    if (plan.memory != kRsp) mov(Reg64(static_cast<int>(plan.memory)), rsi);
    for (unsigned number = 0; number < 16; ++number) {
      if ((print.gpr_used & bit(number)) != 0) mov(host_of(number), at(offset::kGpr + 8ULL * number));
    }
    instruction_at_ = getSize();
    for (const char value : instruction) db(static_cast<std::uint8_t>(value));
    for (unsigned number = 0; number < 16; ++number) {
      if ((print.gpr_written & bit(number)) != 0) mov(at(offset::kGpr + 8ULL * number), host_of(number));
    }
    if (flags.store) {
      pushfq();
      pop(rax);
      and_(eax, static_cast<std::uint32_t>(rflags::kStatus));
      and_(dword[block + static_cast<int>(offset::kRflags)], ~static_cast<std::uint32_t>(rflags::kStatus));
      or_(dword[block + static_cast<int>(offset::kRflags)], eax);
    }
    // VEX instructions clear what is above: where registers have an upper half of the upper half, that too.
    const bool stores_all = widest || (wide && xsave::host_has_avx512());
    for (int number = 0; number < 32; ++number) {
      if ((print.vector_written & bit(static_cast<unsigned>(number))) == 0) continue;
      const std::size_t home = offset::kZmm + 64 * static_cast<std::size_t>(number);
      if (stores_all) vmovups(at(home), Xbyak::Zmm(number));
      else if (wide) vmovups(at(home), Xbyak::Ymm(number));
      else movups(at(home), Xbyak::Xmm(number));
    }
    for (int number = 0; number < 8; ++number) {
      if ((print.mask_written & bit(static_cast<unsigned>(number))) != 0) kmovq(at(opmask(number)), Xbyak::Opmask(number));
    }
    const auto leave = [&](bool faulted) {
      if ((native & (kNativeX87 | kNativeMmx)) != 0) save_x87(plan.block);  // MMX registers are in use even where the instruction faults
      if (wide) vzeroupper();
      if ((native & kNativeFloat) != 0) stmxcsr(at(offset::kMxcsr));
      if ((native & (kNativeX87 | kNativeMmx)) != 0) fninit();
      for (auto number = kPreserved.rbegin(); number != kPreserved.rend(); ++number) {
        if ((used & bit(*number)) != 0) pop(Reg64(static_cast<int>(*number)));
      }
      mov(eax, faulted ? 1 : 0);
      ret();
    };
    leave(false);
    way_out_at_ = getSize();
    if ((native & kNativeFloat) != 0) leave(true);
  }

  [[nodiscard]] std::size_t instruction_at() const { return instruction_at_; }
  [[nodiscard]] std::size_t way_out_at() const { return way_out_at_; }

 private:
  /// FXSAVE64 [block + home], which Xbyak does not name.
  void save_x87(unsigned block) {
    db(0x48 | (block >> 3));
    db(0x0F);
    db(0xAE);
    db(0x80 | (block & 7));
    if ((block & 7) == 4) db(0x24);
    dd(static_cast<std::uint32_t>(offset::kX87));
  }

  static std::size_t opmask(int number) {
    return offsetof(VcpuBlock, vector) + offsetof(VectorState, opmask) + 8 * static_cast<std::size_t>(number);
  }

  std::size_t instruction_at_ = 0;
  std::size_t way_out_at_ = 0;  ///< the end when it takes no floating-point exception
};

}  // namespace

Thunks::Thunks() {
  const int file = ::memfd_create("bygone-thunks", MFD_CLOEXEC);
  if (file < 0 || ::ftruncate(file, kBytes) != 0) {
    if (file >= 0) ::close(file);
    throw std::bad_alloc();
  }
  void* writable = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  void* executable = ::mmap(nullptr, kBytes, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
  ::close(file);
  if (writable == MAP_FAILED || executable == MAP_FAILED) throw std::bad_alloc();
  writable_ = static_cast<std::uint8_t*>(writable);
  executable_ = static_cast<std::uint8_t*>(executable);
  NativeFaultGuard::install();
}

Thunks::~Thunks() {
  ::munmap(writable_, kBytes);
  ::munmap(executable_, kBytes);
}

void Thunks::clear() {
  known_.clear();
  ways_out_.clear();
  used_ = 0;
}

std::uint64_t Thunks::way_out(std::uint64_t address) const {
  const auto found = ways_out_.find(address);
  return found == ways_out_.end() ? 0 : found->second;
}

Thunk Thunks::get(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands,
                  std::span<const std::uint8_t> bytes, std::uint16_t native) {
  const Footprint print = footprint_of(instruction, operands);
  if (!print.supported) return nullptr;
  const auto plan = plan_registers(print);
  if (!plan) return nullptr;
  const auto encoded = instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX
                           ? std::optional(rewrite_evex(instruction, operands, bytes, *plan))
                           : encode(instruction, operands, *plan);
  if (!encoded) return nullptr;
  // The same bytes may stand for different guest registers: the stack pointer's stand-in is no different from the original.
  std::string key = *encoded;
  key.push_back(static_cast<char>(plan->stack));
  if (const auto known = known_.find(key); known != known_.end()) return known->second;
  Emitter emitter;
  emitter.emit(print, *plan, *encoded, flag_use(instruction), native);
  const std::size_t size = (emitter.getSize() + 15) & ~std::size_t{15};
  if (used_ + size > kBytes) return nullptr;
  std::memcpy(writable_ + used_, emitter.getCode(), emitter.getSize());
  const auto thunk = reinterpret_cast<Thunk>(executable_ + used_);
  const auto place = reinterpret_cast<std::uint64_t>(thunk);
  if (emitter.way_out_at() != emitter.getSize()) ways_out_.emplace(place + emitter.instruction_at(), place + emitter.way_out_at());
  used_ += size;
  known_.emplace(std::move(key), thunk);
  return thunk;
}

}  // namespace bygone::cpu::translator
