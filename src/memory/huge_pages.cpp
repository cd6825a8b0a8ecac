#include "memory/huge_pages.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <fstream>
#include <string>

namespace bygone::memory {

bool shared_memory_may_be_huge() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  std::string text;
  std::getline(file, text);
  return !text.empty() && text.find("[never]") == std::string::npos && text.find("[deny]") == std::string::npos;
}

HugePages huge_pages_of(const Slot& slot) {
  struct statfs about = {};
  if (::fstatfs(slot.memfd, &about) == 0 && about.f_type == HUGETLBFS_MAGIC) return HugePages::kReserved;
  return shared_memory_may_be_huge() ? HugePages::kTransparent : HugePages::kNone;
}

}  // namespace bygone::memory
