// The whole architectural state of a virtual processor, the same for every engine: what saved state holds and what moves a
// machine from one engine to another. Field meanings: Intel SDM volume 3, chapters 2-4, 11 (local APIC), 14 (XSAVE).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace bygone::cpu {

/// Index of a virtual processor in its partition, from 0; also its initial APIC id and Hyper-V VP index.
struct VpIndex {
  std::uint32_t value = 0;
  friend constexpr auto operator<=>(VpIndex, VpIndex) = default;
};

/// Order of the general registers as instructions encode them.
enum class Gpr : std::uint8_t { kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi, kR8, kR9, kR10, kR11, kR12, kR13, kR14, kR15 };

struct GeneralRegisters {
  std::array<std::uint64_t, 16> gpr = {};  ///< by Gpr
  std::uint64_t rip = 0;
  std::uint64_t rflags = 2;
  [[nodiscard]] std::uint64_t& operator[](Gpr which) { return gpr[static_cast<std::size_t>(which)]; }
  [[nodiscard]] std::uint64_t operator[](Gpr which) const { return gpr[static_cast<std::size_t>(which)]; }
};

/// A segment register with its hidden part. `attributes` as in the descriptor's bits 40-55 with the limit nibble cleared:
/// type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15; bit 16 is `unusable`. `limit` is in bytes, expanded.
struct Segment {
  std::uint64_t base = 0;
  std::uint32_t limit = 0;
  std::uint16_t selector = 0;
  std::uint32_t attributes = 0;
};
inline constexpr std::uint32_t kSegmentPresent = 1U << 7;
inline constexpr std::uint32_t kSegmentLong = 1U << 13;
inline constexpr std::uint32_t kSegmentDefaultBig = 1U << 14;
inline constexpr std::uint32_t kSegmentUnusable = 1U << 16;

struct TableRegister {
  std::uint64_t base = 0;
  std::uint16_t limit = 0;
};

enum class SegmentName : std::uint8_t { kEs, kCs, kSs, kDs, kFs, kGs };

struct SystemRegisters {
  std::array<Segment, 6> segments = {};  ///< by SegmentName
  Segment task;
  Segment local_descriptor_table;
  TableRegister gdt;
  TableRegister idt;
  std::uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
  std::uint64_t efer = 0;
  std::uint64_t apic_base = 0;
  std::uint64_t xcr0 = 1;
};

struct DebugRegisters {
  std::array<std::uint64_t, 4> dr = {};
  std::uint64_t dr6 = 0xFFFF0FF0, dr7 = 0x400;
};

/// x87, SSE, AVX… in the standard (not compacted) XSAVE format: 512-byte legacy area, 64-byte header, components at the
/// offsets of CPUID leaf 0xD. Empty: reset values.
struct ExtendedState {
  std::vector<std::byte> xsave;
};

struct MsrValue {
  std::uint32_t index = 0;
  std::uint64_t value = 0;
};

/// The local APIC's register page: register at offset N*16 in word N, as KVM_GET_LAPIC and the xAPIC page lay it out.
struct LocalApicState {
  std::array<std::uint32_t, 64> registers = {};
};

enum class ActivityState : std::uint8_t { kRunning, kHalted, kWaitForInit, kWaitForSipi };

struct PendingEvents {
  bool has_exception = false;
  std::uint8_t exception_vector = 0;
  bool has_error_code = false;
  std::uint32_t error_code = 0;
  std::optional<std::uint8_t> interrupt_vector;  ///< taken from the APIC, its delivery not finished
  std::uint8_t pending_nmis = 0;  ///< 0 to 2 (1 while masked): one that is due, and one that is latched behind it
  bool nmi_masked = false;        ///< from the delivery of one to the end of its IRET
  bool interrupt_shadow = false;  ///< after STI or a load of SS
  ActivityState activity = ActivityState::kRunning;
};

struct VcpuState {
  GeneralRegisters general;
  SystemRegisters system;
  DebugRegisters debug;
  ExtendedState extended;
  std::vector<MsrValue> msrs;  ///< SYSCALL/SYSENTER, FS/GS bases, PAT, MTRRs, TSC, TSC_AUX, TSC_DEADLINE, MISC_ENABLE…
  LocalApicState local_apic;
  PendingEvents events;
};

}  // namespace bygone::cpu
