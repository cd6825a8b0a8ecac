// The vCPU block: one virtual processor's state in the layout that translated code addresses, shared by both tiers.
//
// The interpreter works on it directly. Translated code holds general, vector and x87 registers in hardware while it runs and
// writes them home before it calls anything that may look at them; between instructions of the interpreter, and whenever
// the run loop holds control, the block is the whole truth and `rip` points at the next instruction.
//
// Threading: owned by the vCPU's thread; only `attention` and `in_guest` are touched by others.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "cpu/state.h"
#include "cpu/translator/mmu_types.h"
#include "support/result.h"

namespace bygone::cpu::translator {

class CodePages;
class DirtyPages;
class Core;
class PhysicalMemory;
class TlbListener;

/// Bits of VcpuBlock::attention: reasons to leave guest code at the next poll.
enum Attention : std::uint32_t {
  kAttentionKick = 1U << 0,       ///< leave run() with InterruptedExit
  kAttentionInterrupt = 1U << 1,  ///< ask the local APIC
  kAttentionNmi = 1U << 2,
  kAttentionInit = 1U << 3,
  kAttentionStartUp = 1U << 4,    ///< vector in start_up_vector
  kAttentionFlushTlb = 1U << 5,   ///< drop the whole TLB
  kAttentionFlushWrites = 1U << 6,  ///< drop all write tags: some page became code
  kAttentionCodeChanged = 1U << 7,  ///< code was overwritten by another processor or a device: re-check versions
  kAttentionShutdown = 1U << 8,     ///< a triple fault happened
};
inline constexpr std::uint32_t kAttentionRequests = kAttentionFlushTlb | kAttentionFlushWrites | kAttentionCodeChanged;

/// Bits of VcpuBlock::mode: everything outside the registers that decides how bytes decode and what a translation may assume.
/// Equal modes and equal bytes at an equal physical place give equal translations.
enum Mode : std::uint32_t {
  kModeCode16 = 0,
  kModeCode32 = 1,
  kModeCode64 = 2,
  kModeCodeWidthMask = 3,
  kModeUser = 1U << 2,       ///< CPL 3
  kModeStack32 = 1U << 3,    ///< SS.B, outside 64-bit code
  kModeFlat = 1U << 4,       ///< CS, DS, ES, SS: base 0, limit 4 GiB, DS/ES/SS writable; always set in 64-bit code
  kModeReal = 1U << 5,       ///< real or virtual-8086 mode: interpreted only
  kModeFpuTrap = 1U << 6,    ///< CR0.TS or EM: x87, MMX, SSE and AVX instructions raise #NM or #UD: interpreted only
  kModeSse = 1U << 7,        ///< CR4.OSFXSR
  kModeAvx = 1U << 8,        ///< CR4.OSXSAVE and XCR0[2:1] = 3
  kModeAvx512 = 1U << 9,     ///< XCR0[7:5] = 7
  kModeSlow = 1U << 10,      ///< TF, debug breakpoints, a debugger: interpreted only, one instruction at a time
  kModePrivileged = 1U << 11,  ///< CPL 0
};

/// The FXSAVE image after FNINIT, with a loadable MXCSR.
constexpr std::array<std::uint8_t, 512> reset_x87() {
  std::array<std::uint8_t, 512> image = {};
  image[0] = 0x7F;   // FCW 0x037F
  image[1] = 0x03;
  image[24] = 0x80;  // MXCSR 0x1F80
  image[25] = 0x1F;
  return image;
}

/// A register file of the widest vectors; narrower ones are the low bytes. XSAVE images are made from it.
struct alignas(64) VectorState {
  std::array<std::array<std::uint8_t, 64>, 32> zmm = {};
  std::array<std::uint64_t, 8> opmask = {};
  /// FXSAVE64 image; the home of the x87 and MMX state. Its XMM and MXCSR fields are not used.
  alignas(64) std::array<std::uint8_t, 512> x87 = reset_x87();
  std::uint32_t mxcsr = 0x1F80;
  std::uint32_t pkru = 0;
};

/// Registers that live in MSRs and that the engine keeps.
struct MsrFile {
  std::uint64_t star = 0, lstar = 0, cstar = 0, sfmask = 0;
  std::uint64_t kernel_gs_base = 0;
  std::uint64_t sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
  std::uint64_t tsc_aux = 0;
  std::uint64_t pat = 0x0007'0406'0007'0406;
  std::uint64_t misc_enable = 1;
  std::uint64_t mtrr_default_type = 0;
  std::array<std::uint64_t, 16> mtrr_variable = {};  ///< base and mask, eight pairs
  std::array<std::uint64_t, 11> mtrr_fixed = {};
  std::uint64_t debug_control = 0;
  std::uint64_t speculation_control = 0;
  std::uint64_t xss = 0;
  std::uint64_t microcode_revision = 0;
};

/// The exception that an access or instruction raised; filled by the MMU and the interpreter.
struct FaultInfo {
  std::uint8_t vector = 0;
  bool has_error_code = false;
  std::uint32_t error_code = 0;
  std::uint64_t address = 0;  ///< CR2 for #PF
};

struct alignas(4096) VcpuBlock {
  /// Errors: kExhausted.
  [[nodiscard]] static Result<std::unique_ptr<VcpuBlock>> create();
  /// Blocks are below 2 GiB, where translated code reaches the TLB by a 32-bit displacement. Null when there is no room.
  [[nodiscard]] static void* operator new(std::size_t bytes, std::align_val_t alignment) noexcept;
  static void operator delete(void* place, std::size_t bytes, std::align_val_t alignment);

  // First cache lines: what translated code touches all the time (8-bit displacements where possible).
  std::array<std::uint64_t, 16> gpr = {};  ///< by Gpr
  std::uint64_t rip = 0;
  std::uint64_t rflags = 2;                ///< architectural, complete
  std::atomic<std::uint32_t> attention = 0;  ///< not zero: leave guest code at the next poll
  std::uint32_t mode = 0;                  ///< Mode bits
  std::uint32_t tlb_context = 0;           ///< TlbContext of data accesses at the present CPL and AC
  std::uint32_t interrupt_shadow = 0;      ///< 1: the next instruction still runs with interrupts held (STI, MOV SS)
  std::uint32_t interrupt_held = 0;        ///< not zero: an interrupt waits for RFLAGS.IF or for the shadow's end
  std::uint32_t reserved = 0;
  std::uint64_t instructions = 0;          ///< retired, for statistics; the translator adds a block's count
  std::array<std::uint64_t, 20> translator = {};  ///< the translator's own words (jit/assembler_words.h)

  // Guest-visible state.
  std::array<Segment, 6> segments = {};    ///< by SegmentName
  Segment task, ldt;
  TableRegister gdt, idt;
  std::uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, efer = 0, xcr0 = 1;
  std::uint64_t tsc_offset = 0;            ///< guest TSC = RDTSC + offset
  std::uint8_t cpl = 0;
  std::uint8_t nmi_masked = 0;
  std::uint8_t pending_nmis = 0;
  std::uint8_t activity = 0;               ///< ActivityState
  std::uint8_t debugger = 0;               ///< a debugger wants every instruction looked at
  std::uint8_t watches_data = 0;           ///< DR7 has a data breakpoint on: the TLB takes no data pages
  std::uint32_t start_up_vector = 0;
  DebugRegisters debug;
  MsrFile msrs;
  VectorState vector;

  // Host side.
  Core* core = nullptr;                    ///< the object around this block
  const PhysicalMemory* physical = nullptr;
  CodePages* code_pages = nullptr;
  DirtyPages* dirty_pages = nullptr;       ///< may be null
  TlbListener* tlb_listener = nullptr;     ///< may be null
  std::atomic<std::uint32_t> in_guest = 0;  ///< 1 while guest code may run (see CodePages for the handshake)
  std::atomic<std::uint64_t> flush_requested = 0;  ///< tickets of TLB requests by other threads…
  std::atomic<std::uint64_t> flush_done = 0;       ///< …and the last one served
  FaultInfo fault;                         ///< of the last failed MMU call
  Tlb tlb;
};

/// pending_nmis after another request: one may be due and one latched behind it (Intel SDM volume 3, 6.7.1).
inline std::uint8_t nmis_with_one_more(const VcpuBlock& block) {
  return static_cast<std::uint8_t>(std::min<int>(block.pending_nmis + 1, block.nmi_masked != 0 ? 1 : 2));
}

// Displacements for emitted code.
namespace offset {
inline constexpr std::size_t kGpr = offsetof(VcpuBlock, gpr);
inline constexpr std::size_t kRip = offsetof(VcpuBlock, rip);
inline constexpr std::size_t kRflags = offsetof(VcpuBlock, rflags);
inline constexpr std::size_t kAttention = offsetof(VcpuBlock, attention);
inline constexpr std::size_t kMode = offsetof(VcpuBlock, mode);
inline constexpr std::size_t kTlbContext = offsetof(VcpuBlock, tlb_context);
inline constexpr std::size_t kInstructions = offsetof(VcpuBlock, instructions);
inline constexpr std::size_t kTranslator = offsetof(VcpuBlock, translator);
inline constexpr std::size_t kSegments = offsetof(VcpuBlock, segments);
inline constexpr std::size_t kTscOffset = offsetof(VcpuBlock, tsc_offset);
inline constexpr std::size_t kZmm = offsetof(VcpuBlock, vector) + offsetof(VectorState, zmm);
inline constexpr std::size_t kX87 = offsetof(VcpuBlock, vector) + offsetof(VectorState, x87);
inline constexpr std::size_t kMxcsr = offsetof(VcpuBlock, vector) + offsetof(VectorState, mxcsr);
inline constexpr std::size_t kTlb = offsetof(VcpuBlock, tlb);
[[nodiscard]] constexpr std::size_t gpr(Gpr which) { return kGpr + 8 * static_cast<std::size_t>(which); }
[[nodiscard]] constexpr std::size_t segment_base(SegmentName which) {
  return kSegments + sizeof(Segment) * static_cast<std::size_t>(which) + offsetof(Segment, base);
}
}  // namespace offset

}  // namespace bygone::cpu::translator
