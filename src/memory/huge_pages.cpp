#include "memory/huge_pages.h"

#include <fstream>
#include <string>

namespace bygone::memory {
namespace {

/// Whether the kernel makes huge pages of private memory when it is advised to.
bool private_memory_may_be_huge() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string text;
  std::getline(file, text);
  return !text.empty() && text.find("[never]") == std::string::npos;
}

}  // namespace

HugePages huge_pages_of(const Slot& slot) {
  if (slot.is_reserved) return HugePages::kReserved;
  return private_memory_may_be_huge() ? HugePages::kTransparent : HugePages::kNone;
}

}  // namespace bygone::memory
