// The interpreter's instruction handlers, one function an instruction (group), and the table from mnemonic to handler.
// A handler commits registers only after everything that can fault; see core.h for how faults and exits leave it.
#pragma once

#include <Zydis/Zydis.h>

#include <span>

#include "cpu/translator/core.h"
#include "cpu/translator/decoded.h"
#include "cpu/translator/decoder.h"

namespace bygone::cpu::translator {

struct HandlerEntry {
  ZydisMnemonic mnemonic;
  Handler handler;
};

// One list a file.
[[nodiscard]] std::span<const HandlerEntry> integer_handlers();
[[nodiscard]] std::span<const HandlerEntry> control_handlers();
[[nodiscard]] std::span<const HandlerEntry> string_handlers();
[[nodiscard]] std::span<const HandlerEntry> system_handlers();
[[nodiscard]] std::span<const HandlerEntry> vector_handlers();

/// For MOV, by operand shape (OperandShape).
[[nodiscard]] Handler move_handler(std::uint8_t shape, std::uint8_t size);
/// AVX-512 gathers and scatters.
[[nodiscard]] Handler sparse_handler(bool scatters);
/// Memory under an opmask: reads or writes only what the mask selects, and runs the instruction on a copy.
void run_masked(Core& core, const Decoded& decoded);
/// Runs the instruction on a host memory operand; raises the floating-point exception that the host took.
void run_thunk(Core& core, const Decoded& decoded, void* memory);
/// An x87 exception that the next waiting instruction reports: noted and not masked. The summary bit follows from these (a processor
/// derives it when it loads the state), so a guest's FXRSTOR image cannot make the host's processor know of one that this does not.
[[nodiscard]] inline bool has_x87_error(const VectorState& state) {
  constexpr unsigned kExceptions = 0x3F;
  return (state.x87[2] & ~state.x87[0] & kExceptions) != 0;
}
/// For instructions that run natively, by Decoded::native and is_memory.
[[nodiscard]] Handler native_handler(const Decoded& decoded);
void raise_undefined(Core& core, const Decoded& decoded);
void raise_too_long(Core& core, const Decoded& decoded);
void push_segment_register(Core& core, const Decoded& decoded);
void pop_segment_register(Core& core, const Decoded& decoded);

}  // namespace bygone::cpu::translator
