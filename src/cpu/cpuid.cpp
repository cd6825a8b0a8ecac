#include "cpu/cpuid.h"

#include <cpuid.h>

#include <algorithm>

namespace bygone::cpu {

void CpuidTable::set(const CpuidEntry& entry) {
  for (CpuidEntry& old : entries_) {
    if (old.leaf == entry.leaf && old.subleaf == entry.subleaf) {
      old = entry;
      return;
    }
  }
  entries_.push_back(entry);
}

void CpuidTable::remove(std::uint32_t leaf) {
  std::erase_if(entries_, [leaf](const CpuidEntry& entry) { return entry.leaf == leaf; });
}

const CpuidEntry* CpuidTable::find(std::uint32_t leaf, std::uint32_t subleaf) const {
  for (const CpuidEntry& entry : entries_) {
    if (entry.leaf == leaf && (!entry.subleaf || *entry.subleaf == subleaf)) return &entry;
  }
  return nullptr;
}

CpuidResult CpuidTable::query(std::uint32_t leaf, std::uint32_t subleaf) const {
  const CpuidEntry* entry = find(leaf, subleaf);
  return entry != nullptr ? entry->result : CpuidResult{};
}

CpuidResult host_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  CpuidResult result;
  __cpuid_count(leaf, subleaf, result.eax, result.ebx, result.ecx, result.edx);
  return result;
}

}  // namespace bygone::cpu
