#include "cpu/translator/state.h"

#include <sys/mman.h>

namespace bygone::cpu::translator {

Result<std::unique_ptr<VcpuBlock>> VcpuBlock::create() {
  std::unique_ptr<VcpuBlock> block(new VcpuBlock);
  if (!block) {
    return fail(ErrorCode::kExhausted, "the host has no {} KiB of memory below 2 GiB left for a software processor",
                sizeof(VcpuBlock) >> 10);
  }
  return block;
}

void* VcpuBlock::operator new(std::size_t bytes, std::align_val_t /*alignment*/) noexcept {
  void* place = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  return place == MAP_FAILED ? nullptr : place;
}

void VcpuBlock::operator delete(void* place, std::size_t bytes, std::align_val_t /*alignment*/) { ::munmap(place, bytes); }

}  // namespace bygone::cpu::translator
