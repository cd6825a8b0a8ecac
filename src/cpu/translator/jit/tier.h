// Tier 1 of the software CPU: hot guest code translated to host code of the same instruction set.
//
//   run(): block at rip? → enter → guest code … → leave with a reason → again, or back to the run loop
//
// Code that was seen only once or twice is left to the interpreter, as is every instruction that Decoder calls a fallback.
// Threading: see tier1.h. code_overwritten() from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "cpu/translator/jit/cache.h"
#include "cpu/translator/jit/host_faults.h"
#include "cpu/translator/jit/trace.h"
#include "cpu/translator/tier1.h"
#include "support/result.h"

namespace bygone::cpu::translator::jit {

inline constexpr std::size_t kLeaveReasons = 4;  ///< LeaveReason's values

struct TierOptions {
  std::size_t code_cache_bytes = std::size_t{64} << 20;  ///< of one processor, at most
  std::size_t first_bytes = std::size_t{12} << 20;       ///< of these, what is used before a guest shows that it needs more
  std::uint32_t threshold = 2;                           ///< visits before code is translated
  bool one_block = false;                                ///< blocks are not linked, and run() returns after each
  bool mixes_slots = false;                              ///< every second block, and not loops, has page slots for all its accesses
  std::uint32_t slot_patience = kSlotPatience;           ///< Cache::set_slot_patience
};

class Tier final : public Tier1, public CodeListener {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Tier>> create(VcpuBlock& block, const TierOptions& options);
  ~Tier() override;

  [[nodiscard]] Tier1Result run(VcpuBlock& block) override;
  [[nodiscard]] std::uint64_t cycles() const override { return translated_cycles_ + translation_cycles_; }
  [[nodiscard]] std::string inspect() const override;
  void tlb_flushed(VcpuBlock& block, bool keeps_high) override;
  void tlb_page_flushed(VcpuBlock& block, std::uint64_t linear) override;
  void tlb_writes_flushed(VcpuBlock& block) override;
  void code_overwritten(std::uint64_t ram_page) override;

  [[nodiscard]] const Cache& cache() const { return *cache_; }

 private:
  Tier(VcpuBlock& block, std::unique_ptr<Cache> cache, const TierOptions& options);
  [[nodiscard]] const Block* translate(VcpuBlock& block, std::uint64_t address, ModeKey mode);
  /// False: the code is being overwritten, or ends on a page that is not there.
  [[nodiscard]] bool translate_into_cache(VcpuBlock& block, std::uint64_t address, ModeKey mode, const std::uint8_t* host_page);
  /// Empties a part of the cache; what is in use there is translated again at once.
  void make_room(VcpuBlock& block);
  [[nodiscard]] bool read_across_pages(VcpuBlock& block, CodeReader& reader, Block& out, std::array<std::uint8_t, 16>& bytes,
                                       std::size_t& length);
  [[nodiscard]] bool is_hot(std::uint64_t address);
  void enter(VcpuBlock& block, const Block& target);

  std::unique_ptr<Cache> cache_;
  TierOptions options_;
  Tracer tracer_;
  Trace trace_;
  HostFaultGuard fault_guard_;
  std::atomic<bool> code_changed_ = false;
  std::array<std::uint8_t, 32768> visits_ = {};
  alignas(64) std::array<std::uint8_t, 128> bounce_ = {};
  std::uint64_t entries_ = 0, translated_ = 0, interpreted_ = 0;
  std::array<std::uint64_t, kLeaveReasons> leaves_ = {};           ///< by LeaveReason
  std::uint64_t translated_cycles_ = 0, translation_cycles_ = 0;  ///< in translated code; making it
  std::uint64_t patience_renewed_ = 0;                            ///< time stamp of the present kSlotPeriod's beginning
};

}  // namespace bygone::cpu::translator::jit
