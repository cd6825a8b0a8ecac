// The code that every translation shares: the way in, the way out, and calls of the run time (runtime.h) from guest code.
//
// Threading: one vCPU's thread.
#pragma once

#include <cstdint>

#include "cpu/translator/jit/code_memory.h"
#include "support/result.h"

namespace bygone::cpu::translator::jit {

/// Offsets in the code memory.
struct Thunks {
  std::uint32_t enter = 0;            ///< C function: void(VcpuBlock*, const void* host_pc)
  std::uint32_t leave_interpret = 0;  ///< the block's rip is set; each of these stores all registers and returns from enter
  std::uint32_t leave_attention = 0;
  std::uint32_t leave_fault = 0;
  std::uint32_t leave_lookup = 0;
  std::uint32_t resume = 0;           ///< goes on at Word::kResume with r11 = Word::kTemporary
  std::uint32_t fill = 0;             ///< Word::kSite and r10 = linear address → back to the access with r10, or out
  std::uint32_t give_up_slot = 0;     ///< the same, and the site has no page slot any more
  std::uint32_t link = 0;             ///< Word::kLink → on to the target
  std::uint32_t find = 0;             ///< r10 = target address → on to the target
  std::uint32_t load_vectors = 0;     ///< returns to r11
  std::uint32_t string = 0;           ///< Word::kSite = operation; returns to r11 or leaves
  std::uint32_t system = 0;           ///< Word::kSite = SystemOperation; goes on in the other ring or leaves
  std::uint32_t end = 0;
};

[[nodiscard]] Result<Thunks> emit_thunks(const CodeMemory& memory);

/// Whether user-space code may write the gs base; otherwise the caller of `enter` sets it through the kernel.
[[nodiscard]] bool can_write_gs_base();

}  // namespace bygone::cpu::translator::jit
