// One virtual processor of an engine.
#pragma once

#include "cpu/exit.h"
#include "cpu/state.h"
#include "support/result.h"

namespace bygone::cpu {

/// Threading: run() and the state accessors belong to one thread, the vCPU's; the accessors also to any other thread while
/// run() is not running. kick() from any thread.
class Vcpu {
 public:
  virtual ~Vcpu() = default;
  [[nodiscard]] virtual VpIndex index() const = 0;

  /// Completes the last exit with the machine's answer and runs guest code until the next one. An engine that waits for
  /// interrupts itself never returns HaltExit. Errors: kIo, kInternal: the engine broke; the processor cannot go on.
  [[nodiscard]] virtual Result<Exit*> run() = 0;
  /// Makes run() return InterruptedExit soon, between two instructions; at once if it is called next. Also out of a halt.
  virtual void kick() = 0;

  /// Completes a pending exit first, without running guest code. Errors: kBusy (half way in an instruction; run() goes on with it).
  [[nodiscard]] virtual Result<VcpuState> save_state() = 0;
  [[nodiscard]] virtual Result<void> restore_state(const VcpuState& state) = 0;
  /// The cheap subset, for debuggers, loaders and exits. `set_` of general registers keeps everything else.
  [[nodiscard]] virtual Result<GeneralRegisters> general_registers() = 0;
  [[nodiscard]] virtual Result<void> set_general_registers(const GeneralRegisters& registers) = 0;
  [[nodiscard]] virtual Result<SystemRegisters> system_registers() = 0;
  [[nodiscard]] virtual Result<void> set_system_registers(const SystemRegisters& registers) = 0;
  /// Architectural reset (Intel SDM volume 3, table 10-1): BSP runs at 0xFFFFFFF0, others wait for SIPI.
  [[nodiscard]] virtual Result<void> reset() = 0;

  /// Makes the next run() inject an exception, as when an exit's answer is a fault that the Exit cannot carry.
  [[nodiscard]] virtual Result<void> inject_exception(std::uint8_t vector, std::optional<std::uint32_t> error_code) = 0;

  /// Debugger: execution breakpoints by linear address and single step; both leave run() with DebugExit.
  [[nodiscard]] virtual Result<void> set_breakpoints(std::span<const std::uint64_t> addresses, bool single_step) = 0;
  /// Walks the guest's page tables as a supervisor read would; nullopt when unmapped.
  [[nodiscard]] virtual Result<std::optional<memory::Gpa>> translate(std::uint64_t linear) = 0;
};

}  // namespace bygone::cpu
