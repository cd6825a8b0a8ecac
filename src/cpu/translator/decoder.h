// From bytes to Decoded: Zydis decodes, this chooses the handler and boils the operands down to what handlers use.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>
#include <span>

#include "cpu/translator/decoded.h"
#include "cpu/translator/thunks.h"

namespace bygone::cpu::translator {

enum class DecodeStatus : std::uint8_t { kDone, kNeedsMore };

/// Decodes the instruction at the start of `bytes` for a code width (Mode bits). What is no instruction decodes to one that
/// raises #UD. kNeedsMore: it goes on past the end of `bytes`.
[[nodiscard]] DecodeStatus decode_instruction(std::span<const std::uint8_t> bytes, std::uint32_t width, bool real_mode, Thunks& thunks,
                                              Decoded& decoded);

/// Whether instructions of an extension exist for guests: this host runs them and CPUID may offer them. Both tiers ask here.
[[nodiscard]] bool host_carries(ZydisISAExt extension, ZydisISASet set);

/// Operand shapes for Decoded::operands, in the order of the operands.
enum OperandShape : std::uint8_t {
  kShapeNone,
  kShapeR,
  kShapeM,
  kShapeI,
  kShapeRR,
  kShapeRM,
  kShapeMR,
  kShapeRI,
  kShapeMI,
  kShapeFar,  ///< an immediate selector:offset; the selector in `rm` and `condition`… see the handler
  kShapeOther,
};

}  // namespace bygone::cpu::translator
