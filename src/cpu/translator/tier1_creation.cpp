#include "cpu/translator/tier1_creation.h"

#include <algorithm>

#include "cpu/translator/jit/tier.h"

namespace bygone::cpu::translator {
namespace {

class TierFactory final : public Tier1Factory {
 public:
  TierFactory(CodePages& code_pages, const jit::TierOptions& options, const Log& log)
      : code_pages_(code_pages), options_(options), log_(log) {}

  [[nodiscard]] std::unique_ptr<Tier1> create(VcpuBlock& block) override {
    auto tier = jit::Tier::create(block, options_);
    if (!tier) {
      log_.warning("guest code is interpreted, which is slow: {}", tier.error().text());
      return nullptr;
    }
    code_pages_.add_listener(**tier);
    return std::move(*tier);
  }

 private:
  CodePages& code_pages_;
  jit::TierOptions options_;
  Log log_;
};

}  // namespace

std::unique_ptr<Tier1Factory> create_tier1_factory(CodePages& code_pages, const TranslationOptions& wanted, const Log& log) {
  jit::TierOptions options;
  options.code_cache_bytes = std::clamp<std::uint64_t>(wanted.code_cache_bytes, 256U << 10, 1U << 30) & ~std::uint64_t{4095};
  options.one_block = wanted.one_block;
  if (wanted.at_once) options.threshold = 0;
  return std::make_unique<TierFactory>(code_pages, options, log);
}

}  // namespace bygone::cpu::translator
