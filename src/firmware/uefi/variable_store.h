// The UEFI variables that survive a power cut: a small file of CBOR, replaced atomically at each change.
// Threading: one thread at a time (the helper ports serialise).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "support/guid.h"
#include "support/result.h"

namespace bygone::firmware {

struct VariableKey {
  Guid vendor;
  std::u16string name;
  friend auto operator<=>(const VariableKey&, const VariableKey&) = default;
};

struct Variable {
  std::uint32_t attributes = 0;
  std::vector<std::byte> data;
};

class VariableStore {
 public:
  static constexpr std::size_t kMaximumBytes = 1 << 20;  ///< names and data of all variables together

  /// Variables that live as long as the process.
  VariableStore() = default;
  /// Reads `path`, or starts empty when there is none. Errors: kCorrupt with the reason; kIo.
  [[nodiscard]] static Result<VariableStore> open(std::filesystem::path path);

  [[nodiscard]] const Variable* find(const VariableKey& key) const;
  /// The first key after `key` in order; the first of all for nullopt.
  [[nodiscard]] const VariableKey* next(const std::optional<VariableKey>& key) const;
  [[nodiscard]] std::size_t used_bytes() const;

  /// Durable when it returns: the file holds the old or the new set of variables, never a mixture. On an error nothing changed.
  /// Errors: kExhausted (full), kNoSpace, kIo.
  [[nodiscard]] Result<void> set(const VariableKey& key, Variable variable);
  [[nodiscard]] Result<void> remove(const VariableKey& key);

  /// All variables as the file holds them; for saved state, when there is no file.
  [[nodiscard]] std::vector<std::byte> content() const;
  /// Errors: kCorrupt; then nothing changed.
  [[nodiscard]] Result<void> set_content(std::span<const std::byte> content);
  [[nodiscard]] bool has_file() const { return !path_.empty(); }

 private:
  using Map = std::map<VariableKey, Variable>;
  [[nodiscard]] Result<void> replace(Map changed);
  Map variables_;
  std::filesystem::path path_;
};

}  // namespace bygone::firmware
