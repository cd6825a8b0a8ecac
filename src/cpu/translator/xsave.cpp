#include "cpu/translator/xsave.h"

#include <cstring>

namespace bygone::cpu::translator::xsave {
namespace {

constexpr std::size_t kMxcsr = 24, kMxcsrMaskPlace = 28, kXmm = 160;

}  // namespace

void to_fxsave(const VcpuBlock& block, std::uint8_t* image, unsigned xmm_count, bool with_xmm) {
  std::memcpy(image, block.vector.x87.data(), kMxcsr);
  std::memcpy(image + 32, block.vector.x87.data() + 32, 128);
  if (!with_xmm) return;
  std::memcpy(image + kMxcsr, &block.vector.mxcsr, 4);
  std::memcpy(image + kMxcsrMaskPlace, &kMxcsrMask, 4);
  for (unsigned i = 0; i < xmm_count; ++i) std::memcpy(image + kXmm + 16 * i, block.vector.zmm[i].data(), 16);
}

bool from_fxsave(VcpuBlock& block, const std::uint8_t* image, unsigned xmm_count, bool with_xmm) {
  if (with_xmm) {
    std::uint32_t mxcsr = 0;
    std::memcpy(&mxcsr, image + kMxcsr, 4);
    if ((mxcsr & ~kMxcsrMask) != 0) return false;
    block.vector.mxcsr = mxcsr;
    for (unsigned i = 0; i < xmm_count; ++i) std::memcpy(block.vector.zmm[i].data(), image + kXmm + 16 * i, 16);
  }
  std::memcpy(block.vector.x87.data(), image, kMxcsr);
  std::memcpy(block.vector.x87.data() + 32, image + 32, 128);
  return true;
}

}  // namespace bygone::cpu::translator::xsave
