// Where the engine gets its translator from. Null: everything is interpreted.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu/translator/tier1.h"
#include "support/log.h"

namespace bygone::cpu::translator {

/// `one_block`: each run of the translator is one block, for comparisons. `code_cache_bytes` bounds the translated code of one processor. `log` hears why a processor gets no translator.
[[nodiscard]] std::unique_ptr<Tier1Factory> create_tier1_factory(CodePages& code_pages, std::uint64_t code_cache_bytes,
                                                                 bool one_block, const Log& log);

}  // namespace bygone::cpu::translator
