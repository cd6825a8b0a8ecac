#include "support/crc32c.h"

#include <array>
#include <cstring>

namespace bygone {
namespace {

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table = {};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78U : 0U);
    table[i] = value;
  }
  return table;
}
constexpr std::array<std::uint32_t, 256> kTable = make_table();

std::uint32_t update_by_table(std::span<const std::byte> data, std::uint32_t crc) {
  for (const std::byte byte : data) crc = (crc >> 8) ^ kTable[(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xFF];
  return crc;
}

[[gnu::target("sse4.2")]] std::uint32_t update_by_instruction(std::span<const std::byte> data, std::uint32_t crc) {
  std::uint64_t wide = crc;
  while (data.size() >= 8) {
    std::uint64_t word;
    std::memcpy(&word, data.data(), 8);
    wide = __builtin_ia32_crc32di(wide, word);
    data = data.subspan(8);
  }
  return update_by_table(data, static_cast<std::uint32_t>(wide));
}

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> data, std::uint32_t previous) {
  const std::uint32_t start = ~previous;
  return ~(__builtin_cpu_supports("sse4.2") ? update_by_instruction(data, start) : update_by_table(data, start));
}

}  // namespace bygone
