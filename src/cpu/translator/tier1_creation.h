// Where the engine gets its translator from. Null: everything is interpreted.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu/translator/tier1.h"
#include "support/log.h"

namespace bygone::cpu::translator {

struct TranslationOptions {
  std::uint64_t code_cache_bytes = 0;  ///< bounds the translated code of one processor
  bool one_block = false;              ///< each run of the translator is one block, for comparisons
  bool at_once = false;                ///< code is translated at its first visit
};

/// `log` hears why a processor gets no translator.
[[nodiscard]] std::unique_ptr<Tier1Factory> create_tier1_factory(CodePages& code_pages, const TranslationOptions& options, const Log& log);

}  // namespace bygone::cpu::translator
