// Which RAM pages hold code that some tier has decoded or translated, and what happens when it is overwritten.
//
// A page is divided into 64 chunks of 64 bytes; a chunk's bit is set while code decoded from it is cached. Pages with any bit
// have no write tag in any TLB, so guest writes reach wrote(), which lets data beside code be written without a cost to code.
//
//   tier about to decode:  version = mark(page, range) → read the bytes → cache them under that version
//   tier about to reuse:   cached version == version(page)?
//   writer:                write the bytes → wrote(range): chunks hit? version + 1, listeners told, other processors polled
//
// The order matters: the decoder marks before it reads and the writer checks after it wrote, so one of the two sees the other.
// The first mark of a page drops write tags on all processors and waits until each has passed a poll (or is outside of guest
// code), processing requests to itself meanwhile.
//
// Threading: any thread; mark() from vCPU threads only, at an instruction boundary (no host pointer obtained for a write may
// be in use by the caller).
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "cpu/translator/physical_memory.h"
#include "cpu/translator/state.h"

namespace bygone::cpu::translator {

/// A cache of code (a tier) that wants to hear of overwritten pages.
class CodeListener {
 public:
  virtual ~CodeListener() = default;
  /// All code cached from this RAM page is void. Threading: any thread, also devices'; must not wait for a vCPU.
  virtual void code_overwritten(std::uint64_t ram_page) = 0;
};

class CodePages {
 public:
  explicit CodePages(std::uint64_t ram_pages);
  ~CodePages();
  CodePages(const CodePages&) = delete;
  CodePages& operator=(const CodePages&) = delete;

  /// Before any vCPU runs.
  void add_processor(VcpuBlock& block) { processors_.push_back(&block); }
  void add_listener(CodeListener& listener) { listeners_.push_back(&listener); }

  /// Code is about to be decoded from bytes [first, last] (0-4095) of the page. The version to cache it under.
  [[nodiscard]] std::uint32_t mark(VcpuBlock& self, std::uint64_t ram_page, std::uint32_t first, std::uint32_t last);
  [[nodiscard]] bool has_code(std::uint64_t ram_page) const {
    return pages_[ram_page].chunks.load(std::memory_order_seq_cst) != 0;
  }
  [[nodiscard]] std::uint32_t version(std::uint64_t ram_page) const {
    return pages_[ram_page].version.load(std::memory_order_acquire);
  }
  /// Where translated code may compare the version itself.
  [[nodiscard]] const std::atomic<std::uint32_t>* version_address(std::uint64_t ram_page) const {
    return &pages_[ram_page].version;
  }

  /// Bytes [first, last] of a page were written. `self` is null for devices. True when cached code was voided: the writer's
  /// own tier must then leave the code that it is executing before the next instruction.
  bool wrote(VcpuBlock* self, std::uint64_t ram_page, std::uint32_t first, std::uint32_t last);

  /// Makes other processors drop their TLBs (or write tags) and waits until each did or is outside of guest code.
  /// `self` may be null for threads that run no guest.
  void request_flush(VcpuBlock* self, VcpuBlock& target, Attention what);
  /// Serves such requests to `self`; called at polls and while waiting.
  static void serve_requests(VcpuBlock& self);

 private:
  void drop_write_tags(VcpuBlock& self);
  void lock_marking(VcpuBlock* self);

  struct Page {
    std::atomic<std::uint64_t> chunks;
    std::atomic<std::uint32_t> version;
    std::atomic<std::uint32_t> ready;  ///< the hand-shake of the first mark is over
  };
  Page* pages_ = nullptr;
  std::uint64_t count_ = 0;
  std::vector<VcpuBlock*> processors_;
  std::vector<CodeListener*> listeners_;
  std::mutex marking_;
};

}  // namespace bygone::cpu::translator
