#include "cpu/translator/jit/code_reader.h"

#include <algorithm>
#include <cstring>

namespace bygone::cpu::translator::jit {

std::span<const std::uint8_t> CodeReader::read(std::uint32_t offset, std::uint32_t length) {
  const std::uint32_t end = std::min<std::uint32_t>(offset + length, 4096);
  for (std::uint32_t chunk = offset / 64; chunk * 64 < end; ++chunk) {
    const std::uint32_t first = chunk * 64;
    if ((chunks_ >> chunk & 1) != 0) continue;
    const std::uint32_t version = vcpu_.code_pages->mark(vcpu_, ram_page_, first, first + 63);
    if (chunks_ != 0 && version != version_) changed_ = true;
    version_ = version;
    chunks_ |= std::uint64_t{1} << chunk;
    std::memcpy(bytes_.data() + first, host_page_ + first, 64);
  }
  return {bytes_.data() + offset, end - offset};
}

}  // namespace bygone::cpu::translator::jit
