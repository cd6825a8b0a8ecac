// Whole small files: read with a bound, replaced atomically. Threading: any thread; two writers of one path: the last wins whole.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "support/result.h"

namespace bygone {

/// Errors: kNotFound, kPermissionDenied, kExhausted (longer than `maximum_bytes`), kIo.
[[nodiscard]] Result<std::vector<std::byte>> read_file(const std::filesystem::path& path, std::size_t maximum_bytes);

/// Writes a new file beside `path`, syncs it, renames it over `path` and syncs the folder: after a crash at any point the path holds
/// the old or the new content whole. Errors: kNoSpace, kPermissionDenied, kIo; the old content stays.
[[nodiscard]] Result<void> replace_file(const std::filesystem::path& path, std::span<const std::byte> content);
[[nodiscard]] inline Result<void> replace_text_file(const std::filesystem::path& path, std::string_view text) {
  return replace_file(path, std::as_bytes(std::span(text)));
}

}  // namespace bygone
