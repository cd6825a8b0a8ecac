#include "cpu/translator/code_pages.h"

#include <sys/mman.h>

#include <new>
#include <thread>

#include "cpu/translator/mmu.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint64_t chunk_bits(std::uint32_t first, std::uint32_t last) {
  const std::uint32_t from = first / 64;
  const std::uint32_t to = last / 64;
  const std::uint64_t up_to = to == 63 ? ~std::uint64_t{0} : (std::uint64_t{1} << (to + 1)) - 1;
  return up_to & ~((std::uint64_t{1} << from) - 1);
}

}  // namespace

CodePages::CodePages(std::uint64_t ram_pages) : count_(ram_pages) {
  static_assert(sizeof(Page) == 16);
  // Anonymous memory is zero and taken page by page as it is touched; most RAM pages never hold code.
  void* place = ::mmap(nullptr, count_ * sizeof(Page) + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) throw std::bad_alloc();
  pages_ = static_cast<Page*>(place);
}

CodePages::~CodePages() { ::munmap(pages_, count_ * sizeof(Page) + 1); }

std::uint32_t CodePages::mark(VcpuBlock& self, std::uint64_t ram_page, std::uint32_t first, std::uint32_t last) {
  Page& page = pages_[ram_page];
  const std::uint64_t bits = chunk_bits(first, last);
  for (;;) {
    const std::uint32_t version = page.version.load();
    if ((page.chunks.load() & bits) == bits && page.ready.load() != 0) return version;
    lock_marking(&self);
    if (page.chunks.load() == 0) {
      page.ready.store(0);
      page.chunks.fetch_or(bits);
      drop_write_tags(self);
      page.ready.store(1);
    } else {
      // Between the load and this, a writer may have cleared the page; then nobody has dropped write tags since.
      if (page.chunks.fetch_or(bits) == 0) {
        page.ready.store(0);
        drop_write_tags(self);
        page.ready.store(1);
      }
    }
    marking_.unlock();
  }
}

void CodePages::lock_marking(VcpuBlock* self) {
  while (!marking_.try_lock()) {
    if (self != nullptr) serve_requests(*self);
    std::this_thread::yield();
  }
}

void CodePages::drop_write_tags(VcpuBlock& self) {
  mmu::flush_writes(self);
  for (VcpuBlock* other : processors_) {
    if (other != &self) request_flush(&self, *other, kAttentionFlushWrites);
  }
}

void CodePages::request_flush(VcpuBlock* self, VcpuBlock& target, Attention what) {
  // The wish stands before its ticket is counted, so that whoever acknowledges the ticket has seen the wish or has been there after it
  // was made; and again after, so that somebody comes for the ticket even if the first was taken before it.
  target.attention.fetch_or(what);
  const std::uint64_t ticket = target.flush_requested.fetch_add(1) + 1;
  target.attention.fetch_or(what);
  while (target.in_guest.load() != 0 && target.flush_done.load() < ticket) {
    if (self != nullptr) serve_requests(*self);
    std::this_thread::yield();
  }
}

void CodePages::serve_requests(VcpuBlock& self) {
  if ((self.attention.load() & kAttentionRequests) == 0) return;
  std::uint64_t ticket = 0;
  do {
    // A ticket that is counted behind this line may still have its wish taken by the next one: then it is looked for once more.
    ticket = self.flush_requested.load();
    const std::uint32_t wanted = self.attention.fetch_and(~kAttentionRequests) & kAttentionRequests;
    if ((wanted & kAttentionFlushTlb) != 0) {
      mmu::flush_all(self);
    } else if ((wanted & kAttentionFlushWrites) != 0) {
      mmu::flush_writes(self);
    }
    if (self.flush_done.load() < ticket) self.flush_done.store(ticket);
  } while (self.flush_requested.load() != ticket);
}

bool CodePages::wrote(VcpuBlock* self, std::uint64_t ram_page, std::uint32_t first, std::uint32_t last) {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // the bytes before the look at the chunks
  Page& page = pages_[ram_page];
  if ((page.chunks.load() & chunk_bits(first, last)) == 0) return false;
  page.chunks.store(0);
  page.version.fetch_add(1);
  for (CodeListener* listener : listeners_) listener->code_overwritten(ram_page);
  for (VcpuBlock* other : processors_) {
    if (other != self) other->attention.fetch_or(kAttentionCodeChanged);
  }
  return true;
}

}  // namespace bygone::cpu::translator
