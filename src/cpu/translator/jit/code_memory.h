// Where translations live: one memfd mapped twice, writable here and executable there, never both through one mapping; and
// tables that translations address absolutely, in the lowest 2 GiB of the address space.
//
// Threading: one vCPU's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::cpu::translator::jit {

class CodeMemory {
 public:
  /// Errors: kExhausted (the host gives no memory, or none executable).
  [[nodiscard]] static Result<std::unique_ptr<CodeMemory>> create(std::size_t bytes);
  ~CodeMemory();
  CodeMemory(const CodeMemory&) = delete;
  CodeMemory& operator=(const CodeMemory&) = delete;

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::uint8_t* writable(std::uint32_t offset) const { return writable_ + offset; }
  [[nodiscard]] const std::uint8_t* executable(std::uint32_t offset) const { return executable_ + offset; }
  [[nodiscard]] bool contains(std::uint64_t pc) const { return pc - reinterpret_cast<std::uint64_t>(executable_) < size_; }
  [[nodiscard]] std::uint32_t offset_of(std::uint64_t pc) const {
    return static_cast<std::uint32_t>(pc - reinterpret_cast<std::uint64_t>(executable_));
  }

 private:
  CodeMemory() = default;
  UniqueFd file_;
  std::uint8_t* writable_ = nullptr;
  std::uint8_t* executable_ = nullptr;
  std::size_t size_ = 0;
};

/// Zeroed memory below 2 GiB, so that emitted code reaches it with a 32-bit displacement and an index; begins at a multiple of 2 MiB.
class LowMemory {
 public:
  [[nodiscard]] static Result<std::unique_ptr<LowMemory>> create(std::size_t bytes);
  ~LowMemory();
  LowMemory(const LowMemory&) = delete;
  LowMemory& operator=(const LowMemory&) = delete;
  [[nodiscard]] std::uint8_t* data() const { return data_; }

 private:
  LowMemory() = default;
  std::uint8_t* mapping_ = nullptr;
  std::size_t mapping_size_ = 0;
  std::uint8_t* data_ = nullptr;
};

}  // namespace bygone::cpu::translator::jit
