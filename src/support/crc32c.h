// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), as VHDX uses it. Uses SSE4.2 where the processor has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace bygone {

/// The checksum of `data`, continuing from `previous` (0 at the start).
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> data, std::uint32_t previous = 0);

}  // namespace bygone
