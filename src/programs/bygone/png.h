// Writes a picture as PNG. Specification: Portable Network Graphics, third edition. Threading: a function.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "support/result.h"

namespace bygone::programs {

/// `pixels` are lines of 32-bit words, blue lowest, the top byte without meaning. The file appears when it is whole.
[[nodiscard]] Result<void> write_png(const std::filesystem::path& path, std::uint32_t width, std::uint32_t height,
                                     std::span<const std::uint32_t> pixels);

}  // namespace bygone::programs
