#include "cpu/translator/physical_memory.h"

namespace bygone::cpu::translator {

PhysicalMemory::PhysicalMemory(const memory::GuestMemory& memory) {
  for (const memory::Slot& slot : memory.slots()) {
    if (count_ == kMaximumRanges) break;
    ranges_[count_++] = {slot.base.value, slot.size, reinterpret_cast<std::uint8_t*>(slot.host), ram_pages_};
    ram_pages_ += slot.size / memory::kPageSize;
  }
}

}  // namespace bygone::cpu::translator
