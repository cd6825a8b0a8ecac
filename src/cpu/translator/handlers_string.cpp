// String instructions. REP forms work page by page at the host's own string speed where both sides are plain RAM; between
// pieces the registers are committed, so that interrupts and faults find the instruction half done as the architecture says.
#include <algorithm>

#include "cpu/translator/handlers.h"

namespace bygone::cpu::translator {
namespace {

constexpr unsigned kRcx = 1, kRsi = 6, kRdi = 7;

std::uint64_t address_mask(const Decoded& decoded) {
  return decoded.address_size == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * decoded.address_size)) - 1;
}

std::uint64_t offset_of(Core& core, const Decoded& decoded, unsigned number) { return core.gpr(number) & address_mask(decoded); }

void advance(Core& core, const Decoded& decoded, unsigned number, std::uint64_t bytes) {
  const bool down = (core.block().rflags & rflags::kDf) != 0;
  core.write_register(static_cast<std::uint8_t>(number), decoded.address_size, core.gpr(number) + (down ? ~bytes + 1 : bytes));
}

std::uint64_t remaining(Core& core, const Decoded& decoded) { return core.gpr(kRcx) & address_mask(decoded); }

void consume(Core& core, const Decoded& decoded, std::uint64_t count) {
  core.write_register(kRcx, decoded.address_size, core.gpr(kRcx) - count);
}

std::uint64_t source(Core& core, const Decoded& decoded, Access access = Access::kRead) {
  return core.linear_address(decoded.segment, offset_of(core, decoded, kRsi), decoded.operand_size, access);
}

std::uint64_t destination(Core& core, const Decoded& decoded, Access access) {
  return core.linear_address(static_cast<unsigned>(SegmentName::kEs), offset_of(core, decoded, kRdi), decoded.operand_size, access);
}

/// Segments whose limits need no look: pieces may be checked as a whole.
bool is_plain(Core& core, const Decoded& decoded) {
  if ((core.block().rflags & rflags::kDf) != 0) return false;
  return core.is_64() ? decoded.address_size != 2 : (core.block().mode & kModeFlat) != 0 && decoded.segment < 4 && decoded.address_size == 4;
}

std::uint64_t elements_in_page(std::uint64_t linear, std::uint8_t size) { return (4096 - (linear & 0xFFF)) / size; }

/// Leaves the instruction to be continued when somebody wants the processor.
bool should_pause(Core& core) {
  if (core.block().attention.load(std::memory_order_relaxed) == 0) return false;
  core.set_next_rip(core.block().rip);
  return true;
}

void copy_forward(std::uint8_t* to, const std::uint8_t* from, std::uint64_t count, std::uint8_t size) {
  switch (size) {
    case 1: asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
    case 2: asm volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
    case 4: asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
    default: asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
  }
}

void store_forward(std::uint8_t* to, std::uint64_t value, std::uint64_t count, std::uint8_t size) {
  switch (size) {
    case 1: asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
    case 2: asm volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
    case 4: asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
    default: asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
  }
}

void move_one(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t from = source(core, decoded);
  const std::uint64_t to = destination(core, decoded, Access::kWrite);
  core.write_sized(to, core.read_sized(from, size), size);
  advance(core, decoded, kRsi, size);
  advance(core, decoded, kRdi, size);
}

/// Moves as much as lies in one page on both sides; 0: not possible here.
std::uint64_t move_piece(Core& core, const Decoded& decoded) {
  if (!is_plain(core, decoded)) return 0;
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t from = source(core, decoded);
  const std::uint64_t to = destination(core, decoded, Access::kWrite);
  const std::uint64_t count = std::min({remaining(core, decoded), elements_in_page(from, size), elements_in_page(to, size)});
  if (count < 2) return 0;
  const auto bytes = static_cast<std::uint32_t>(count * size);
  const std::uint8_t* from_host = core.host_pointer(from, bytes, Access::kRead);
  std::uint8_t* to_host = core.host_pointer(to, bytes, Access::kWrite);
  if (from_host == nullptr || to_host == nullptr) return 0;
  copy_forward(to_host, from_host, count, size);
  advance(core, decoded, kRsi, bytes);
  advance(core, decoded, kRdi, bytes);
  return count;
}

void store_one(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  core.write_sized(destination(core, decoded, Access::kWrite), core.read_register(0, size), size);
  advance(core, decoded, kRdi, size);
}

std::uint64_t store_piece(Core& core, const Decoded& decoded) {
  if (!is_plain(core, decoded)) return 0;
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t to = destination(core, decoded, Access::kWrite);
  const std::uint64_t count = std::min(remaining(core, decoded), elements_in_page(to, size));
  if (count < 2) return 0;
  const auto bytes = static_cast<std::uint32_t>(count * size);
  std::uint8_t* host = core.host_pointer(to, bytes, Access::kWrite);
  if (host == nullptr) return 0;
  store_forward(host, core.gpr(0U), count, size);
  advance(core, decoded, kRdi, bytes);
  return count;
}

void load_one(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  core.write_register(0, size, core.read_sized(source(core, decoded), size));
  advance(core, decoded, kRsi, size);
}

template <void (*One)(Core&, const Decoded&), std::uint64_t (*Piece)(Core&, const Decoded&)>
void repeat(Core& core, const Decoded& decoded) {
  if (decoded.rep == 0) {
    One(core, decoded);
    return;
  }
  while (remaining(core, decoded) != 0) {
    std::uint64_t done = 0;
    if constexpr (Piece != nullptr) done = Piece(core, decoded);
    if (done == 0) {
      One(core, decoded);
      done = 1;
    }
    consume(core, decoded, done);
    core.commit_accesses();
    if (remaining(core, decoded) != 0 && should_pause(core)) return;
  }
}

/// The status flags of `left - right`, computed by the host.
template <typename T>
std::uint64_t compare(T left, T right) {
  std::uint16_t flags;
  asm("cmp %2, %1\n\tlahf\n\tseto %%al" : "=&a"(flags) : "r"(left), "r"(right) : "cc");
  const std::uint64_t low = (flags >> 8) & rflags::kStatus;
  return low | ((flags & 1) != 0 ? rflags::kOf : 0);
}

std::uint64_t compare_sized(std::uint64_t left, std::uint64_t right, std::uint8_t size) {
  switch (size) {
    case 1: return compare(static_cast<std::uint8_t>(left), static_cast<std::uint8_t>(right));
    case 2: return compare(static_cast<std::uint16_t>(left), static_cast<std::uint16_t>(right));
    case 4: return compare(static_cast<std::uint32_t>(left), static_cast<std::uint32_t>(right));
    default: return compare(left, right);
  }
}

void compare_one(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t left = core.read_sized(source(core, decoded), size);
  const std::uint64_t right = core.read_sized(destination(core, decoded, Access::kRead), size);
  core.set_flags(rflags::kStatus, compare_sized(left, right, size));
  advance(core, decoded, kRsi, size);
  advance(core, decoded, kRdi, size);
}

void scan_one(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t right = core.read_sized(destination(core, decoded, Access::kRead), size);
  core.set_flags(rflags::kStatus, compare_sized(core.read_register(0, size), right, size));
  advance(core, decoded, kRdi, size);
}

template <void (*One)(Core&, const Decoded&)>
void repeat_while(Core& core, const Decoded& decoded) {
  if (decoded.rep == 0) {
    One(core, decoded);
    return;
  }
  const bool while_equal = decoded.rep == 0xF3;
  while (remaining(core, decoded) != 0) {
    One(core, decoded);
    consume(core, decoded, 1);
    core.commit_accesses();
    if (((core.block().rflags & rflags::kZf) != 0) != while_equal) return;
    if (remaining(core, decoded) != 0 && should_pause(core)) return;
  }
}

void input_one(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const auto port = static_cast<std::uint16_t>(core.gpr(Gpr::kRdx));
  core.check_port(port, size);
  const std::uint64_t to = destination(core, decoded, Access::kWrite);
  core.probe_write(to, size, core.block().tlb_context);
  core.write_sized(to, core.port_read(port, size), size);
  advance(core, decoded, kRdi, size);
}

void output_one(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const auto port = static_cast<std::uint16_t>(core.gpr(Gpr::kRdx));
  core.check_port(port, size);
  const std::uint64_t value = core.read_sized(source(core, decoded), size);
  core.port_write(port, size, static_cast<std::uint32_t>(value));
  advance(core, decoded, kRsi, size);
}

constexpr Handler kMove = repeat<move_one, move_piece>;
constexpr Handler kStore = repeat<store_one, store_piece>;
constexpr Handler kLoad = repeat<load_one, nullptr>;
constexpr Handler kCompare = repeat_while<compare_one>;
constexpr Handler kScan = repeat_while<scan_one>;
constexpr Handler kInput = repeat<input_one, nullptr>;
constexpr Handler kOutput = repeat<output_one, nullptr>;

constexpr HandlerEntry kHandlers[] = {
    {ZYDIS_MNEMONIC_MOVSB, kMove},   {ZYDIS_MNEMONIC_MOVSW, kMove},   {ZYDIS_MNEMONIC_MOVSD, kMove},   {ZYDIS_MNEMONIC_MOVSQ, kMove},
    {ZYDIS_MNEMONIC_STOSB, kStore},  {ZYDIS_MNEMONIC_STOSW, kStore},  {ZYDIS_MNEMONIC_STOSD, kStore},  {ZYDIS_MNEMONIC_STOSQ, kStore},
    {ZYDIS_MNEMONIC_LODSB, kLoad},   {ZYDIS_MNEMONIC_LODSW, kLoad},   {ZYDIS_MNEMONIC_LODSD, kLoad},   {ZYDIS_MNEMONIC_LODSQ, kLoad},
    {ZYDIS_MNEMONIC_CMPSB, kCompare}, {ZYDIS_MNEMONIC_CMPSW, kCompare}, {ZYDIS_MNEMONIC_CMPSD, kCompare}, {ZYDIS_MNEMONIC_CMPSQ, kCompare},
    {ZYDIS_MNEMONIC_SCASB, kScan},   {ZYDIS_MNEMONIC_SCASW, kScan},   {ZYDIS_MNEMONIC_SCASD, kScan},   {ZYDIS_MNEMONIC_SCASQ, kScan},
    {ZYDIS_MNEMONIC_INSB, kInput},   {ZYDIS_MNEMONIC_INSW, kInput},   {ZYDIS_MNEMONIC_INSD, kInput},
    {ZYDIS_MNEMONIC_OUTSB, kOutput}, {ZYDIS_MNEMONIC_OUTSW, kOutput}, {ZYDIS_MNEMONIC_OUTSD, kOutput},
};

}  // namespace

std::span<const HandlerEntry> string_handlers() { return kHandlers; }

}  // namespace bygone::cpu::translator
