// The translator's own words in the vCPU block, for emitted code and the run time behind it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "cpu/translator/state.h"

namespace bygone::cpu::translator::jit {

/// The translator's words in VcpuBlock::translator.
enum class Word : std::uint8_t {
  kHostStack,    ///< rsp of the host while guest code runs
  kSelf,         ///< the block's own address
  kFlags,        ///< arithmetic flags between blocks: AH as LAHF leaves it, AL = OF
  kSite,         ///< memory access that went the slow way
  kLink,         ///< direct exit that wants to be linked
  kTarget,       ///< where a call goes once its return address is pushed; host address on the way in
  kVectorsHome,  ///< 1: the guest's vector and x87 registers are in the block, not in hardware
  kResume,       ///< host address after a slow path
  kReason,       ///< LeaveReason
  kAddress,      ///< linear address of a slow access
  kTemporary,
  kCache,        ///< the Cache of this vCPU
  kBounce,       ///< a buffer of 128 bytes for loads that cross pages
  kMode,         ///< ModeKey of the running code
  kFsBound,      ///< 32-bit code: offsets from here on are the interpreter's, which looks at the segment's limit and type
  kGsBound,
  kSlotTest,     ///< SlotSite of an access that loses its page slot
  kNoSlot,
  kFillJump,
};
[[nodiscard]] constexpr std::uint32_t word_offset(Word word) {
  return static_cast<std::uint32_t>(offset::kTranslator + 8 * static_cast<std::size_t>(word));
}

[[nodiscard]] inline std::uint64_t& own_word(VcpuBlock& block, Word which) { return block.translator[static_cast<std::size_t>(which)]; }
/// A word that holds a host address.
template <typename T>
[[nodiscard]] T* pointer_in(VcpuBlock& block, Word which) {
  return std::bit_cast<T*>(own_word(block, which));
}

enum class LeaveReason : std::uint32_t {
  kInterpret,
  kAttention,
  kFault,
  kLookup,  ///< go on at rip: nothing is translated there yet
};

}  // namespace bygone::cpu::translator::jit
