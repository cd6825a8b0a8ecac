#include "cpu/translator/decode_cache.h"

#include <sys/mman.h>

#include <new>

namespace bygone::cpu::translator {

DecodeCache::DecodeCache() {
  void* place = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) throw std::bad_alloc();
  entries_ = static_cast<Entry*>(place);
}

DecodeCache::~DecodeCache() { ::munmap(entries_, kBytes); }

// Pages that are given back read as zero, which is no key.
void DecodeCache::clear() { static_cast<void>(::madvise(entries_, kBytes, MADV_DONTNEED)); }

}  // namespace bygone::cpu::translator
