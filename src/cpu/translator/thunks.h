// Native execution of single instructions for the interpreter: guest and host have the same instruction set, so everything
// that is not control flow, system or string work runs as itself on registers loaded from the block, with the memory operand
// redirected to a host pointer. Flags, undefined ones too, are therefore the host's own.
//
// Code lies in a memory file mapped twice, writable here and executable there. Threading: the vCPU's thread.
#pragma once

#include <Zydis/Zydis.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>

#include "cpu/translator/decoded.h"

namespace bygone::cpu::translator {

class Thunks {
 public:
  Thunks();
  ~Thunks();
  Thunks(const Thunks&) = delete;
  Thunks& operator=(const Thunks&) = delete;

  /// The thunk for an instruction, whose bytes are given too; null when it cannot run natively.
  [[nodiscard]] Thunk get(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands,
                          std::span<const std::uint8_t> bytes, std::uint16_t native);
  /// Little room left: clear() before the next get(), and forget all thunks handed out.
  [[nodiscard]] bool is_nearly_full() const { return used_ + kMargin > kBytes; }
  void clear();
  [[nodiscard]] std::size_t size() const { return known_.size(); }
  /// Where a thunk is left whose instruction, at this address, takes a floating-point exception; 0 when there is none.
  [[nodiscard]] std::uint64_t way_out(std::uint64_t address) const;

 private:
  static constexpr std::size_t kBytes = 16U << 20;
  static constexpr std::size_t kMargin = 64U << 10;
  std::uint8_t* writable_ = nullptr;
  std::uint8_t* executable_ = nullptr;
  std::size_t used_ = 0;
  std::unordered_map<std::string, Thunk> known_;
  std::unordered_map<std::uint64_t, std::uint64_t> ways_out_;  ///< by the instruction's address
};

}  // namespace bygone::cpu::translator
