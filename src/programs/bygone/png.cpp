#include "programs/bygone/png.h"

#include <zlib.h>

#include <cstddef>
#include <fstream>
#include <string_view>
#include <system_error>
#include <vector>

namespace bygone::programs {
namespace {

constexpr std::string_view kSignature = "\x89PNG\r\n\x1a\n";

void append_big(std::vector<std::uint8_t>& to, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<std::uint8_t>(value >> shift));
}

/// Length, type, data, CRC over type and data.
void append_chunk(std::vector<std::uint8_t>& to, std::string_view type, std::span<const std::uint8_t> data) {
  append_big(to, static_cast<std::uint32_t>(data.size()));
  const std::size_t start = to.size();
  to.insert(to.end(), type.begin(), type.end());
  to.insert(to.end(), data.begin(), data.end());
  append_big(to, static_cast<std::uint32_t>(crc32(0, to.data() + start, static_cast<uInt>(to.size() - start))));
}

}  // namespace

Result<void> write_png(const std::filesystem::path& path, std::uint32_t width, std::uint32_t height, std::span<const std::uint32_t> pixels) {
  if (width == 0 || height == 0 || pixels.size() != std::size_t{width} * height) {
    return fail(ErrorCode::kInvalidArgument, "a picture of {} by {} pixels has {} pixels", width, height, pixels.size());
  }
  std::vector<std::uint8_t> lines;
  lines.reserve((std::size_t{width} * 3 + 1) * height);
  for (std::uint32_t y = 0; y < height; ++y) {
    lines.push_back(0);  // no filter
    for (const std::uint32_t pixel : pixels.subspan(std::size_t{y} * width, width)) {
      for (int shift = 16; shift >= 0; shift -= 8) lines.push_back(static_cast<std::uint8_t>(pixel >> shift));
    }
  }
  uLongf size = compressBound(static_cast<uLong>(lines.size()));
  std::vector<std::uint8_t> compressed(size);
  if (compress2(compressed.data(), &size, lines.data(), static_cast<uLong>(lines.size()), 6) != Z_OK) {
    return fail(ErrorCode::kInternal, "the picture cannot be compressed");
  }
  compressed.resize(size);

  std::vector<std::uint8_t> header;
  append_big(header, width);
  append_big(header, height);
  header.insert(header.end(), {8, 2, 0, 0, 0});  // 8 bits of red, green and blue each
  std::vector<std::uint8_t> file(kSignature.begin(), kSignature.end());
  append_chunk(file, "IHDR", header);
  append_chunk(file, "IDAT", compressed);
  append_chunk(file, "IEND", {});

  std::filesystem::path partial = path;
  partial += ".new";
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(partial, path, error);
  if (!out || error) return fail(ErrorCode::kIo, "the picture cannot be written to {}", path.string());
  return {};
}

}  // namespace bygone::programs
