// Guest code bytes of one page, read under the code-page protocol: marked as code before they are read, so that a later write to
// them is noticed.
//
// Threading: one vCPU's thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "cpu/translator/code_pages.h"
#include "cpu/translator/state.h"

namespace bygone::cpu::translator::jit {

class CodeReader {
 public:
  CodeReader(VcpuBlock& vcpu, const std::uint8_t* host_page, std::uint64_t ram_page)
      : vcpu_(vcpu), host_page_(host_page), ram_page_(ram_page) {}

  /// Up to `length` bytes from `offset` to the end of the page.
  [[nodiscard]] std::span<const std::uint8_t> read(std::uint32_t offset, std::uint32_t length);
  /// The version of the page's code that was read; meaningless when changed().
  [[nodiscard]] std::uint32_t version() const { return version_; }
  /// Code was overwritten between two reads: what was read does not belong together.
  [[nodiscard]] bool changed() const { return changed_; }

 private:
  VcpuBlock& vcpu_;
  const std::uint8_t* host_page_;
  std::uint64_t ram_page_;
  std::uint64_t chunks_ = 0;  // 64 bytes each, as CodePages counts
  std::uint32_t version_ = 0;
  bool changed_ = false;
  std::array<std::uint8_t, 4096> bytes_;
};

}  // namespace bygone::cpu::translator::jit
