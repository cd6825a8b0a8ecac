// What the image fuzz targets share: bytes as a file, opened as a disk and read.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "disk/block_device.h"
#include "disk/fault_file.h"
#include "disk/image_device.h"

namespace bygone::disk {

/// The file a fuzzer describes: runs of (place in 512-byte sectors as 3 bytes, length as 2 bytes, bytes), so that small inputs make large
/// files; the largest file is 64 MiB.
inline SparseBytes file_from_runs(std::span<const std::uint8_t> input) {
  constexpr std::uint64_t kLargest = 64U << 20;
  SparseBytes bytes;
  while (input.size() >= 5) {
    const auto byte = [&input](std::size_t index) { return std::uint64_t{input[index]}; };
    const std::uint64_t place = (byte(0) | byte(1) << 8 | (byte(2) & 0x3F) << 16) * 512 % kLargest;
    std::size_t length = byte(3) | byte(4) << 8;
    input = input.subspan(5);
    length = std::min(length, input.size());
    bytes.write(place, std::as_bytes(input.first(length)));
    input = input.subspan(length);
  }
  bytes.resize((bytes.size() + 511) / 512 * 512);
  return bytes;
}

/// Reads, writes and trims a few places; nothing may crash, and the file may not grow past its bound.
template <typename Layout>
void use_image(SparseBytes bytes, bool is_read_only) {
  auto history = FaultFile::history_of(std::move(bytes));
  history->capacity = std::uint64_t{256} << 20;
  auto file = std::make_unique<FaultFile>(history, is_read_only);
  auto layout = Layout::open(*file);
  if (!layout) return;
  ImageDevice device(std::move(file), *std::move(layout), nullptr);
  const BlockDeviceInfo info = device.info();
  std::vector<std::byte> buffer(64U << 10);
  const std::uint64_t last = info.size_bytes > buffer.size() ? (info.size_bytes - buffer.size()) / 4096 * 4096 : 0;
  for (const std::uint64_t offset : {std::uint64_t{0}, last / 2 / 4096 * 4096, last}) {
    const std::size_t length = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), info.size_bytes - offset));
    const std::span<std::byte> part = std::span(buffer).first(length / info.logical_sector_bytes * info.logical_sector_bytes);
    (void)read_blocks(device, offset, part);
    (void)write_blocks(device, offset, part);
    (void)unmap_blocks(device, offset, part.size());
  }
  (void)flush_blocks(device);
  (void)device.close();
}

}  // namespace bygone::disk
