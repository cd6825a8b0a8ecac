// Why a virtual processor stopped running guest code. The engine owns the Exit until the next run(); the machine answers by
// writing into it (read data, results, faults), and the next run() completes the instruction with that answer.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "memory/guest_memory.h"

namespace bygone::cpu {

/// IN, OUT, INS, OUTS. `data` holds `count` elements of `size` bytes; for reads the machine fills it.
struct PortExit {
  std::uint16_t port = 0;
  std::uint8_t size = 1;  ///< 1, 2 or 4
  bool is_write = false;
  std::uint32_t count = 1;
  std::span<std::byte> data;
};

/// An access to a guest physical address that is not RAM. Never crosses a page. `size` 1, 2, 4 or 8.
struct MmioExit {
  memory::Gpa address;
  std::uint8_t size = 4;
  bool is_write = false;
  std::uint64_t data = 0;  ///< low `size` bytes
};

/// RDMSR or WRMSR of a register that the engine does not keep itself. The machine sets `value` or `fault` (#GP).
struct MsrExit {
  std::uint32_t index = 0;
  bool is_write = false;
  std::uint64_t value = 0;
  bool fault = false;
};

/// A hypercall (VMCALL/VMMCALL from the hypercall page or its port twin), registers as TLFS 3.7-3.9 give them.
/// The machine sets `result`; the engine puts it into RAX (EDX:EAX outside long mode). For fast hypercalls `xmm` holds
/// XMM0-5 on entry and is written back when `xmm_written` is set. `fault` injects #UD instead.
struct HypercallExit {
  bool is_long_mode = true;
  std::uint64_t control = 0;  ///< RCX or EDX:EAX
  std::uint64_t input = 0;    ///< RDX or EBX:ECX
  std::uint64_t output = 0;   ///< R8 or EDI:ESI
  std::array<std::array<std::uint64_t, 2>, 6> xmm = {};
  bool xmm_written = false;
  std::uint64_t result = 0;
  bool fault = false;
};

/// The guest wrote EOI for a level-triggered vector that the I/O APIC may hold.
struct IoApicEoiExit {
  std::uint8_t vector = 0;
};

struct HaltExit {};         ///< HLT with nothing pending; wait for an interrupt, then run() again. Only engines that do not wait themselves.
struct InterruptedExit {};  ///< kick() or a host signal; run() again or stop
struct ShutdownExit {};     ///< triple fault
struct DebugExit {          ///< a breakpoint or single step of the debugger's
  std::uint64_t rip = 0;
};
struct UnrecoverableExit {  ///< the engine cannot go on; `dump` says why with the whole state, for the log
  std::string dump;
};

using Exit = std::variant<InterruptedExit, PortExit, MmioExit, MsrExit, HypercallExit, IoApicEoiExit, HaltExit, ShutdownExit,
                          DebugExit, UnrecoverableExit>;

}  // namespace bygone::cpu
