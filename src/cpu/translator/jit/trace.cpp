#include "cpu/translator/jit/trace.h"

namespace bygone::cpu::translator::jit {

namespace {

bool closes_loop(const Instruction& in) {
  constexpr std::uint64_t kLongestLoop = 512;
  const bool is_branch = in.kind == Kind::kJump || in.kind == Kind::kConditional || in.kind == Kind::kLoop;
  return is_branch && in.rip - in.target < kLongestLoop;
}

}  // namespace

Tracer::Tracer() = default;

void Tracer::trace(CodeReader& reader, std::uint64_t address, ModeKey mode, Trace& trace) {
  trace = Trace{.address = address,
                .mode = mode,
                .instructions = std::move(trace.instructions),
                .liveness = std::move(trace.liveness),
                .end = address};
  trace.instructions.resize(kMaximumInstructions);
  const std::uint64_t page = address & ~std::uint64_t{0xFFF};
  while (trace.count < kMaximumInstructions && (trace.end & ~std::uint64_t{0xFFF}) == page) {
    Instruction& in = trace.instructions[trace.count];
    const auto bytes = reader.read(static_cast<std::uint32_t>(trace.end & 0xFFF), 15);
    if (!decoder_.decode(mode, bytes, trace.end, in)) {
      // Cut off at the page's end, or no instruction at all: the interpreter knows what to raise.
      trace.is_cut = bytes.size() < 15;
      trace.ends_with_fallback = !trace.is_cut;
      break;
    }
    if (in.kind == Kind::kFallback) {
      trace.ends_with_fallback = true;
      break;
    }
    ++trace.count;
    trace.end = in.next();
    trace.needs_vectors |= in.needs_vectors;
    trace.loops |= closes_loop(in);
    if (in.ends_block()) break;
  }
  // STI holds interrupts off for one more instruction, which must then be in the same block.
  if (trace.count != 0 && trace.instructions[trace.count - 1].kind == Kind::kSetInterrupt) {
    --trace.count;
    trace.end = trace.instructions[trace.count].rip;
    trace.ends_with_fallback = true;
    trace.is_cut = false;
  }
  find_liveness(&reader, trace);
}

void Tracer::trace_one(std::span<const std::uint8_t> bytes, std::uint64_t address, ModeKey mode, Trace& trace) {
  trace.address = trace.end = address;
  trace.mode = mode;
  trace.count = 0;
  trace.is_cut = false;
  trace.ends_with_fallback = false;
  trace.needs_vectors = false;
  trace.loops = false;
  trace.has_loop_slots = false;
  trace.instructions.resize(kMaximumInstructions);
  Instruction& in = trace.instructions[0];
  if (!decoder_.decode(mode, bytes, address, in) || in.kind == Kind::kFallback || in.kind == Kind::kSetInterrupt) {
    trace.ends_with_fallback = true;
  } else {
    trace.count = 1;
    trace.end = in.next();
    trace.needs_vectors = in.needs_vectors;
  }
  find_liveness(nullptr, trace);
}

void Tracer::find_liveness(CodeReader* reader, Trace& trace) {
  const std::uint64_t page = trace.address & ~std::uint64_t{0xFFF};
  trace.liveness.assign(trace.count, Liveness{});
  const bool falls_through = trace.count == 0 || !trace.instructions[trace.count - 1].ends_block();
  trace.flags_at_end = trace.ends_with_fallback || trace.is_cut || !falls_through
                           ? kArithmeticFlags
                           : flags_read_at(reader, page, trace.end, trace.mode);
  std::uint32_t live = trace.flags_at_end;
  for (std::size_t i = trace.count; i-- > 0;) {
    const Instruction& in = trace.instructions[i];
    Liveness& at = trace.liveness[i];
    switch (in.kind) {
      case Kind::kJump:
      case Kind::kCall:
        at.at_target = flags_read_at(reader, page, in.target, trace.mode);
        live = at.at_target;
        break;
      case Kind::kLoop:
        at.at_target = kArithmeticFlags;
        live = kArithmeticFlags;
        break;
      case Kind::kConditional:
        at.at_target = flags_read_at(reader, page, in.target, trace.mode);
        live |= at.at_target;
        break;
      default:
        break;
    }
    at.after = live;
    live = in.flags_read | (live & ~in.flags_written);
    at.before = live;
  }
}

std::uint32_t Tracer::flags_read_at(CodeReader* reader, std::uint64_t page, std::uint64_t address, ModeKey mode) {
  if (reader == nullptr) return kArithmeticFlags;
  std::uint32_t read = 0;
  std::uint32_t open = kArithmeticFlags;  // neither read nor overwritten yet
  for (int i = 0; i < 12 && open != 0; ++i) {
    if ((address & ~std::uint64_t{0xFFF}) != page) break;
    const auto bytes = reader->read(static_cast<std::uint32_t>(address & 0xFFF), 15);
    if (!decoder_.decode(mode, bytes, address, ahead_)) break;
    if (ahead_.kind == Kind::kFallback || ahead_.kind == Kind::kConditional || ahead_.kind == Kind::kLoop) break;
    if (ahead_.ends_block() && ahead_.kind != Kind::kJump && ahead_.kind != Kind::kCall) break;
    read |= ahead_.flags_read & open;
    open &= ~(ahead_.flags_read | ahead_.flags_written);
    address = ahead_.kind == Kind::kJump || ahead_.kind == Kind::kCall ? ahead_.target : ahead_.next();
  }
  return read | open;
}

}  // namespace bygone::cpu::translator::jit
