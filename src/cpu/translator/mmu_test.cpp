#include "cpu/translator/mmu.h"

#include <gtest/gtest.h>

#include <vector>

#include "cpu/translator/code_pages.h"
#include "cpu/translator/physical_memory.h"
#include "cpu/translator/registers.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint64_t kTables = 0x1000;  // PML4, then PDPT, PD, PT
constexpr std::uint64_t kPage = 0x8000;
constexpr std::uint64_t kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kGlobal = 0x100;
constexpr std::uint64_t kNoExecute = std::uint64_t{1} << 63;

class MmuTest : public testing::Test {
 protected:
  MmuTest() {
    EXPECT_TRUE(memory_.add_ram({0}, 1 << 20));
    physical_ = std::make_unique<PhysicalMemory>(memory_);
    code_pages_ = std::make_unique<CodePages>(physical_->ram_pages());
    block_->physical = physical_.get();
    block_->code_pages = code_pages_.get();
    code_pages_->add_processor(*block_);
    block_->cr0 = cr0::kPe | cr0::kPg | cr0::kWp;
    block_->cr3 = kTables;
    block_->cr4 = cr4::kPae | cr4::kPge;
    block_->efer = efer::kLme | efer::kLma | efer::kNxe;
    for (std::uint64_t level = 0; level < 3; ++level) {
      set_entry(kTables + 0x1000 * level, (kTables + 0x1000 * (level + 1)) | kPresent | kWritable | kUser);
    }
  }

  void set_entry(std::uint64_t place, std::uint64_t value) { EXPECT_TRUE(memory_.write_object<std::uint64_t>({place}, value)); }
  std::uint64_t entry(std::uint64_t place) { return memory_.read_object<std::uint64_t>({place}).value_or(~std::uint64_t{0}); }
  /// Maps the first linear page to kPage with these rights.
  void map(std::uint64_t rights) { set_entry(kLeaf, kPage | rights); }

  static constexpr std::uint64_t kLeaf = kTables + 0x3000;
  memory::GuestMemory memory_;
  std::unique_ptr<PhysicalMemory> physical_;
  std::unique_ptr<CodePages> code_pages_;
  std::unique_ptr<VcpuBlock> block_ = std::make_unique<VcpuBlock>();
};

TEST_F(MmuTest, a_read_finds_the_page_and_sets_accessed_only) {
  map(kPresent | kWritable | kUser);
  const MmuResult result = mmu::lookup(*block_, 0x123, Access::kRead, kTlbUser);
  ASSERT_EQ(result.status, MmuStatus::kRam);
  EXPECT_EQ(result.host, reinterpret_cast<std::uint8_t*>(memory_.host_span({kPage + 0x123}, 1).data()));
  EXPECT_EQ(entry(kLeaf) & (kAccessed | kDirty), kAccessed);
}

TEST_F(MmuTest, a_write_sets_dirty_and_then_hits) {
  map(kPresent | kWritable);
  ASSERT_EQ(mmu::lookup(*block_, 8, Access::kRead, kTlbSupervisor).status, MmuStatus::kRam);
  const TlbEntry& cached = block_->tlb.contexts[kTlbSupervisor].entries[0];
  EXPECT_GT(8 - cached.write_tag, 4096U) << "a page that is not dirty must not take writes";
  ASSERT_EQ(mmu::lookup(*block_, 8, Access::kWrite, kTlbSupervisor).status, MmuStatus::kRam);
  EXPECT_EQ(cached.write_tag, 0U);
  EXPECT_NE(entry(kLeaf) & kDirty, 0U);
}

TEST_F(MmuTest, faults_name_their_cause) {
  struct Case {
    std::uint64_t rights;
    Access access;
    std::uint32_t context;
    std::uint32_t code;
  };
  const Case cases[] = {
      {0, Access::kRead, kTlbSupervisor, 0},
      {0, Access::kWrite, kTlbUser, page_fault::kWrite | page_fault::kUser},
      {kPresent, Access::kWrite, kTlbSupervisor, page_fault::kPresent | page_fault::kWrite},
      {kPresent | kWritable, Access::kRead, kTlbUser, page_fault::kPresent | page_fault::kUser},
      {kPresent | kNoExecute, Access::kExecute, kTlbSupervisor, page_fault::kPresent | page_fault::kFetch},
  };
  for (const Case& one : cases) {
    map(one.rights);
    mmu::flush_all(*block_);
    ASSERT_EQ(mmu::lookup(*block_, 0x10, one.access, one.context).status, MmuStatus::kFault);
    EXPECT_EQ(block_->fault.vector, vector::kPf);
    EXPECT_EQ(block_->fault.error_code, one.code);
    EXPECT_EQ(block_->fault.address, 0x10U);
    EXPECT_EQ(entry(kLeaf) & (kAccessed | kDirty), 0U) << "an access that faults marks nothing";
  }
}

TEST_F(MmuTest, supervisor_access_prevention_asks_for_ac) {
  map(kPresent | kWritable | kUser);
  block_->cr4 |= cr4::kSmap | cr4::kSmep;
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisor).status, MmuStatus::kFault);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisorAc).status, MmuStatus::kRam);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kExecute, kTlbSupervisor).status, MmuStatus::kFault);
}

TEST_F(MmuTest, an_address_that_is_not_canonical_is_a_general_protection_fault) {
  EXPECT_EQ(mmu::lookup(*block_, 0x8000'0000'0000'0000, Access::kRead, kTlbSupervisor).status, MmuStatus::kFault);
  EXPECT_EQ(block_->fault.vector, vector::kGp);
}

TEST_F(MmuTest, global_pages_outlive_a_new_address_space) {
  map(kPresent | kGlobal);
  ASSERT_EQ(mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisor).status, MmuStatus::kRam);
  set_entry(kLeaf, 0);
  mmu::flush_non_global(*block_);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisor).status, MmuStatus::kRam);
  mmu::flush_page(*block_, 0);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisor).status, MmuStatus::kFault);
}

TEST_F(MmuTest, writes_to_pages_with_code_go_the_slow_way) {
  map(kPresent | kWritable);
  ASSERT_EQ(mmu::lookup(*block_, 0, Access::kWrite, kTlbSupervisor).status, MmuStatus::kRam);
  const std::uint64_t ram_page = kPage / 4096;
  const std::uint32_t version = code_pages_->mark(*block_, ram_page, 0, 63);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kWrite, kTlbSupervisor).status, MmuStatus::kCode);
  EXPECT_FALSE(code_pages_->wrote(block_.get(), ram_page, 64, 127)) << "data beside the code";
  EXPECT_EQ(code_pages_->version(ram_page), version);
  EXPECT_TRUE(code_pages_->wrote(block_.get(), ram_page, 60, 67));
  EXPECT_NE(code_pages_->version(ram_page), version);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kWrite, kTlbSupervisor).status, MmuStatus::kRam) << "no code is left in the page";
}

TEST_F(MmuTest, what_is_not_ram_is_mmio) {
  set_entry(kLeaf, 0xFEE0'0000 | kPresent | kWritable);
  const MmuResult result = mmu::lookup(*block_, 0x20, Access::kRead, kTlbSupervisor);
  EXPECT_EQ(result.status, MmuStatus::kMmio);
  EXPECT_EQ(result.physical, 0xFEE0'0020U);
}

TEST_F(MmuTest, an_address_space_that_is_kept_comes_back_without_a_walk_and_global_pages_stay) {
  constexpr std::uint64_t kGlobalPage = 0x5000;
  map(kPresent | kWritable);
  set_entry(kLeaf + 8 * (kGlobalPage >> 12), 0x9000 | kPresent | kWritable | kGlobal);
  ASSERT_EQ(mmu::lookup(*block_, 0, Access::kWrite, kTlbSupervisor).status, MmuStatus::kRam);
  ASSERT_EQ(mmu::lookup(*block_, kGlobalPage, Access::kRead, kTlbSupervisor).status, MmuStatus::kRam);
  map(0);  // the tables no longer say what the TLB knows
  const TlbTable& table = block_->tlb.contexts[kTlbSupervisor];

  mmu::change_address_space(*block_, 1, 2, true);
  EXPECT_NE(table.entries[0].read_tag, 0U) << "another address space must not see this one's pages";
  EXPECT_EQ(table.entries[kGlobalPage >> 12].read_tag, kGlobalPage);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisor).status, MmuStatus::kFault);
  mmu::change_address_space(*block_, 2, 1, true);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kWrite, kTlbSupervisor).status, MmuStatus::kRam);
  mmu::change_address_space(*block_, 1, 2, true);
  mmu::change_address_space(*block_, 2, 1, false);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisor).status, MmuStatus::kFault) << "CR3 without bit 63 drops the entries";
}

TEST_F(MmuTest, entries_set_aside_lose_their_write_tags_and_go_with_every_flush) {
  const auto fill_and_leave = [&] {
    map(kPresent | kWritable);
    ASSERT_EQ(mmu::lookup(*block_, 0, Access::kWrite, kTlbSupervisor).status, MmuStatus::kRam);
    mmu::change_address_space(*block_, 1, 2, true);
    map(0);
  };
  const auto come_back = [&] {
    mmu::change_address_space(*block_, 2, 1, true);
    return mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisor).status;
  };
  fill_and_leave();
  mmu::flush_writes(*block_);
  EXPECT_EQ(come_back(), MmuStatus::kRam);
  EXPECT_NE(block_->tlb.contexts[kTlbSupervisor].entries[0].write_tag, 0U) << "the page may hold code by now";
  fill_and_leave();
  mmu::forget_address_space(*block_, 3);
  EXPECT_EQ(come_back(), MmuStatus::kRam);
  fill_and_leave();
  mmu::forget_address_space(*block_, 1);
  EXPECT_EQ(come_back(), MmuStatus::kFault);
  fill_and_leave();
  mmu::flush_all(*block_);
  EXPECT_EQ(come_back(), MmuStatus::kFault);
}

TEST_F(MmuTest, more_address_spaces_than_places_forget_the_oldest_only) {
  map(kPresent);
  const auto places = static_cast<std::uint16_t>(block_->tlb.archive.spaces.size());
  for (std::uint16_t pcid = 0; pcid <= places; ++pcid) {
    ASSERT_EQ(mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisor).status, MmuStatus::kRam);
    mmu::change_address_space(*block_, pcid, static_cast<std::uint16_t>(pcid + 1), true);
  }
  map(0);
  mmu::change_address_space(*block_, static_cast<std::uint16_t>(places + 1), 2, true);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisor).status, MmuStatus::kRam);
  mmu::change_address_space(*block_, 2, 0, true);
  EXPECT_EQ(mmu::lookup(*block_, 0, Access::kRead, kTlbSupervisor).status, MmuStatus::kFault);
}

class FlushesHeard final : public TlbListener {
 public:
  void tlb_flushed(VcpuBlock&, bool keeps_high) override { kept_high.push_back(keeps_high); }
  void tlb_page_flushed(VcpuBlock&, std::uint64_t) override { ++pages; }
  void tlb_writes_flushed(VcpuBlock&) override {}
  std::vector<bool> kept_high;
  int pages = 0;
};

TEST_F(MmuTest, code_of_the_upper_half_is_kept_by_flushes_only_while_all_of_it_is_global) {
  constexpr std::uint64_t kHigh = 0xFFFF'8000'0000'0000;
  FlushesHeard heard;
  block_->tlb_listener = &heard;
  set_entry(kTables + 256 * 8, (kTables + 0x1000) | kPresent | kWritable);
  map(kPresent | kWritable | kGlobal);
  ASSERT_EQ(mmu::lookup(*block_, kHigh, Access::kExecute, kTlbSupervisor).status, MmuStatus::kRam);
  mmu::flush_non_global(*block_);
  mmu::change_address_space(*block_, 0, 1, true);
  map(kPresent | kWritable);
  ASSERT_EQ(mmu::lookup(*block_, 0, Access::kExecute, kTlbSupervisor).status, MmuStatus::kRam) << "of the lower half, which is always looked at";
  mmu::flush_non_global(*block_);
  EXPECT_EQ(heard.kept_high, (std::vector{true, true, true}));
  mmu::flush_page(*block_, 0);
  EXPECT_EQ(heard.pages, 1);
  EXPECT_EQ(heard.kept_high.size(), 3U);
  mmu::flush_page(*block_, kHigh);
  ASSERT_EQ(mmu::lookup(*block_, kHigh, Access::kRead, kTlbSupervisor).status, MmuStatus::kRam) << "what may be read here may be run as well";
  mmu::flush_non_global(*block_);
  mmu::change_address_space(*block_, 1, 0, true);
  mmu::flush_all(*block_);
  mmu::flush_non_global(*block_);
  EXPECT_EQ(heard.kept_high, (std::vector{true, true, true, false, false, false, false, true}));
  block_->tlb_listener = nullptr;
}

}  // namespace
}  // namespace bygone::cpu::translator
