#include "disk/open.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <random>

#include "disk/host_file.h"
#include "disk/test_folder.h"
#include "disk/vhdx/vhdx_create.h"
#include "support/unique_fd.h"

namespace bygone::disk {
namespace {

std::vector<std::byte> pattern(std::size_t length, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(length);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

std::vector<std::byte> read_all(BlockDevice& device, std::uint64_t offset, std::size_t length) {
  std::vector<std::byte> bytes(length, std::byte{0xEE});
  const Result<void> result = read_blocks(device, offset, bytes);
  EXPECT_TRUE(result) << result.error().text();
  return bytes;
}

VhdxMetadata dynamic_metadata(std::uint64_t size) {
  VhdxMetadata metadata;
  metadata.block_bytes = 1U << 20;
  metadata.size_bytes = size;
  metadata.disk_id = Guid::random();
  metadata.logical_sector_bytes = 512;
  metadata.physical_sector_bytes = 4096;
  return metadata;
}

Result<void> create_file(const std::string& path, const VhdxMetadata& metadata) {
  HostFileOptions options;
  options.is_created = true;
  BYGONE_ASSIGN(const auto file, open_host_file(path, options, create_thread_backend()));
  return create_vhdx(*file, metadata);
}

std::unique_ptr<ImageDevice> open_or_fail(const std::string& path, const OpenOptions& options = {}) {
  auto device = open_image(path, options);
  if (!device) {
    ADD_FAILURE() << device.error().text();
    return nullptr;
  }
  return *std::move(device);
}

class OpenOnBackend : public testing::TestWithParam<IoBackend::Kind> {
 protected:
  OpenOptions options() const {
    OpenOptions options;
    options.io = GetParam();
    return options;
  }
  TestFolder folder_;
};

TEST_P(OpenOnBackend, dynamic_vhdx_keeps_what_is_written) {
  const std::string path = folder_.path("a.vhdx");
  ASSERT_TRUE(create_file(path, dynamic_metadata(64U << 20)));
  const auto bytes = pattern(3U << 20, 1);
  {
    const auto device = open_or_fail(path, options());
    ASSERT_TRUE(device);
    EXPECT_THAT(read_all(*device, 0, 4096), testing::Each(std::byte{0}));
    ASSERT_TRUE(write_blocks(*device, (5U << 20) + 512, bytes));
    EXPECT_EQ(read_all(*device, (5U << 20) + 512, bytes.size()), bytes);
    ASSERT_TRUE(flush_blocks(*device));
    ASSERT_TRUE(device->close());
  }
  const auto device = open_or_fail(path, options());
  ASSERT_TRUE(device);
  EXPECT_EQ(read_all(*device, (5U << 20) + 512, bytes.size()), bytes);
  EXPECT_THAT(read_all(*device, 5U << 20, 512), testing::Each(std::byte{0}));
}

TEST_P(OpenOnBackend, many_requests_in_flight_land_where_they_belong) {
  const std::string path = folder_.path("a.vhdx");
  ASSERT_TRUE(create_file(path, dynamic_metadata(64U << 20)));
  auto device = open_or_fail(path, options());
  ASSERT_TRUE(device);
  constexpr std::size_t kCount = 300;
  const auto bytes = pattern(kCount * 4096, 2);
  std::atomic<int> failures = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    BlockRequest request;
    request.operation = BlockOperation::kWrite;
    request.offset = i * 7919 % 1024 * 4096;
    request.length = 4096;
    request.buffers = {{const_cast<std::byte*>(bytes.data()) + i * 4096, 1000},
                       {const_cast<std::byte*>(bytes.data()) + i * 4096 + 1000, 3096}};
    request.done = [&](Result<void> result) { failures += result ? 0 : 1; };
    device->submit(std::move(request));
  }
  ASSERT_TRUE(flush_blocks(*device));
  ASSERT_TRUE(device->close());
  device.reset();
  EXPECT_EQ(failures, 0);
  const auto again = open_or_fail(path, options());
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto read = read_all(*again, i * 7919 % 1024 * 4096, 4096);
    ASSERT_TRUE(std::ranges::equal(read, std::span(bytes).subspan(i * 4096, 4096))) << i;
  }
}

TEST_P(OpenOnBackend, trimmed_blocks_read_zero_and_their_space_is_used_again) {
  const std::string path = folder_.path("a.vhdx");
  ASSERT_TRUE(create_file(path, dynamic_metadata(64U << 20)));
  const auto device = open_or_fail(path, options());
  const auto bytes = pattern(3U << 20, 3);
  ASSERT_TRUE(write_blocks(*device, 0, bytes));
  ASSERT_TRUE(unmap_blocks(*device, 1U << 20, 1U << 20));
  ASSERT_TRUE(zero_blocks(*device, 512, 1024));
  ASSERT_TRUE(flush_blocks(*device));
  const std::uint64_t size = device->file().size().value();
  EXPECT_THAT(read_all(*device, 1U << 20, 1U << 20), testing::Each(std::byte{0}));
  EXPECT_THAT(read_all(*device, 512, 1024), testing::Each(std::byte{0}));
  ASSERT_TRUE(write_blocks(*device, 40U << 20, std::span(bytes).first(512)));
  EXPECT_EQ(device->file().size().value(), size);
  EXPECT_THAT(read_all(*device, (40U << 20) + 512, 65536), testing::Each(std::byte{0}));
}

TEST_P(OpenOnBackend, requests_past_the_cache_work_at_any_alignment) {
  const std::string path = folder_.path("a.vhdx");
  ASSERT_TRUE(create_file(path, dynamic_metadata(64U << 20)));
  OpenOptions direct = options();
  direct.bypasses_cache = true;
  const auto device = open_or_fail(path, direct);
  const auto bytes = pattern(1U << 20, 4);
  ASSERT_TRUE(write_blocks(*device, 4096, bytes));
  ASSERT_TRUE(write_blocks(*device, 512, std::span(bytes).first(512)));
  EXPECT_EQ(read_all(*device, 4096, bytes.size()), bytes);
  struct alignas(4096) Page {
    std::byte bytes[4096];
  };
  const auto page = std::make_unique<Page>();
  ASSERT_TRUE(read_blocks(*device, 4096, page->bytes));
  EXPECT_TRUE(std::ranges::equal(page->bytes, std::span(bytes).first(4096)));
}

INSTANTIATE_TEST_SUITE_P(Backends, OpenOnBackend, testing::Values(IoBackend::Kind::kAutomatic, IoBackend::Kind::kThreads),
                         [](const auto& test) { return test.param == IoBackend::Kind::kThreads ? "threads" : "automatic"; });

TEST(Open, raw_tail_reads_zero_and_iso_is_read_only) {
  const TestFolder folder;
  std::ofstream(folder.path("odd.img")) << "hello";
  std::ofstream(folder.path("medium.iso")) << std::string(4096, 'x');
  const auto raw = open_or_fail(folder.path("odd.img"));
  EXPECT_EQ(raw->info().size_bytes, 512U);
  const auto sector = read_all(*raw, 0, 512);
  EXPECT_EQ(sector[0], std::byte{'h'});
  EXPECT_EQ(sector[5], std::byte{0});
  const auto medium = open_or_fail(folder.path("medium.iso"));
  EXPECT_EQ(medium->info().logical_sector_bytes, 2048U);
  const Result<void> written = write_blocks(*medium, 0, pattern(2048, 5));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kPermissionDenied);
}

TEST(Open, media_are_known_by_their_volume_structures) {
  const TestFolder folder;
  const auto medium = [&](const std::string& name, const char* standard) {
    std::string bytes(64U << 10, '\0');
    bytes.replace(32769, 5, standard);
    std::ofstream(folder.path(name)) << bytes;
    return open_or_fail(folder.path(name));
  };
  for (const char* standard : {"CD001", "BEA01"}) {  // ISO 9660; UDF without one
    const auto device = medium(std::string("medium-") + standard, standard);
    ASSERT_TRUE(device);
    EXPECT_EQ(device->info().logical_sector_bytes, 2048U) << standard;
    EXPECT_EQ(device->info().size_bytes, 64U << 10);
    EXPECT_TRUE(device->info().is_read_only);
    EXPECT_EQ(read_all(*device, 32768, 2048)[1], static_cast<std::byte>(standard[0]));
  }
  EXPECT_EQ(medium("other", "XXXXX")->info().logical_sector_bytes, 512U);
}

/// How many of a file's pages are in the host's cache.
std::size_t cached_pages(const std::string& path, std::uint64_t offset, std::size_t length) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  void* const mapped = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd.get(), static_cast<off_t>(offset));
  if (mapped == MAP_FAILED) return ~std::size_t{0};
  std::vector<unsigned char> is_resident(length / 4096);
  const int status = ::mincore(mapped, length, is_resident.data());
  ::munmap(mapped, length);
  return status != 0 ? ~std::size_t{0} : static_cast<std::size_t>(std::ranges::count_if(is_resident, [](unsigned char page) { return (page & 1) != 0; }));
}

TEST(Open, what_bypasses_the_cache_is_not_in_it) {
  const TestFolder folder;
  const std::string path = folder.path("a.vhdx");
  ASSERT_TRUE(create_file(path, dynamic_metadata(16U << 20)));
  constexpr std::size_t kBytes = 1U << 20;
  const std::unique_ptr<std::byte, decltype(&std::free)> bytes(static_cast<std::byte*>(std::aligned_alloc(4096, kBytes)), &std::free);
  std::ranges::copy(pattern(kBytes, 6), bytes.get());
  OpenOptions options;
  options.bypasses_cache = true;
  const auto device = open_or_fail(path, options);
  ASSERT_TRUE(device);
  ASSERT_TRUE(write_blocks(*device, 0, {bytes.get(), kBytes}));
  ASSERT_TRUE(flush_blocks(*device));
  const auto extent = device->find(0, kBytes);
  ASSERT_TRUE(extent);
  ASSERT_EQ(extent->length, kBytes);
  // Some file systems (tmpfs) have no way around the cache; there the content is what counts.
  const bool can_bypass = UniqueFd(::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)).get() >= 0;
  EXPECT_EQ(cached_pages(path, extent->file_offset, kBytes), can_bypass ? 0U : kBytes / 4096);
  EXPECT_EQ(read_all(*device, 0, kBytes), pattern(kBytes, 6));
}

/// In a process where the kernel refuses io_uring, as it does in many containers.
void exit_with_what_works_without_io_uring(const std::string& path) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{static_cast<unsigned short>(std::size(program)), program};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) std::_Exit(10);
  if (IoBackend::create(IoBackend::Kind::kUring)) std::_Exit(11);  // refused, or this shows nothing
  const auto backend = IoBackend::create();
  if (!backend || (*backend)->name() != "threads") std::_Exit(12);
  auto device = open_image(path);
  const std::vector<std::byte> bytes = pattern(4096, 9);
  if (!device || !write_blocks(**device, 8192, bytes) || !flush_blocks(**device)) std::_Exit(13);
  std::vector<std::byte> read(bytes.size());
  if (!read_blocks(**device, 8192, read) || read != bytes || !(*device)->close()) std::_Exit(14);
  std::_Exit(0);
}

TEST(OpenWithoutIoUringDeathTest, threads_take_its_place) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a process of its own: this one may have threads
  const TestFolder folder;
  ASSERT_TRUE(create_file(folder.path("a.vhdx"), dynamic_metadata(16U << 20)));
  EXPECT_EXIT(exit_with_what_works_without_io_uring(folder.path("a.vhdx")), testing::ExitedWithCode(0), "");
}

TEST(Open, second_writer_is_refused) {
  const TestFolder folder;
  ASSERT_TRUE(create_file(folder.path("a.vhdx"), dynamic_metadata(16U << 20)));
  const auto first = open_or_fail(folder.path("a.vhdx"));
  const auto second = open_image(folder.path("a.vhdx"));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kBusy);
}

TEST(Open, foreign_formats_say_how_to_convert) {
  const TestFolder folder;
  std::ofstream(folder.path("a.qcow2")) << "QFI\xfb" << std::string(1000, '\0');
  const auto opened = open_image(folder.path("a.qcow2"));
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().text(), testing::HasSubstr("bygone disk convert"));
}

}  // namespace
}  // namespace bygone::disk
