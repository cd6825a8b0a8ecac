// Power cuts after every single change of a mixed workload: the image opens, and what was flushed is there.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "disk/fault_file.h"
#include "disk/image_device.h"
#include "disk/memory_block_device.h"
#include "disk/tools/copy.h"
#include "disk/tools/inspect.h"
#include "disk/tools/transform.h"
#include "disk/vhd/vhd_layout.h"
#include "disk/vhdx/vhdx_create.h"
#include "disk/vhdx/vhdx_layout.h"

namespace bygone::disk {
namespace {

constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kDiskBytes = 6U << 20;
constexpr std::uint64_t kSectors = kDiskBytes / kSector;

using Stamp = std::uint64_t;

std::vector<std::byte> stamped(std::uint64_t sectors, Stamp stamp) {
  std::vector<std::byte> bytes(sectors * kSector);
  for (std::size_t i = 0; i < bytes.size(); i += sizeof stamp) std::memcpy(bytes.data() + i, &stamp, sizeof stamp);
  return bytes;
}

/// The stamp of a sector, or nothing when its bytes are a mixture.
std::optional<Stamp> stamp_of(std::span<const std::byte> sector) {
  Stamp stamp = 0;
  std::memcpy(&stamp, sector.data(), sizeof stamp);
  const bool repeats = std::memcmp(sector.data(), sector.data() + sizeof stamp, sector.size() - sizeof stamp) == 0;
  return repeats ? std::optional(stamp) : std::nullopt;
}

/// What each sector may hold after a cut: its last value before the last flush that was acknowledged, or any later one.
class Expectation {
 public:
  explicit Expectation(Stamp initial) : sectors_(kSectors) {
    for (auto& values : sectors_) values.push_back({initial, 0});
  }
  /// A write that is submitted when the file has seen `changes` changes.
  void write(std::uint64_t sector, std::uint64_t count, Stamp stamp, std::size_t changes) {
    for (std::uint64_t i = sector; i < sector + count; ++i) sectors_[i].push_back({stamp, changes});
  }
  /// A flush that was acknowledged when the file had seen `changes` changes.
  void flush(std::size_t changes) {
    Mark mark{changes, {}};
    mark.value_counts.reserve(kSectors);
    for (const auto& values : sectors_) mark.value_counts.push_back(static_cast<std::uint32_t>(values.size()));
    marks_.push_back(std::move(mark));
  }
  [[nodiscard]] bool allows(std::uint64_t sector, Stamp stamp, std::size_t cut) const {
    const auto& values = sectors_[sector];
    std::size_t first = 0;
    for (const Mark& mark : marks_) {
      if (mark.changes <= cut) first = mark.value_counts[sector] - 1;
    }
    for (std::size_t i = first; i < values.size(); ++i) {
      if (values[i].stamp == stamp && (i == first || values[i].changes <= cut)) return true;
    }
    return false;
  }

 private:
  struct Value {
    Stamp stamp;
    std::size_t changes;
  };
  struct Mark {
    std::size_t changes;
    std::vector<std::uint32_t> value_counts;
  };
  std::vector<std::vector<Value>> sectors_;
  std::vector<Mark> marks_;
};

enum class Kind { kVhdxDynamic, kVhdxDifferencing, kVhdxFixed, kVhdDynamic, kVhdDifferencing, kVhdFixed };
void PrintTo(Kind kind, std::ostream* out) { *out << static_cast<int>(kind); }

constexpr Stamp kParentStamp = 0x5041524e54;

bool has_parent(Kind kind) { return kind == Kind::kVhdxDifferencing || kind == Kind::kVhdDifferencing; }
bool is_fixed(Kind kind) { return kind == Kind::kVhdxFixed || kind == Kind::kVhdFixed; }
bool is_vhdx(Kind kind) { return kind == Kind::kVhdxDynamic || kind == Kind::kVhdxDifferencing || kind == Kind::kVhdxFixed; }

SparseBytes new_image(Kind kind) {
  auto history = FaultFile::history_of({});
  FaultFile file(history);
  Result<void> result;
  if (is_vhdx(kind)) {
    VhdxMetadata metadata;
    metadata.block_bytes = 1U << 20;
    metadata.size_bytes = kDiskBytes;
    metadata.logical_sector_bytes = 512;
    metadata.physical_sector_bytes = 4096;
    metadata.has_parent = has_parent(kind);
    metadata.leaves_blocks_allocated = is_fixed(kind);
    metadata.parent = {{"parent_linkage", Guid::random().text()}, {"relative_path", ".\\base.vhdx"}};
    result = create_vhdx(file, metadata);
  } else {
    VhdParameters parameters;
    parameters.size_bytes = kDiskBytes;
    parameters.block_bytes = 512U << 10;
    if (is_fixed(kind)) parameters.type = spec::vhd::DiskType::kFixed;
    if (has_parent(kind)) {
      parameters.type = spec::vhd::DiskType::kDifferencing;
      parameters.parent = VhdParent{Guid::random(), 0, "base.vhd", ".\\base.vhd", "/base.vhd"};
    }
    result = create_vhd(file, parameters);
  }
  EXPECT_TRUE(result) << result.error().text();
  return history->now;
}

std::shared_ptr<BlockDevice> make_parent(Kind kind) {
  if (!has_parent(kind)) return nullptr;
  auto parent = std::make_shared<MemoryBlockDevice>(kDiskBytes);
  EXPECT_TRUE(write_blocks(*parent, 0, stamped(kSectors, kParentStamp)));
  return parent;
}

Result<std::unique_ptr<ImageLayout>> open_kind(Kind kind, File& file) {
  if (is_vhdx(kind)) return VhdxLayout::open(file);
  return VhdLayout::open(file);
}

Result<std::unique_ptr<ImageDevice>> open_device(Kind kind, const std::shared_ptr<FaultFile::History>& history,
                                                 std::shared_ptr<BlockDevice> parent) {
  auto file = std::make_unique<FaultFile>(history);
  BYGONE_ASSIGN(auto layout, open_kind(kind, *file));
  return std::make_unique<ImageDevice>(std::move(file), std::move(layout), std::move(parent));
}

/// Writes, zeroes, trims and flushes in many sizes, and notes what has to be there afterwards.
void run_workload(ImageDevice& device, FaultFile::History& history, Expectation& expectation, bool trim_reads_zero, unsigned seed) {
  std::mt19937 random(seed);
  Stamp stamp = 1;
  for (int step = 0; step < 60; ++step) {
    const std::uint64_t count = random() % 8 == 0 ? 2048 + random() % 1000 : 1 + random() % 40;
    std::uint64_t sector = random() % (kSectors - count);
    const unsigned what = static_cast<unsigned>(random() % 16);
    const std::size_t before = history.count();
    if (what < 10) {
      expectation.write(sector, count, stamp, before);
      ASSERT_TRUE(write_blocks(device, sector * kSector, stamped(count, stamp)));
      ++stamp;
    } else if (what == 10) {
      expectation.write(sector, count, 0, before);
      ASSERT_TRUE(zero_blocks(device, sector * kSector, count * kSector));
    } else if (what == 11 && trim_reads_zero) {
      sector = sector / 2048 * 2048;
      expectation.write(sector, 2048, 0, before);
      ASSERT_TRUE(unmap_blocks(device, sector * kSector, 2048 * kSector));
    } else {
      ASSERT_TRUE(flush_blocks(device));
      expectation.flush(history.count());
    }
  }
}

void expect_content(BlockDevice& device, const Expectation& expectation, std::size_t cut, const std::string& where,
                    std::uint64_t sectors = kSectors) {
  std::vector<std::byte> bytes(sectors * kSector);
  const Result<void> read = read_blocks(device, 0, bytes);
  ASSERT_TRUE(read) << where << ": " << read.error().text();
  for (std::uint64_t sector = 0; sector < sectors; ++sector) {
    const auto stamp = stamp_of(std::span(bytes).subspan(sector * kSector, kSector));
    ASSERT_TRUE(stamp) << where << ": sector " << sector << " is a mixture";
    ASSERT_TRUE(expectation.allows(sector, *stamp, cut)) << where << ": sector " << sector << " holds " << *stamp;
  }
}

void expect_sound(ImageLayout& layout, const std::string& where) {
  const auto findings = check_layout(layout, false, {});
  ASSERT_TRUE(findings) << where;
  for (const Finding& finding : *findings) {
    // The footer at the end of a VHD file is what a cut may tear; its copy is what it is for.
    if (finding.text.find("footer") == std::string::npos) ADD_FAILURE() << where << ": " << finding.text;
  }
}

class PowerCut : public testing::TestWithParam<Kind> {};
class PowerCutInMerge : public testing::TestWithParam<std::pair<Kind, Kind>> {};

/// An image that went through the workload and was closed; nothing about it is in doubt.
std::shared_ptr<FaultFile::History> filled_image(Kind kind, const std::shared_ptr<BlockDevice>& parent, Expectation& expectation,
                                                 unsigned seed) {
  const auto history = FaultFile::history_of(new_image(kind));
  auto device = open_device(kind, history, parent);
  EXPECT_TRUE(device) << device.error().text();
  run_workload(**device, *history, expectation, !has_parent(kind), seed);
  EXPECT_TRUE((*device)->close());
  expectation.flush(0);
  return FaultFile::history_of(history->now);
}

Result<void> resize_layout(ImageLayout& layout, std::uint64_t size) {
  if (auto* vhdx = dynamic_cast<VhdxLayout*>(&layout)) return vhdx->resize(size);
  return dynamic_cast<VhdLayout&>(layout).resize(size);
}

/// The same, resized afterwards: that is what its changes are.
std::shared_ptr<FaultFile::History> resized_image(Kind kind, const std::shared_ptr<BlockDevice>& parent, Expectation& expectation,
                                                  unsigned seed, std::uint64_t size) {
  const auto history = filled_image(kind, parent, expectation, seed);
  FaultFile file(history);
  auto layout = open_kind(kind, file);
  EXPECT_TRUE(layout);
  const Result<void> resized = resize_layout(**layout, size);
  EXPECT_TRUE(resized) << resized.error().text();
  EXPECT_TRUE((*layout)->close());
  return history;
}

TEST_P(PowerCut, what_was_flushed_is_there_after_every_change) {
  const Kind kind = GetParam();
  const auto parent = make_parent(kind);
  const auto history = FaultFile::history_of(new_image(kind));
  Expectation expectation(has_parent(kind) ? kParentStamp : 0);
  {
    auto device = open_device(kind, history, parent);
    ASSERT_TRUE(device) << device.error().text();
    run_workload(**device, *history, expectation, !has_parent(kind), 7);
    ASSERT_TRUE((*device)->close());
    expectation.flush(history->count());
  }
  std::mt19937 random(11);
  for (std::size_t cut = 0; cut <= history->count(); ++cut) {
    const std::string where = fmt::format("cut after {} of {}", cut, history->count());
    const auto after = FaultFile::history_of(history->after_power_cut(cut, random));
    {
      auto device = open_device(kind, after, parent);
      ASSERT_TRUE(device) << where << ": " << device.error().text();
      expect_sound((*device)->layout(), where);
      expect_content(**device, expectation, cut, where);
      if (HasFatalFailure()) return;
      // Life goes on: a write into whatever the cut left, and nothing else changes.
      ASSERT_TRUE(write_blocks(**device, 0, stamped(1, 424242))) << where;
      ASSERT_TRUE((*device)->close()) << where;
    }
    if (cut % 4 != 0) continue;
    // The power may go again while the image is put right.
    const std::size_t again = random() % (after->count() + 1);
    const auto twice = FaultFile::history_of(after->after_power_cut(again, random));
    Expectation allowed = expectation;
    allowed.write(0, 1, 424242, 0);
    auto device = open_device(kind, twice, parent);
    ASSERT_TRUE(device) << where << " and again: " << device.error().text();
    expect_content(**device, allowed, cut, where + " and again");
    if (HasFatalFailure()) return;
  }
}

TEST_P(PowerCut, resize_leaves_the_old_size_or_the_new_one) {
  const Kind kind = GetParam();
  const auto parent = make_parent(kind);
  Expectation expectation(has_parent(kind) ? kParentStamp : 0);
  // So much larger that the tables have to move.
  const std::uint64_t larger = is_vhdx(kind) && !is_fixed(kind) ? std::uint64_t{300} << 30 : std::uint64_t{64} << 20;
  const auto history = resized_image(kind, parent, expectation, 3, larger);
  std::mt19937 random(5);
  for (int round = 0; round < 2; ++round) {
    for (std::size_t cut = 0; cut <= history->count(); ++cut) {
      const std::string where = fmt::format("cut after {} of {}", cut, history->count());
      const auto after = FaultFile::history_of(history->after_power_cut(cut, random));
      auto device = open_device(kind, after, parent);
      ASSERT_TRUE(device) << where << ": " << device.error().text();
      const std::uint64_t size = (*device)->info().size_bytes;
      ASSERT_TRUE(size == kDiskBytes || size == larger) << where << ": " << size;
      if (cut == history->count()) {
        ASSERT_EQ(size, larger);
      }
      expect_content(**device, expectation, cut, where);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(PowerCut, shrinking_keeps_what_lies_before_the_new_end) {
  const Kind kind = GetParam();
  const auto parent = make_parent(kind);
  Expectation expectation(has_parent(kind) ? kParentStamp : 0);
  constexpr std::uint64_t kSmaller = kDiskBytes / 2 - 37 * kSector;  // inside a block
  const auto history = resized_image(kind, parent, expectation, 5, kSmaller);
  std::mt19937 random(6);
  for (std::size_t cut = 0; cut <= history->count(); ++cut) {
    const std::string where = fmt::format("cut after {} of {}", cut, history->count());
    const auto after = FaultFile::history_of(history->after_power_cut(cut, random));
    {
      auto device = open_device(kind, after, parent);
      ASSERT_TRUE(device) << where << ": " << device.error().text();
      const std::uint64_t size = (*device)->info().size_bytes;
      ASSERT_TRUE(size == kDiskBytes || size == kSmaller) << where << ": " << size;
      if (cut == history->count()) {
        ASSERT_EQ(size, kSmaller);
      }
      expect_content(**device, expectation, cut, where, kSmaller / kSector);
      if (HasFatalFailure()) return;
    }
    // What was given up does not come back.
    FaultFile file(after);
    auto layout = open_kind(kind, file);
    ASSERT_TRUE(layout);
    if ((*layout)->info().size_bytes != kSmaller || has_parent(kind) || cut < history->count()) continue;
    ASSERT_TRUE(resize_layout(**layout, kDiskBytes));
    ASSERT_TRUE((*layout)->close());
    auto device = open_device(kind, after, parent);
    std::vector<std::byte> tail(kDiskBytes - kSmaller);
    ASSERT_TRUE(read_blocks(**device, kSmaller, tail));
    ASSERT_TRUE(std::ranges::all_of(tail, [](std::byte byte) { return byte == std::byte{0}; }));
  }
}

TEST_P(PowerCut, compacting_is_complete_before_it_takes_the_name_or_changes_nothing_that_is_read) {
  const Kind kind = GetParam();
  const auto parent = make_parent(kind);
  Expectation expectation(has_parent(kind) ? kParentStamp : 0);
  const auto source = filled_image(kind, parent, expectation, 29);
  auto device = open_device(kind, source, parent);
  ASSERT_TRUE(device) << device.error().text();
  std::mt19937 random(31);
  if (is_fixed(kind)) {  // in place
    ASSERT_TRUE(punch_zeros(**device, {}));
    EXPECT_GT(source->count(), 0U);
    for (std::size_t cut = 0; cut <= source->count(); ++cut) {
      auto after = open_device(kind, FaultFile::history_of(source->after_power_cut(cut, random)), parent);
      ASSERT_TRUE(after);
      expect_content(**after, expectation, cut, fmt::format("cut after {}", cut));
    }
    return;
  }
  const auto target = FaultFile::history_of(new_image(kind));
  auto copy = open_device(kind, target, nullptr);
  ASSERT_TRUE(copy);
  const Result<void> compacted = fill_compacted(**device, **copy, {});
  ASSERT_TRUE(compacted) << compacted.error().text();
  EXPECT_EQ(source->count(), 0U) << "the source was written to";
  // It is renamed now. Nothing may be left that a power cut could still take.
  for (int round = 0; round < 8; ++round) {
    auto after = open_device(kind, FaultFile::history_of(target->after_power_cut(target->count(), random)), parent);
    ASSERT_TRUE(after) << after.error().text();
    expect_sound((*after)->layout(), "after compacting");
    expect_content(**after, expectation, 0, "after compacting");
    if (is_vhdx(kind)) {  // a VHD copy is made with its identity
      EXPECT_EQ((*after)->info().identity, (*device)->info().identity);
    }
  }
}

TEST_P(PowerCutInMerge, the_child_shows_what_it_did) {
  const auto [kind, parent_kind] = GetParam();
  const auto grandparent = make_parent(parent_kind);
  const auto parent_before = FaultFile::history_of(new_image(parent_kind));
  {
    auto device = open_device(parent_kind, parent_before, grandparent);
    ASSERT_TRUE(write_blocks(**device, 0, stamped(kSectors / 2, kParentStamp)));
    ASSERT_TRUE((*device)->close());
  }
  const auto child = FaultFile::history_of(new_image(kind));
  std::vector<std::byte> shown(kDiskBytes);
  {
    auto parent = open_device(parent_kind, FaultFile::history_of(parent_before->now), grandparent);
    auto device = open_device(kind, child, std::shared_ptr<BlockDevice>(*std::move(parent)));
    Expectation ignored(0);
    run_workload(**device, *child, ignored, false, 17);
    ASSERT_TRUE(read_blocks(**device, 0, shown));
    ASSERT_TRUE((*device)->close());
  }
  const auto history = FaultFile::history_of(parent_before->now);
  {
    auto source = open_device(kind, FaultFile::history_of(child->now), nullptr);
    auto parent = open_device(parent_kind, history, grandparent);
    if (auto* vhdx = dynamic_cast<VhdxLayout*>(&(*parent)->layout())) vhdx->keep_data_write_guid();
    ASSERT_TRUE(copy_disk(**source, **parent, CopyWhat::kOwnLayer, {}));
    std::vector<std::byte> merged(kDiskBytes);
    ASSERT_TRUE(read_blocks(**parent, 0, merged));
    ASSERT_EQ(merged, shown);
    ASSERT_TRUE((*parent)->close());
  }
  std::mt19937 random(23);
  for (std::size_t cut = 0; cut <= history->count(); cut += 3) {
    auto parent = open_device(parent_kind, FaultFile::history_of(history->after_power_cut(cut, random)), grandparent);
    ASSERT_TRUE(parent) << cut << ": " << parent.error().text();
    auto device = open_device(kind, FaultFile::history_of(child->now), std::shared_ptr<BlockDevice>(*std::move(parent)));
    ASSERT_TRUE(device) << cut;
    std::vector<std::byte> now(kDiskBytes);
    ASSERT_TRUE(read_blocks(**device, 0, now));
    ASSERT_EQ(now, shown) << cut;
  }
}

TEST_P(PowerCutInMerge, parent_and_child_know_each_other_while_it_begins) {
  const auto [kind, parent_kind] = GetParam();
  const auto parent = FaultFile::history_of(new_image(parent_kind));
  const auto identity_of = [](Kind image_kind, const std::shared_ptr<FaultFile::History>& history) {
    FaultFile file(history, true);
    auto layout = open_kind(image_kind, file);
    EXPECT_TRUE(layout);
    return layout ? (*layout)->link_identity() : Guid{};
  };
  const auto identities_in = [](Kind image_kind, const std::shared_ptr<FaultFile::History>& history) {
    FaultFile file(history, true);
    auto layout = open_kind(image_kind, file);
    EXPECT_TRUE(layout) << layout.error().text();
    return layout ? (*layout)->parent()->identities : std::vector<Guid>();
  };
  const Guid before = identity_of(parent_kind, parent);
  auto child = FaultFile::history_of(new_image(kind));
  {
    FaultFile file(child);
    auto layout = open_kind(kind, file);
    ASSERT_TRUE(layout);
    if (auto* vhdx = dynamic_cast<VhdxLayout*>(layout->get())) {
      ASSERT_TRUE(vhdx->set_parent({{"parent_linkage", before.text()}, {"relative_path", ".\\base.vhdx"}}));
    } else {
      ASSERT_TRUE(dynamic_cast<VhdLayout&>(**layout).set_parent(VhdParent{before, 77, "base.vhd", ".\\base.vhd", "/base.vhd"}));
    }
    ASSERT_TRUE((*layout)->close());
  }
  child = FaultFile::history_of(child->now);
  {
    auto device = open_device(kind, child, nullptr);
    ASSERT_TRUE(device);
    const Result<void> announced = announce_merge(**device);
    ASSERT_TRUE(announced) << announced.error().text();
    EXPECT_TRUE(child->count() > 0);
    // Durable already, before the parent is touched and the child closed.
    std::mt19937 random(37);
    const auto now = FaultFile::history_of(child->after_power_cut(child->count(), random));
    EXPECT_EQ(identities_in(kind, now).size(), is_vhdx(kind) ? 2U : 1U);
  }
  std::mt19937 random(41);
  for (std::size_t cut = 0; cut <= child->count(); ++cut) {
    const auto identities = identities_in(kind, FaultFile::history_of(child->after_power_cut(cut, random)));
    ASSERT_TRUE(std::ranges::find(identities, before) != identities.end()) << "the child lost its parent: cut after " << cut;
  }
  const auto identities = identities_in(kind, child);
  const auto changing = FaultFile::history_of(parent->now);
  {
    FaultFile file(changing);
    auto layout = open_kind(parent_kind, file);
    ASSERT_TRUE(layout);
    if (auto* vhdx = dynamic_cast<VhdxLayout*>(layout->get())) {
      ASSERT_TRUE(vhdx->set_data_write_guid(identity_of(kind, child)));
    }
    ASSERT_TRUE((*layout)->close());
  }
  for (std::size_t cut = 0; cut <= changing->count(); ++cut) {
    const Guid now = identity_of(parent_kind, FaultFile::history_of(changing->after_power_cut(cut, random)));
    ASSERT_TRUE(std::ranges::find(identities, now) != identities.end()) << "the parent is a stranger: cut after " << cut;
  }
}

std::string text_of(Kind kind) {
  switch (kind) {
    case Kind::kVhdxDynamic: return "vhdx_dynamic";
    case Kind::kVhdxDifferencing: return "vhdx_differencing";
    case Kind::kVhdxFixed: return "vhdx_fixed";
    case Kind::kVhdDynamic: return "vhd_dynamic";
    case Kind::kVhdDifferencing: return "vhd_differencing";
    case Kind::kVhdFixed: return "vhd_fixed";
  }
  return "unknown";
}

INSTANTIATE_TEST_SUITE_P(Kinds, PowerCut,
                         testing::Values(Kind::kVhdxDynamic, Kind::kVhdxDifferencing, Kind::kVhdxFixed, Kind::kVhdDynamic,
                                         Kind::kVhdDifferencing, Kind::kVhdFixed),
                         [](const auto& test) { return text_of(test.param); });
INSTANTIATE_TEST_SUITE_P(Kinds, PowerCutInMerge,
                         testing::Values(std::pair(Kind::kVhdxDifferencing, Kind::kVhdxDynamic),
                                         std::pair(Kind::kVhdxDifferencing, Kind::kVhdxFixed),
                                         std::pair(Kind::kVhdxDifferencing, Kind::kVhdxDifferencing),
                                         std::pair(Kind::kVhdDifferencing, Kind::kVhdDynamic),
                                         std::pair(Kind::kVhdDifferencing, Kind::kVhdFixed),
                                         std::pair(Kind::kVhdDifferencing, Kind::kVhdDifferencing)),
                         [](const auto& test) { return text_of(test.param.first) + "_into_" + text_of(test.param.second); });

TEST(FullDisk, a_write_that_finds_no_space_says_so_and_harms_nothing) {
  for (const Kind kind : {Kind::kVhdxDynamic, Kind::kVhdDynamic}) {
    const auto history = FaultFile::history_of(new_image(kind));
    auto device = open_device(kind, history, nullptr);
    ASSERT_TRUE(write_blocks(**device, 0, stamped(8, 1)));
    history->capacity = history->now.size();
    const Result<void> refused = write_blocks(**device, 5U << 20, stamped(8, 2));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kNoSpace);
    ASSERT_TRUE(write_blocks(**device, 4096, stamped(8, 3)));
    ASSERT_TRUE(flush_blocks(**device));
    ASSERT_TRUE((*device)->close());
    auto again = open_device(kind, history, nullptr);
    ASSERT_TRUE(again);
    expect_sound((*again)->layout(), "after the disk was full");
    std::vector<std::byte> bytes(512);
    ASSERT_TRUE(read_blocks(**again, 4096, bytes));
    EXPECT_EQ(stamp_of(bytes), 3U);
    ASSERT_TRUE(read_blocks(**again, 5U << 20, bytes));
    EXPECT_EQ(stamp_of(bytes), 0U);
  }
}

TEST(FailingDisk, a_failed_flush_is_never_followed_by_a_good_one) {
  const auto history = FaultFile::history_of(new_image(Kind::kVhdxDynamic));
  auto device = open_device(Kind::kVhdxDynamic, history, nullptr);
  ASSERT_TRUE(write_blocks(**device, 0, stamped(8, 1)));
  history->fail_after = history->count();
  EXPECT_FALSE(flush_blocks(**device));
  history->fail_after = ~std::size_t{0};
  EXPECT_FALSE(flush_blocks(**device));
}

}  // namespace
}  // namespace bygone::disk
