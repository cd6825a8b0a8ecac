// For tests: one processor with page tables, a tier and no interpreter, and a runner for the same code on the host itself.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

#include "cpu/translator/code_pages.h"
#include "cpu/translator/jit/tier.h"
#include "cpu/translator/mmu.h"
#include "cpu/translator/physical_memory.h"
#include "memory/guest_memory.h"

namespace bygone::cpu::translator::jit {

/// 64-bit user or kernel code, or 32-bit code; linear 0 to 1 GiB is mapped one to one onto 16 MiB of RAM, by pages that repeat.
class TestMachine {
 public:
  static constexpr std::uint64_t kRamBytes = 32U << 20;
  static constexpr std::uint64_t kTables = 0x100000;   ///< where the page tables are
  static constexpr std::uint64_t kCode = 0x400000;     ///< linear and physical
  static constexpr std::uint64_t kData = 0x800000;
  static constexpr std::uint64_t kHigh = 0xFFFF'FFFF'8000'0000;  ///< linear: the same memory where kernels live

  explicit TestMachine(unsigned bits = 64, bool user = false, const TierOptions& options = {.code_cache_bytes = 8U << 20, .threshold = 0}) {
    if (!ram_.add_ram({0}, kRamBytes)) throw std::runtime_error("no RAM");
    physical_ = std::make_unique<PhysicalMemory>(ram_);
    pages_ = std::make_unique<CodePages>(physical_->ram_pages());
    block_ = std::make_unique<VcpuBlock>();
    block_->physical = physical_.get();
    block_->code_pages = pages_.get();
    pages_->add_processor(*block_);
    set_up_tables();
    block_->cr0 = 0x8005'0033;
    block_->cr4 = 0x0004'0620;
    block_->cr3 = kTables;
    block_->efer = 0xD01;
    block_->xcr0 = host_xcr0() & 0xE7;
    block_->cpl = user ? 3 : 0;
    for (Segment& segment : block_->segments) segment = {0, 0xFFFF'FFFF, 0x10, 0xC093};
    const std::uint32_t dpl = user ? 0x60U : 0U;
    block_->segments[1].attributes = bits == 64 ? 0xA09B | dpl : 0xC09B | dpl;
    mmu::update_mode(*block_);
    auto tier = Tier::create(*block_, options);
    if (!tier) throw std::runtime_error(tier.error().text());
    tier_ = std::move(*tier);
    block_->tlb_listener = tier_.get();
    pages_->add_listener(*tier_);
    block_->gpr[4] = kData + 0x8000;
    block_->in_guest = 1;
  }

  VcpuBlock& block() { return *block_; }
  Tier& tier() { return *tier_; }
  CodePages& pages() { return *pages_; }
  std::uint8_t* host(std::uint64_t physical) { return physical_->find(physical).host; }

  void load(std::uint64_t address, std::span<const std::uint8_t> bytes) { std::memcpy(host(address), bytes.data(), bytes.size()); }
  /// Runs from `address` until the tier gives up.
  Tier1Result run(std::uint64_t address) {
    block_->rip = address;
    return tier_->run(*block_);
  }
  std::uint64_t& gpr(unsigned number) { return block_->gpr[number]; }

  /// Maps the 4 KiB page at `linear` (below 1 GiB) to `physical`, 0: not at all.
  void map(std::uint64_t linear, std::uint64_t physical, bool write = true) {
    auto* table = reinterpret_cast<std::uint64_t*>(host(kTables + 0x3000 + (linear >> 21) * 0x1000));
    table[linear >> 12 & 511] = physical == 0 ? 0 : physical | (write ? 7U : 5U);
    mmu::flush_page(*block_, linear);
  }

  static std::uint64_t host_xcr0() {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
  }

 private:
  void set_up_tables() {
    const auto put = [&](std::uint64_t at, std::uint64_t value) { std::memcpy(host(at), &value, 8); };
    put(kTables, (kTables + 0x1000) | 7);
    put(kTables + 0x1000, (kTables + 0x2000) | 7);
    put(kTables + 511 * 8, (kTables + 0x1000) | 7);  // the same again at kHigh
    put(kTables + 0x1000 + 510 * 8, (kTables + 0x2000) | 7);
    for (std::uint64_t i = 0; i < 512; ++i) {
      const std::uint64_t table = kTables + 0x3000 + i * 0x1000;
      put(kTables + 0x2000 + i * 8, table | 7);
      for (std::uint64_t j = 0; j < 512; ++j) put(table + j * 8, (((i << 21) + (j << 12)) % kRamBytes) | 7);
    }
  }

  memory::GuestMemory ram_;
  std::unique_ptr<PhysicalMemory> physical_;
  std::unique_ptr<CodePages> pages_;
  std::unique_ptr<VcpuBlock> block_;
  std::unique_ptr<Tier> tier_;
};

}  // namespace bygone::cpu::translator::jit
