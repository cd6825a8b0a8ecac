// write_disk IMAGE OFFSET FILE: writes a file's bytes into a disk image as a machine would; MiBs of zeros are left out.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <span>
#include <vector>

#include "disk/open.h"

namespace {

bygone::Result<void> write_all(const char* image, std::uint64_t offset, const char* path) {
  using namespace bygone::disk;
  BYGONE_ASSIGN(const auto device, open_image(image));
  std::ifstream file(path, std::ios::binary);
  std::vector<char> buffer(1U << 20);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || file.gcount() > 0) {
    const auto piece = std::span(buffer).first(static_cast<std::size_t>(file.gcount()));
    const bool is_zero = std::ranges::all_of(piece, [](char byte) { return byte == 0; });
    if (!is_zero) BYGONE_CHECK(write_blocks(*device, offset, std::as_bytes(piece)));
    offset += piece.size();
  }
  return device->close();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const bygone::Result<void> result = write_all(argv[1], std::strtoull(argv[2], nullptr, 0), argv[3]);
  if (result) return 0;
  fmt::print(stderr, "write_disk: {}\n", result.error().text());
  return 1;
}
