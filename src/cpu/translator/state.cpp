#include "cpu/translator/state.h"

#include <sys/mman.h>

namespace bygone::cpu::translator {

void* VcpuBlock::operator new(std::size_t bytes, std::align_val_t /*alignment*/) {
  void* place = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  if (place == MAP_FAILED) throw std::bad_alloc();
  return place;
}

void VcpuBlock::operator delete(void* place, std::size_t bytes, std::align_val_t /*alignment*/) { ::munmap(place, bytes); }

}  // namespace bygone::cpu::translator
