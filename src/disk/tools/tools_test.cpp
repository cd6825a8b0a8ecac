// The image tools on real files, against a model of the disk, and beside the independent tools that read the same formats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>

#include "disk/test_folder.h"
#include "disk/tools/copy.h"
#include "disk/tools/create.h"
#include "disk/tools/inspect.h"
#include "disk/tools/transform.h"
#include "disk/tools/undo.h"

namespace bygone::disk {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kDiskBytes = 16U << 20;

/// A disk as an array of bytes.
using Model = std::vector<std::byte>;

void write_randomly(BlockDevice& device, Model& model, unsigned seed, int count = 30) {
  std::mt19937 random(seed);
  for (int i = 0; i < count; ++i) {
    const std::size_t length = 512 * (1 + random() % (i % 7 == 0 ? 3000 : 60));
    const std::size_t offset = random() % ((model.size() - length) / 512) * 512;
    for (std::size_t byte = offset; byte < offset + length; ++byte) model[byte] = static_cast<std::byte>(random());
    ASSERT_TRUE(write_blocks(device, offset, std::span(model).subspan(offset, length)));
  }
}

void expect_reads(const std::string& path, const Model& model) {
  OpenOptions options;
  options.read_only = true;
  auto device = open_image(path, options);
  ASSERT_TRUE(device) << device.error().text();
  Model read((*device)->info().size_bytes);
  ASSERT_TRUE(read_blocks(**device, 0, read));
  ASSERT_GE(read.size(), model.size());
  for (std::size_t i = 0; i < read.size(); ++i) {
    ASSERT_EQ(read[i], i < model.size() ? model[i] : std::byte{0}) << path << " at " << i;
  }
}

void expect_sound(const std::string& path) {
  const auto findings = check_image(path, false, {});
  ASSERT_TRUE(findings) << findings.error().text();
  for (const Finding& finding : *findings) ADD_FAILURE() << path << ": " << finding.text;
}

/// What a command prints; a failing one fails the test.
std::string output_of(const std::string& command) {
  std::string text;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("can't start " + command);
  char buffer[4096];
  for (std::size_t got = 0; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, got);
  EXPECT_EQ(::pclose(pipe), 0) << command << ": " << text;
  return text;
}

struct Form {
  DiskFormat format;
  DiskKind kind;
  const char* ending;
  const char* qemu_name;
};

void PrintTo(const Form& form, std::ostream* out) { *out << to_string(form.format) << form.ending; }

class EveryForm : public testing::TestWithParam<Form> {
 protected:
  std::string path(const std::string& name) const { return folder_.path(name + GetParam().ending); }
  Result<void> create(const std::string& file) const {
    CreateOptions options;
    options.format = GetParam().format;
    options.kind = GetParam().kind;
    options.size_bytes = kDiskBytes;
    return create_disk(file, options);
  }
  /// A chain base ← middle ← leaf for forms that can have one, with random content in each; the model is what the leaf shows.
  std::string make_filled(Model& model) const {
    std::string base = path("base");
    EXPECT_TRUE(create(base));
    fill(base, model, 1);
    if (GetParam().format == DiskFormat::kRaw || GetParam().kind == DiskKind::kFixed) return base;
    const std::string leaf = make_child(base, "middle", model, 2);
    return make_child(leaf, "leaf", model, 3);
  }
  std::string make_child(const std::string& parent, const std::string& name, Model& model, unsigned seed) const {
    CreateOptions options;
    options.format = GetParam().format;
    options.kind = DiskKind::kDifferencing;
    options.parent = parent;
    const Result<void> made = create_disk(path(name), options);
    EXPECT_TRUE(made) << made.error().text();
    fill(path(name), model, seed);
    return path(name);
  }
  static void fill(const std::string& file, Model& model, unsigned seed) {
    auto device = open_image(file);
    ASSERT_TRUE(device) << device.error().text();
    write_randomly(**device, model, seed);
    ASSERT_TRUE(zero_blocks(**device, 3U << 20, 4U << 20));
    std::fill_n(model.begin() + (3U << 20), 4U << 20, std::byte{0});
    write_randomly(**device, model, seed + 100, 5);
    const Result<void> closed = (*device)->close();
    ASSERT_TRUE(closed) << closed.error().text();
  }

  TestFolder folder_;
};

TEST_P(EveryForm, chain_reads_as_written_and_qemu_agrees) {
  Model model(kDiskBytes);
  const std::string leaf = make_filled(model);
  expect_reads(leaf, model);
  expect_sound(leaf);
  const std::string flat = path("flat");
  CreateOptions options;
  options.format = GetParam().format;
  options.kind = GetParam().kind;
  ASSERT_TRUE(convert_disk(leaf, flat, options, false, {}));
  std::ofstream(folder_.path("model.bin"), std::ios::binary)
      .write(reinterpret_cast<const char*>(model.data()), static_cast<std::streamsize>(model.size()));
  const std::string compared =
      output_of(fmt::format("qemu-img compare -f raw -F {} {} {}", GetParam().qemu_name, folder_.path("model.bin"), flat));
  EXPECT_THAT(compared, HasSubstr("Images are identical"));
  if (GetParam().format == DiskFormat::kVhdx) {
    EXPECT_THAT(output_of("qemu-img check -f vhdx " + flat), HasSubstr("No errors"));
  }
  if (GetParam().format != DiskFormat::kRaw) {
    EXPECT_THAT(output_of("vhdiinfo " + leaf), HasSubstr("Media size"));
  }
}

TEST_P(EveryForm, what_qemu_writes_is_read) {
  Model model(kDiskBytes);
  ASSERT_TRUE(create(path("a")));
  fill(path("a"), model, 9);
  const std::string theirs = folder_.path(std::string("theirs") + GetParam().ending);
  const char* subformat = GetParam().kind == DiskKind::kFixed ? "-o subformat=fixed" : "";
  output_of(fmt::format("qemu-img convert -f {0} -O {0} {1} {2} {3}", GetParam().qemu_name,
                        GetParam().format == DiskFormat::kRaw ? "" : subformat, path("a"), theirs));
  expect_reads(theirs, model);
  expect_sound(theirs);
  // And written to by us, it is still read by them.
  auto device = open_image(theirs);
  ASSERT_TRUE(device) << device.error().text();
  model.resize((*device)->info().size_bytes);
  write_randomly(**device, model, 10);
  ASSERT_TRUE((*device)->close());
  device->reset();
  std::ofstream(folder_.path("model.bin"), std::ios::binary)
      .write(reinterpret_cast<const char*>(model.data()), static_cast<std::streamsize>(model.size()));
  EXPECT_THAT(output_of(fmt::format("qemu-img compare -f raw -F {} {} {}", GetParam().qemu_name, folder_.path("model.bin"), theirs)),
              HasSubstr("Images are identical"));
}

TEST_P(EveryForm, compact_keeps_content_and_frees_space) {
  Model model(kDiskBytes);
  const std::string leaf = make_filled(model);
  {
    auto device = open_image(leaf);
    ASSERT_TRUE(write_blocks(**device, 10U << 20, Model(4U << 20)));  // zeros like any other bytes
    std::fill_n(model.begin() + (10U << 20), 4U << 20, std::byte{0});
    ASSERT_TRUE((*device)->close());
  }
  const auto before = describe_chain(leaf).value();
  const Result<void> compacted = compact_disk(leaf, {});
  ASSERT_TRUE(compacted) << compacted.error().text();
  expect_reads(leaf, model);
  expect_sound(leaf);
  const auto after = describe_chain(leaf).value();
  EXPECT_EQ(after[0].link_identity, before[0].link_identity);
  EXPECT_EQ(after[0].info.identity, before[0].info.identity);
  EXPECT_LT(after[0].host_bytes + (2U << 20), before[0].host_bytes);
}

TEST_P(EveryForm, resize_grows_with_zeros) {
  Model model(kDiskBytes);
  const std::string leaf = make_filled(model);
  const Result<void> resized = resize_disk(leaf, kDiskBytes + (7U << 20), false);
  ASSERT_TRUE(resized) << resized.error().text();
  expect_reads(leaf, model);
  expect_sound(leaf);
  const Result<void> shrunk = resize_disk(leaf, kDiskBytes, false);
  ASSERT_FALSE(shrunk);
  EXPECT_THAT(shrunk.error().text(), HasSubstr("--shrink"));
}

TEST_P(EveryForm, resize_shrinks_when_it_is_meant) {
  Model model(kDiskBytes);
  const std::string leaf = make_filled(model);
  constexpr std::uint64_t kSmaller = kDiskBytes - (5U << 20) - 512 * 9;
  const Result<void> shrunk = resize_disk(leaf, kSmaller, true);
  ASSERT_TRUE(shrunk) << shrunk.error().text();
  model.resize(kSmaller);
  expect_reads(leaf, model);
  expect_sound(leaf);
  EXPECT_EQ(describe_chain(leaf).value()[0].info.size_bytes, kSmaller);
}

TEST_P(EveryForm, an_image_that_is_open_elsewhere_is_left_alone) {
  Model model(kDiskBytes);
  const std::string leaf = make_filled(model);
  const auto in_use = open_image(leaf);
  ASSERT_TRUE(in_use);
  CreateOptions options;
  options.format = GetParam().format;
  const auto expect_busy = [](const Result<void>& result) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kBusy) << result.error().text();
  };
  expect_busy(compact_disk(leaf, {}));
  expect_busy(resize_disk(leaf, 2 * kDiskBytes, false));
  expect_busy(convert_disk(leaf, path("copy"), options, false, {}));
  EXPECT_EQ(check_image(leaf, true, {}).error().code, ErrorCode::kBusy);
  EXPECT_TRUE(describe_chain(leaf)) << "looking is allowed";
}

TEST_P(EveryForm, second_name_is_never_overwritten) {
  ASSERT_TRUE(create(path("a")));
  EXPECT_EQ(create(path("a")).error().code, ErrorCode::kAlreadyExists);
  CreateOptions options;
  options.format = GetParam().format;
  EXPECT_EQ(convert_disk(path("a"), path("a"), options, false, {}).error().code, ErrorCode::kAlreadyExists);
}

INSTANTIATE_TEST_SUITE_P(Forms, EveryForm,
                         testing::Values(Form{DiskFormat::kVhdx, DiskKind::kDynamic, ".vhdx", "vhdx"},
                                         Form{DiskFormat::kVhdx, DiskKind::kFixed, ".vhdx", "vhdx"},
                                         Form{DiskFormat::kVhd, DiskKind::kDynamic, ".vhd", "vpc"},
                                         Form{DiskFormat::kVhd, DiskKind::kFixed, ".vhd", "vpc"},
                                         Form{DiskFormat::kRaw, DiskKind::kDynamic, ".img", "raw"}),
                         [](const auto& test) {
                           return fmt::format("{}_{}", to_string(test.param.format),
                                              test.param.kind == DiskKind::kFixed ? "fixed" : "dynamic");
                         });

/// The forms whose files grow with what is written, so that a large one costs the host little.
class Growing : public EveryForm {};

TEST_P(Growing, files_larger_than_four_gibibytes_keep_what_is_written) {
  CreateOptions options;
  options.format = GetParam().format;
  options.size_bytes = std::uint64_t{5} << 30;
  if (options.format == DiskFormat::kVhdx) options.block_bytes = 256U << 20;
  ASSERT_TRUE(create_disk(path("large"), options));
  const Model bytes(4096, std::byte{0x5A});
  const std::uint64_t step = options.format == DiskFormat::kVhd ? 2U << 20 : 256U << 20;
  {
    auto device = open_image(path("large"));
    ASSERT_TRUE(device);
    for (std::uint64_t offset = 0; offset < options.size_bytes; offset += step) ASSERT_TRUE(write_blocks(**device, offset, bytes));
    EXPECT_GT((*device)->file().size().value(), std::uint64_t{1} << 32);
    ASSERT_TRUE((*device)->close());
  }
  auto device = open_image(path("large"));
  ASSERT_TRUE(device);
  for (std::uint64_t offset = 0; offset < options.size_bytes; offset += step) {
    Model read(4096);
    ASSERT_TRUE(read_blocks(**device, offset, read));
    ASSERT_EQ(read, bytes) << offset;
  }
  device->reset();
  expect_sound(path("large"));
}

INSTANTIATE_TEST_SUITE_P(Forms, Growing,
                         testing::Values(Form{DiskFormat::kVhdx, DiskKind::kDynamic, ".vhdx", "vhdx"},
                                         Form{DiskFormat::kVhd, DiskKind::kDynamic, ".vhd", "vpc"},
                                         Form{DiskFormat::kRaw, DiskKind::kDynamic, ".img", "raw"}),
                         [](const auto& test) { return std::string(to_string(test.param.format)); });

class Chains : public EveryForm {};

TEST_P(Chains, merge_makes_the_parent_read_as_the_child) {
  Model model(kDiskBytes);
  const std::string leaf = make_filled(model);
  const Result<void> merged = merge_disk(leaf, {});
  ASSERT_TRUE(merged) << merged.error().text();
  expect_reads(path("middle"), model);
  const Result<void> again = merge_disk(path("middle"), {});
  ASSERT_TRUE(again) << again.error().text();
  expect_reads(path("base"), model);
  expect_sound(path("base"));
}

TEST_P(Chains, missing_parent_is_named_and_rebase_finds_it_again) {
  Model model(kDiskBytes);
  const std::string leaf = make_filled(model);
  std::filesystem::create_directory(folder_.path("elsewhere"));
  const std::string moved = folder_.path(std::string("elsewhere/moved") + GetParam().ending);
  std::filesystem::rename(path("middle"), moved);
  const auto broken = open_disk(leaf);
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(broken.error().text(), HasSubstr("middle"));
  EXPECT_TRUE(describe_chain(leaf).value()[0].is_parent_missing);
  ASSERT_TRUE(rebase_disk(leaf, moved, false));
  ASSERT_TRUE(rebase_disk(moved, path("base"), false));
  expect_reads(leaf, model);
}

TEST_P(Chains, another_image_in_the_parents_place_is_refused) {
  Model model(kDiskBytes);
  const std::string leaf = make_filled(model);
  std::filesystem::remove(path("base"));
  ASSERT_TRUE(create(path("base")));
  const auto opened = open_disk(leaf);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(opened.error().text(), HasSubstr("changed or replaced"));
  EXPECT_FALSE(rebase_disk(path("middle"), path("base"), false));
}

TEST_P(Chains, undo_discards_or_keeps) {
  Model model(kDiskBytes);
  ASSERT_TRUE(create(path("base")));
  fill(path("base"), model, 21);
  Model changed = model;
  const std::string undo = begin_undo(path("base")).value();
  EXPECT_EQ(begin_undo(path("base")).error().code, ErrorCode::kAlreadyExists);
  fill(undo, changed, 22);
  ASSERT_TRUE(discard_undo(path("base")));
  expect_reads(path("base"), model);
  ASSERT_TRUE(begin_undo(path("base")));
  changed = model;
  fill(undo, changed, 23);
  ASSERT_TRUE(commit_undo(path("base"), {}));
  expect_reads(path("base"), changed);
}

TEST_P(Chains, a_parent_cannot_be_opened_for_writing_while_its_child_runs) {
  Model model(kDiskBytes);
  const std::string leaf = make_filled(model);
  const auto device = open_image(leaf);
  ASSERT_TRUE(device);
  EXPECT_EQ(open_image(path("middle")).error().code, ErrorCode::kBusy);
}

TEST_P(Chains, a_merge_that_was_stopped_anywhere_goes_on_and_other_children_are_not_deceived) {
  Model model(kDiskBytes);
  ASSERT_TRUE(create(path("base")));
  fill(path("base"), model, 31);
  Model changed = model;
  const std::string sibling = make_child(path("base"), "sibling", model, 32);
  const std::string leaf = make_child(path("base"), "leaf", changed, 33);
  std::atomic<bool> cancelled = false;
  int steps = 3;
  const Progress stopping{[&](std::uint64_t, std::uint64_t) { cancelled = --steps <= 0; }, &cancelled};
  const Result<void> stopped = merge_disk(leaf, stopping);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  expect_reads(leaf, changed);
  if (GetParam().format == DiskFormat::kVhdx) {
    const auto deceived = open_disk(sibling);
    ASSERT_FALSE(deceived);
    EXPECT_THAT(deceived.error().text(), HasSubstr("changed or replaced"));
  }
  const Result<void> merged = merge_disk(leaf, {});
  ASSERT_TRUE(merged) << merged.error().text();
  expect_reads(path("base"), changed);
  expect_reads(leaf, changed);
}

TEST_P(Chains, repair_rebase_and_compact_of_a_parent_leave_its_children_valid) {
  Model model(kDiskBytes);
  const std::string leaf = make_filled(model);
  for (const char* name : {"base", "middle"}) {
    const auto before = std::filesystem::last_write_time(path(name)) - std::chrono::hours(1);
    std::filesystem::last_write_time(path(name), before);
  }
  ASSERT_TRUE(rebase_disk(path("middle"), path("base"), false));  // the dates are as they were when the children were made
  ASSERT_TRUE(rebase_disk(leaf, path("middle"), false));
  ASSERT_TRUE(compact_disk(path("base"), {}));
  ASSERT_TRUE(compact_disk(path("middle"), {}));
  ASSERT_TRUE(check_image(path("middle"), true, {}));
  ASSERT_TRUE(rebase_disk(path("middle"), path("base"), false));
  expect_reads(leaf, model);
}

INSTANTIATE_TEST_SUITE_P(Forms, Chains,
                         testing::Values(Form{DiskFormat::kVhdx, DiskKind::kDynamic, ".vhdx", "vhdx"},
                                         Form{DiskFormat::kVhd, DiskKind::kDynamic, ".vhd", "vpc"}),
                         [](const auto& test) { return std::string(to_string(test.param.format)); });

TEST(Tools, a_child_of_a_changed_vhdx_parent_says_so) {
  const TestFolder folder;
  CreateOptions options;
  options.size_bytes = kDiskBytes;
  ASSERT_TRUE(create_disk(folder.path("base.vhdx"), options));
  options.kind = DiskKind::kDifferencing;
  options.parent = folder.path("base.vhdx");
  ASSERT_TRUE(create_disk(folder.path("child.vhdx"), options));
  {
    auto base = open_image(folder.path("base.vhdx"));
    ASSERT_TRUE(write_blocks(**base, 0, Model(512, std::byte{1})));
    ASSERT_TRUE((*base)->close());
  }
  const auto opened = open_disk(folder.path("child.vhdx"));
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().text(), HasSubstr("changed or replaced"));
}

TEST(Tools, a_child_of_a_changed_vhd_parent_says_so) {
  const TestFolder folder;
  const std::string base = folder.path("base.vhd");
  const std::string child = folder.path("child.vhd");
  CreateOptions options;
  options.format = DiskFormat::kVhd;
  options.size_bytes = kDiskBytes;
  ASSERT_TRUE(create_disk(base, options));
  const auto made = std::filesystem::last_write_time(base) - std::chrono::hours(1);
  std::filesystem::last_write_time(base, made);
  options.kind = DiskKind::kDifferencing;
  options.parent = base;
  ASSERT_TRUE(create_disk(child, options));
  EXPECT_TRUE(open_disk(child));
  {
    auto device = open_image(base);
    ASSERT_TRUE(write_blocks(**device, 0, Model(512, std::byte{1})));
    ASSERT_TRUE((*device)->close());
  }
  const auto opened = open_disk(child);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(opened.error().text(), HasSubstr("written to since the child was made"));
  EXPECT_THAT(opened.error().text(), HasSubstr("bygone disk rebase"));
  // Only its date changed, says the user.
  ASSERT_TRUE(rebase_disk(child, base, false));
  EXPECT_TRUE(open_disk(child));
  // A date of whole even seconds, as some archives keep it, is no change.
  std::filesystem::last_write_time(base, made);
  ASSERT_TRUE(rebase_disk(child, base, false));
  std::filesystem::last_write_time(base, made - std::chrono::seconds(1));
  EXPECT_TRUE(open_disk(child));
}

TEST(Tools, sectors_of_four_kibibytes_convert_and_chain) {
  const TestFolder folder;
  CreateOptions options;
  options.size_bytes = kDiskBytes;
  options.logical_sector_bytes = 4096;
  ASSERT_TRUE(create_disk(folder.path("a.vhdx"), options));
  Model model(kDiskBytes);
  std::mt19937 random(8);
  const auto fill = [&](const std::string& file) {
    auto device = open_image(file);
    ASSERT_TRUE(device) << device.error().text();
    EXPECT_EQ((*device)->info().logical_sector_bytes, 4096U);
    EXPECT_EQ(write_blocks(**device, 512, Model(4096)).error().code, ErrorCode::kInvalidArgument);
    for (int i = 0; i < 40; ++i) {
      const std::size_t length = 4096 * (1 + random() % 20);
      const std::size_t offset = random() % ((model.size() - length) / 4096) * 4096;
      for (std::size_t byte = offset; byte < offset + length; ++byte) model[byte] = static_cast<std::byte>(random());
      ASSERT_TRUE(write_blocks(**device, offset, std::span(model).subspan(offset, length)));
    }
    ASSERT_TRUE((*device)->close());
  };
  fill(folder.path("a.vhdx"));
  options.kind = DiskKind::kDifferencing;
  options.parent = folder.path("a.vhdx");
  options.size_bytes = 0;
  ASSERT_TRUE(create_disk(folder.path("b.vhdx"), options));
  fill(folder.path("b.vhdx"));  // partially present blocks
  expect_reads(folder.path("b.vhdx"), model);
  expect_sound(folder.path("b.vhdx"));
  ASSERT_TRUE(convert_disk(folder.path("b.vhdx"), folder.path("c.vhdx"), CreateOptions{}, false, {}));
  expect_reads(folder.path("c.vhdx"), model);
  EXPECT_EQ(describe_chain(folder.path("c.vhdx")).value()[0].info.logical_sector_bytes, 4096U);
  options = {};
  options.format = DiskFormat::kVhd;
  const Result<void> refused = convert_disk(folder.path("b.vhdx"), folder.path("c.vhd"), options, false, {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text(), HasSubstr("512"));
  ASSERT_TRUE(merge_disk(folder.path("b.vhdx"), {}));
  expect_reads(folder.path("a.vhdx"), model);
}

TEST(Tools, cancelled_conversion_leaves_nothing_behind) {
  const TestFolder folder;
  CreateOptions options;
  options.size_bytes = kDiskBytes;
  ASSERT_TRUE(create_disk(folder.path("a.vhdx"), options));
  Model model(kDiskBytes);
  {
    auto device = open_image(folder.path("a.vhdx"));
    write_randomly(**device, model, 4);
  }
  const std::atomic<bool> cancelled = true;
  options.size_bytes = 0;
  const Result<void> converted = convert_disk(folder.path("a.vhdx"), folder.path("b.vhdx"), options, false, {{}, &cancelled});
  ASSERT_FALSE(converted);
  EXPECT_EQ(converted.error().code, ErrorCode::kCancelled);
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path(""))) ++files;
  EXPECT_EQ(files, 1U);
}

TEST(Tools, sixty_four_tebibytes_open_at_once) {
  const TestFolder folder;
  CreateOptions options;
  options.size_bytes = std::uint64_t{64} << 40;
  ASSERT_TRUE(create_disk(folder.path("huge.vhdx"), options));
  auto device = open_image(folder.path("huge.vhdx"));
  ASSERT_TRUE(device) << device.error().text();
  const Model bytes(4096, std::byte{7});
  ASSERT_TRUE(write_blocks(**device, options.size_bytes - 4096, bytes));
  Model read(4096);
  ASSERT_TRUE(read_blocks(**device, options.size_bytes - 4096, read));
  EXPECT_EQ(read, bytes);
  ASSERT_TRUE((*device)->close());
}

TEST(Tools, a_parent_is_looked_for_beside_the_child_first_and_then_where_it_was) {
  namespace fs = std::filesystem;
  for (const char* ending : {".vhdx", ".vhd"}) {
    const TestFolder folder;
    fs::create_directories(folder.path("old"));
    fs::create_directories(folder.path("new"));
    const std::string base = folder.path(std::string("old/base") + ending);
    CreateOptions options;
    options.format = format_of_name(base).value();
    options.size_bytes = kDiskBytes;
    ASSERT_TRUE(create_disk(base, options));
    options.kind = DiskKind::kDifferencing;
    options.parent = base;
    ASSERT_TRUE(create_disk(folder.path(std::string("old/child") + ending), options));
    const std::string child = folder.path(std::string("new/child") + ending);
    fs::rename(folder.path(std::string("old/child") + ending), child);
    EXPECT_EQ(describe_chain(child).value()[0].parent_path, base) << "by its absolute path";
    EXPECT_TRUE(open_image(child));
    const std::string beside = folder.path(std::string("new/base") + ending);
    fs::copy_file(base, beside);
    fs::last_write_time(beside, fs::last_write_time(base));
    EXPECT_EQ(describe_chain(child).value()[0].parent_path, beside) << "beside the child";
    EXPECT_TRUE(open_image(child));
  }
}

TEST(Tools, the_largest_vhd) {
  const TestFolder folder;
  CreateOptions options;
  options.format = DiskFormat::kVhd;
  options.size_bytes = std::uint64_t{2040} << 30;
  ASSERT_TRUE(create_disk(folder.path("huge.vhd"), options));
  const Model bytes(4096, std::byte{7});
  {
    auto device = open_image(folder.path("huge.vhd"));
    ASSERT_TRUE(device) << device.error().text();
    ASSERT_TRUE(write_blocks(**device, options.size_bytes - 4096, bytes));
    ASSERT_TRUE((*device)->close());
  }
  auto device = open_image(folder.path("huge.vhd"));
  Model read(4096);
  ASSERT_TRUE(read_blocks(**device, options.size_bytes - 4096, read));
  EXPECT_EQ(read, bytes);
  options.size_bytes += 512;
  const auto refused = create_disk(folder.path("more.vhd"), options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text(), HasSubstr("2040 GiB"));
}

TEST(Tools, blocks_of_every_size) {
  const TestFolder folder;
  constexpr std::uint64_t kBytes = std::uint64_t{1} << 30;
  for (std::uint32_t mebibytes = 1; mebibytes <= 256; mebibytes *= 2) {
    const std::string path = folder.path(fmt::format("{}.vhdx", mebibytes));
    const std::string child = folder.path(fmt::format("{}-child.vhdx", mebibytes));
    CreateOptions options;
    options.size_bytes = kBytes;
    options.block_bytes = mebibytes << 20;
    ASSERT_TRUE(create_disk(path, options));
    const std::uint64_t border = std::uint64_t{mebibytes} << 20;  // between the first two blocks
    const Model below(8192, std::byte{1});
    const Model above(4096, std::byte{2});
    {
      auto device = open_image(path);
      ASSERT_TRUE(device);
      ASSERT_TRUE(write_blocks(**device, border - 4096, below));
      ASSERT_TRUE(write_blocks(**device, kBytes - 4096, above));
      ASSERT_TRUE((*device)->close());
    }
    options.kind = DiskKind::kDifferencing;
    options.parent = path;
    ASSERT_TRUE(create_disk(child, options));
    {
      auto device = open_image(child);
      ASSERT_TRUE(device);
      ASSERT_TRUE(write_blocks(**device, border, above));
      ASSERT_TRUE((*device)->close());
    }
    EXPECT_EQ(describe_chain(child).value()[1].block_bytes, mebibytes << 20);
    expect_sound(path);
    expect_sound(child);
    OpenOptions reading;
    reading.read_only = true;
    auto device = open_image(child, reading);
    ASSERT_TRUE(device) << device.error().text();
    Model read(8192);
    ASSERT_TRUE(read_blocks(**device, border - 4096, read));
    EXPECT_TRUE(std::ranges::equal(std::span(read).first(4096), std::span(below).first(4096))) << mebibytes;
    EXPECT_TRUE(std::ranges::equal(std::span(read).last(4096), above)) << mebibytes;
    ASSERT_TRUE(read_blocks(**device, kBytes - 8192, read));
    EXPECT_EQ(read[4095], std::byte{0});
    EXPECT_EQ(read[4096], std::byte{2});
    output_of(fmt::format("qemu-img check -q -f vhdx {}", path));
  }
  CreateOptions options;
  options.size_bytes = kBytes;
  for (const std::uint32_t bytes : {512U << 10, 3U << 20, 512U << 20}) {
    options.block_bytes = bytes;
    const auto refused = create_disk(folder.path("refused.vhdx"), options);
    ASSERT_FALSE(refused) << bytes;
    EXPECT_THAT(refused.error().text(), HasSubstr("between 1 and 256 MiB"));
  }
}

TEST(Tools, what_compact_frees_was_trimmed_or_zeroed) {
  const TestFolder folder;
  for (const char* name : {"a.vhdx", "a.vhd"}) {
    const std::string path = folder.path(name);
    CreateOptions options;
    options.format = format_of_name(path).value();
    options.size_bytes = 64U << 20;
    options.block_bytes = 2U << 20;
    ASSERT_TRUE(create_disk(path, options));
    Model model(64U << 20);
    for (std::size_t i = 0; i < model.size(); i += 512) std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(i), 512, static_cast<std::byte>(1 + i / 512 % 255));
    {
      auto device = open_image(path);
      ASSERT_TRUE(write_blocks(**device, 0, model));
      ASSERT_TRUE((*device)->close());
    }
    const auto empty = [&](std::size_t offset, std::size_t length) {
      std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{0});
    };
    {
      auto device = open_image(path);
      ASSERT_TRUE(unmap_blocks(**device, 8U << 20, 16U << 20));
      empty(8U << 20, 16U << 20);
      ASSERT_TRUE(write_blocks(**device, 32U << 20, Model(16U << 20)));
      empty(32U << 20, 16U << 20);
      ASSERT_TRUE(zero_blocks(**device, 50U << 20, 8U << 20));
      empty(50U << 20, 8U << 20);
      ASSERT_TRUE((*device)->close());
    }
    const Result<void> compacted = compact_disk(path, {});
    ASSERT_TRUE(compacted) << compacted.error().text();
    expect_reads(path, model);
    expect_sound(path);
    // 40 of 64 MiB are gone; what is left are 24 MiB and the tables.
    EXPECT_LT(std::filesystem::file_size(path), (24U << 20) + (6U << 20)) << path;
  }
}

TEST(Tools, sizes_are_read_as_people_write_them) {
  EXPECT_EQ(parse_size("40G").value(), std::uint64_t{40} << 30);
  EXPECT_EQ(parse_size("1.5 MiB").value(), 1572864U);
  EXPECT_EQ(parse_size("512").value(), 512U);
  EXPECT_EQ(parse_size("2tb").value(), std::uint64_t{2} << 40);
  for (const char* text : {"", "G", "40X", "-1G", "0", "9999999T"}) EXPECT_FALSE(parse_size(text)) << text;
  EXPECT_EQ(size_text(std::uint64_t{40} << 30), "40 GiB");
  EXPECT_EQ(size_text(1536), "1.5 KiB");
}

}  // namespace
}  // namespace bygone::disk
