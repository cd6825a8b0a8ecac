// The CPUID table of a machine: what every engine answers, decided by the machine, the same on all of them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace bygone::cpu {

struct CpuidResult {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  friend constexpr bool operator==(const CpuidResult&, const CpuidResult&) = default;
};

struct CpuidEntry {
  std::uint32_t leaf = 0;
  std::optional<std::uint32_t> subleaf;  ///< empty: the same for every ECX
  CpuidResult result;
};

/// Static entries; the per-processor fields (APIC id in 1.EBX[31:24], 0xB/0x1F EDX, OSXSAVE, APIC enable bit, XSAVE sizes
/// by XCR0) are patched by the engine.
class CpuidTable {
 public:
  /// Replaces the entry of the same leaf and subleaf or adds one.
  void set(const CpuidEntry& entry);
  void remove(std::uint32_t leaf);
  [[nodiscard]] const CpuidEntry* find(std::uint32_t leaf, std::uint32_t subleaf) const;
  /// All-zero for leaves that are not there.
  [[nodiscard]] CpuidResult query(std::uint32_t leaf, std::uint32_t subleaf) const;
  [[nodiscard]] const std::vector<CpuidEntry>& entries() const { return entries_; }

 private:
  std::vector<CpuidEntry> entries_;
};

/// Executes CPUID on the host.
[[nodiscard]] CpuidResult host_cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0);

}  // namespace bygone::cpu
