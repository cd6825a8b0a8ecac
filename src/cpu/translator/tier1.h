// What the run loop asks of the translator (tier 1). One object a vCPU; it may share its code cache with the others.
//
// The run loop calls run() only when no attention bit is set and block.mode has none of kModeReal, kModeFpuTrap's refusals or
// kModeSlow that the translator cannot serve (it may return kInterpret at once). On return the block is the whole truth.
#pragma once

#include <memory>
#include <string>

#include "cpu/translator/code_pages.h"
#include "cpu/translator/mmu.h"
#include "cpu/translator/state.h"

namespace bygone::cpu::translator {

enum class Tier1Result : std::uint8_t {
  kInterpret,  ///< the instruction at rip is for the interpreter (system, MMIO, page-crossing, not translated)
  kCold,       ///< the code at rip is not worth translating yet: interpret up to the next transfer of control
  kAttention,  ///< block.attention is set
  kBlock,      ///< one block was run, by a tier that runs no more at a time
  kFault,      ///< block.fault is to be delivered; rip is the faulting instruction's
};

class Tier1 : public TlbListener {
 public:
  [[nodiscard]] virtual Tier1Result run(VcpuBlock& block) = 0;
  /// Host time-stamp cycles spent in translations and in making them.
  [[nodiscard]] virtual std::uint64_t cycles() const = 0;
  /// Adds live numbers to a JSON object's text: "\"blocks\":12,…" without braces.
  [[nodiscard]] virtual std::string inspect() const = 0;
};

/// The part that processors share: the code cache. Created once a partition; outlives its tiers.
class Tier1Factory {
 public:
  virtual ~Tier1Factory() = default;
  [[nodiscard]] virtual std::unique_ptr<Tier1> create(VcpuBlock& block) = 0;
};

}  // namespace bygone::cpu::translator
