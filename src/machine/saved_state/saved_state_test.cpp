#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <random>

#include "machine/saved_state/memory_image.h"
#include "machine/saved_state/processor_state.h"
#include "machine/saved_state/state_file.h"
#include "support/cbor.h"
#include "support/file.h"

namespace bygone::machine::saved_state {
namespace {

using memory::GuestMemory;
using memory::kPageSize;

class SavedState : public testing::Test {
 protected:
  SavedState() {
    std::string name = (std::filesystem::temp_directory_path() / "bygone-state-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~SavedState() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] std::filesystem::path path() const { return folder_ / "machine.state"; }

  std::vector<std::byte> write_small_file() {
    auto writer = StateWriter::create(path());
    EXPECT_TRUE(writer);
    const std::array payload = {std::byte{1}, std::byte{2}, std::byte{3}};
    EXPECT_TRUE(writer->append(SectionKind::kManifest, 0, payload));
    EXPECT_TRUE(writer->append(SectionKind::kMemory, 0x100000, payload));
    EXPECT_TRUE(writer->commit());
    return read_file(path(), 1 << 20).value();
  }
  /// Reads all of `bytes` as a state file would be read.
  static Result<void> read_all(std::span<const std::byte> bytes) {
    UniqueFd fd(::memfd_create("state", MFD_CLOEXEC));
    if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) return fail(ErrorCode::kIo, "writing the test's file");
    BYGONE_ASSIGN(const StateReader reader, StateReader::open(std::move(fd), "state"));
    for (const Section& section : reader.sections()) BYGONE_CHECK(reader.read(section));
    return {};
  }

  std::filesystem::path folder_;
};

TEST_F(SavedState, file_is_there_only_after_commit) {
  {
    auto writer = StateWriter::create(path());
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->append(SectionKind::kManifest, 0, {}));
    EXPECT_FALSE(std::filesystem::exists(path()));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  const auto bytes = write_small_file();
  EXPECT_TRUE(read_all(bytes));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  EXPECT_EQ(std::filesystem::status(path()).permissions(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(SavedState, every_flipped_bit_and_every_cut_is_seen) {
  const auto good = write_small_file();
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const unsigned bit : {0U, 7U}) {
      auto damaged = good;
      damaged[at] ^= std::byte{static_cast<std::uint8_t>(1U << bit)};
      EXPECT_FALSE(read_all(damaged)) << "byte " << at;
    }
    EXPECT_FALSE(read_all(std::span(good).first(at))) << at << " bytes";
  }
}

TEST_F(SavedState, memory_comes_back_and_what_was_never_touched_takes_no_space) {
  constexpr std::uint64_t kSize = 64 << 20;
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, kSize));
  ASSERT_TRUE(memory.add_ram({1ULL << 32}, 4 << 20));
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> page(kPageSize / 8);
  std::vector<std::uint64_t> written;
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t address = (random() % (kSize / kPageSize)) * kPageSize;
    for (auto& word : page) word = random() % 4;
    ASSERT_TRUE(memory.write({address}, std::as_bytes(std::span(page))));
  }
  ASSERT_TRUE(memory.fill({(1ULL << 32) + (4 << 20) - 8}, 8, std::byte{0x5A}));  // the very last bytes
  ASSERT_TRUE(memory.fill({0x2000000}, 4096, std::byte{0}));                      // touched, and zero

  auto writer = StateWriter::create(path());
  ASSERT_TRUE(writer);
  ASSERT_TRUE(writer->append(SectionKind::kManifest, 0, {}));
  std::uint64_t reported = 0, total = 0;
  ASSERT_TRUE(save_memory(memory, *writer, [&](std::uint64_t done, std::uint64_t of) {
    reported = std::max(reported, done);
    total = of;
    return true;
  }));
  EXPECT_LE(reported, total);
  EXPECT_GT(reported, 0U);
  ASSERT_TRUE(writer->commit());
  EXPECT_LT(std::filesystem::file_size(path()), 41 * kPageSize);

  GuestMemory restored;
  ASSERT_TRUE(restored.add_ram({0}, kSize));
  ASSERT_TRUE(restored.add_ram({1ULL << 32}, 4 << 20));
  const auto reader = StateReader::open(path());
  ASSERT_TRUE(reader);
  ASSERT_TRUE(restore_memory(restored, *reader, {}));
  for (const memory::Slot& slot : memory.slots()) {
    EXPECT_EQ(std::memcmp(slot.host, restored.host_span(slot.base, slot.size).data(), slot.size), 0);
  }
}

TEST_F(SavedState, memory_for_other_places_is_refused) {
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 4 << 20));
  ASSERT_TRUE(memory.fill({0x300000}, 1, std::byte{1}));
  auto writer = StateWriter::create(path());
  ASSERT_TRUE(writer);
  ASSERT_TRUE(writer->append(SectionKind::kManifest, 0, {}));
  ASSERT_TRUE(save_memory(memory, *writer, {}));
  ASSERT_TRUE(writer->commit());
  GuestMemory smaller;
  ASSERT_TRUE(smaller.add_ram({0}, 2 << 20));
  const auto reader = StateReader::open(path());
  ASSERT_TRUE(reader);
  const auto outcome = restore_memory(smaller, *reader, {});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kCorrupt);
}

TEST_F(SavedState, cancelled_save_stops) {
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 16 << 20));
  ASSERT_TRUE(memory.fill({0}, 16 << 20, std::byte{1}));
  auto writer = StateWriter::create(path());
  ASSERT_TRUE(writer);
  const auto outcome = save_memory(memory, *writer, [](std::uint64_t, std::uint64_t) { return false; });
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kCancelled);
}

cpu::VcpuState sample_processor() {
  cpu::VcpuState state;
  for (std::size_t i = 0; i < 16; ++i) state.general.gpr[i] = ~std::uint64_t{i};
  state.general.rip = 0xFFFFFFFF81000000;
  state.general.rflags = 0x246;
  state.system.segments[1] = {0, 0xFFFFFFFF, 0x10, 0xA09B};
  state.system.cr3 = 0x1234000;
  state.system.xcr0 = 7;
  state.debug.dr[2] = 99;
  state.extended.xsave.assign(832, std::byte{7});
  state.msrs = {{0x10, 1'000'000}, {0xC0000082, 0xFFFFFFFF80000000}};
  state.local_apic.registers[8] = 0xAB;
  state.events.has_exception = state.events.has_error_code = true;
  state.events.exception_vector = 14;
  state.events.error_code = 6;
  state.events.interrupt_vector = 0x33;
  state.events.pending_nmis = 1;
  state.events.nmi_masked = true;
  state.events.activity = cpu::ActivityState::kHalted;
  return state;
}

TEST_F(SavedState, processor_survives_the_way_through_the_file) {
  const nlohmann::json saved = processor_to_json(sample_processor());
  const auto decoded = from_cbor(to_cbor(saved));
  ASSERT_TRUE(decoded);
  const auto restored = processor_from_json(*decoded);
  ASSERT_TRUE(restored) << restored.error().text();
  EXPECT_EQ(processor_to_json(*restored), saved);
}

TEST_F(SavedState, processor_without_a_field_is_refused) {
  const nlohmann::json whole = processor_to_json(sample_processor());
  for (const auto& [key, value] : whole.items()) {
    nlohmann::json part = whole;
    part.erase(key);
    EXPECT_FALSE(processor_from_json(part)) << key;
  }
  nlohmann::json other = whole;
  other["version"] = 99;
  EXPECT_EQ(processor_from_json(other).error().code, ErrorCode::kUnsupported);
}

cpu::CpuidTable sample_cpuid(std::uint32_t leaf7_ebx) {
  cpu::CpuidTable table;
  table.set({0, std::nullopt, {0xD, 1, 2, 3}});
  table.set({7, 0, {0, leaf7_ebx, 0, 0}});
  table.set({0xD, 2, {256, 576, 0, 0}});
  return table;
}

TEST_F(SavedState, processor_must_have_what_the_saved_one_had) {
  EXPECT_TRUE(check_processor(sample_cpuid(0x20), sample_cpuid(0x120)));
  const auto lacking = check_processor(sample_cpuid(0x120), sample_cpuid(0x20));
  ASSERT_FALSE(lacking);
  EXPECT_NE(lacking.error().message.find("leaf 7 EBX 0x100"), std::string::npos) << lacking.error().message;
  auto elsewhere = sample_cpuid(0x20);
  elsewhere.set({0, std::nullopt, {0xD, 9, 9, 9}});
  EXPECT_FALSE(check_processor(sample_cpuid(0x20), elsewhere));
  auto moved = sample_cpuid(0x20);
  moved.set({0xD, 2, {256, 640, 0, 0}});
  EXPECT_FALSE(check_processor(sample_cpuid(0x20), moved));
  const auto table = cpuid_from_json(cpuid_to_json(sample_cpuid(5)));
  ASSERT_TRUE(table);
  EXPECT_EQ(table->query(7, 0).ebx, 5U);
}

}  // namespace
}  // namespace bygone::machine::saved_state
