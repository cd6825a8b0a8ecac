// Which instructions make a block, and which arithmetic flags are alive where.
//
// Threading: one vCPU's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/translator/jit/code_reader.h"
#include "cpu/translator/jit/instruction.h"

namespace bygone::cpu::translator::jit {

/// Flags that somebody may still read.
struct Liveness {
  std::uint32_t before = kArithmeticFlags;  ///< before the instruction
  std::uint32_t after = kArithmeticFlags;
  std::uint32_t at_target = kArithmeticFlags;  ///< of a direct branch
};

/// A superblock: instructions one after another in memory; conditional branches leave it, anything else that jumps ends it.
struct Trace {
  std::uint64_t address = 0;
  ModeKey mode;
  std::vector<Instruction> instructions;  ///< the first `count` are used
  std::vector<Liveness> liveness;
  std::size_t count = 0;
  std::uint64_t end = 0;            ///< address behind the last instruction
  bool ends_with_fallback = false;  ///< at `end` is an instruction for the interpreter
  bool is_cut = false;              ///< at `end` is an instruction that ends on the next page
  std::uint32_t flags_at_end = kArithmeticFlags;
  bool needs_vectors = false;
  bool loops = false;               ///< has a branch back to a place not far before it
  bool has_loop_slots = false;      ///< its accesses through registers get page slots
};

class Tracer {
 public:
  Tracer();
  static constexpr std::size_t kMaximumInstructions = 64;

  /// Fills `trace` from the page behind `reader`.
  void trace(CodeReader& reader, std::uint64_t address, ModeKey mode, Trace& trace);
  /// Fills `trace` with one instruction whose bytes are given (it ends on another page).
  void trace_one(std::span<const std::uint8_t> bytes, std::uint64_t address, ModeKey mode, Trace& trace);

 private:
  void find_liveness(CodeReader* reader, Trace& trace);
  /// Flags read at `address` before they are overwritten, as far as the page shows.
  [[nodiscard]] std::uint32_t flags_read_at(CodeReader* reader, std::uint64_t page, std::uint64_t address, ModeKey mode);

  Decoder decoder_;
  Instruction ahead_;
};

}  // namespace bygone::cpu::translator::jit
