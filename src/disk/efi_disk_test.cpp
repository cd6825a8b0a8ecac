#include "disk/efi_disk.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace bygone::disk {
namespace {

std::vector<std::byte> program_of(std::size_t size) {
  std::vector<std::byte> program(size);
  for (std::size_t i = 0; i < size; ++i) program[i] = static_cast<std::byte>(i * 7 + i / 4096);
  program[0] = std::byte{'M'};
  program[1] = std::byte{'Z'};
  return program;
}

/// What mtools, which knows nothing of us, finds at the path that firmware looks for.
std::string read_back(BlockDevice& disk) {
  char name[] = "/tmp/bygone-efi-disk-XXXXXX";
  const int file = ::mkstemp(name);
  std::vector<std::byte> bytes(disk.info().size_bytes);
  EXPECT_TRUE(read_blocks(disk, 0, bytes));
  EXPECT_EQ(::write(file, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  ::close(file);
  std::string content;
  FILE* pipe = ::popen((std::string("MTOOLS_SKIP_CHECK=0 mtype -i ") + name + " ::/EFI/BOOT/BOOTX64.EFI").c_str(), "r");
  char buffer[4096];
  for (std::size_t got; (got = ::fread(buffer, 1, sizeof buffer, pipe)) > 0;) content.append(buffer, got);
  EXPECT_EQ(::pclose(pipe), 0);
  ::unlink(name);
  return content;
}

TEST(EfiDisk, program_is_read_back_by_mtools) {
  for (const std::size_t size : {std::size_t{64}, std::size_t{4096}, std::size_t{4097}, std::size_t{20} << 20}) {
    const auto program = program_of(size);
    const auto disk = make_efi_disk(program);
    ASSERT_TRUE(disk);
    EXPECT_EQ(read_back(**disk), std::string(reinterpret_cast<const char*>(program.data()), size)) << size;
  }
}

TEST(EfiDisk, something_else_than_a_program_is_refused) {
  const auto disk = make_efi_disk(std::vector<std::byte>(100));
  ASSERT_FALSE(disk);
  EXPECT_EQ(disk.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace bygone::disk
