#include "programs/bygone/cpu_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "support/size_text.h"

namespace bygone::programs {
namespace {

using nlohmann::json;

std::uint64_t number(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

/// Names and counts, the largest first, without those that are zero.
std::string counts_text(const json& counts) {
  std::vector<std::pair<std::uint64_t, std::string>> sorted;
  for (const auto& [name, count] : counts.items()) {
    if (count.is_number_unsigned() && count.get<std::uint64_t>() != 0) sorted.emplace_back(count.get<std::uint64_t>(), name);
  }
  std::sort(sorted.rbegin(), sorted.rend());
  std::string text;
  for (const auto& [count, name] : sorted) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, count);
  return text.empty() ? "none" : text;
}

void add_line(std::string& text, const char* name, const std::string& value) { text += fmt::format("\n  {:<15} {}", name, value); }

void add_times(std::string& text, const json& processor, const json& translator) {
  const auto running = static_cast<double>(number(processor, "cycles"));
  if (running == 0) return;
  const auto share = [&](const json& object, const char* key) { return 100 * static_cast<double>(number(object, key)) / running; };
  add_line(text, "time", fmt::format("{:.1f} % in translations, {:.1f} % translating, {:.1f} % interpreting, {:.1f} % halted",
                                     share(translator, "cycles_in_translations"), share(translator, "cycles_translating"),
                                     share(processor, "cycles_interpreting"), share(processor, "cycles_halted")));
}

void add_translator(std::string& text, const json& translator) {
  add_line(text, "blocks", fmt::format("{} made, {} evicted, {} of them kept by translating them again, {} needed after all",
                                       number(translator, "blocks"), number(translator, "blocks_evicted"), number(translator, "blocks_kept"),
                                       number(translator, "blocks_returned")));
  add_line(text, "code cache", fmt::format("{} of {}, {} allowed, emptied in part {} times", size_text(number(translator, "code_bytes")),
                                           size_text(number(translator, "code_bytes_open")), size_text(number(translator, "code_cache_bytes")),
                                           number(translator, "cache_evictions")));
  add_line(text, "left for", counts_text(translator.value("left_for", json::object())));
  add_line(text, "look-ups", fmt::format("{} of blocks, {} links made", number(translator, "lookups"), number(translator, "links")));
}

}  // namespace

std::string cpu_view(const json& cpu) {
  const auto processors = cpu.find("processors");
  if (processors == cpu.end() || !processors->is_array()) return cpu.dump(2);
  std::string text;
  for (std::size_t i = 0; i < processors->size(); ++i) {
    const json& processor = (*processors)[i];
    text += fmt::format("{}processor {}", i == 0 ? "" : "\n", i);
    const json translator = processor.value("translator", json::object());
    add_times(text, processor, translator);
    if (processor.contains("instructions_interpreted")) {
      add_line(text, "interpreter", fmt::format("{} instructions, {} kinds of them run natively", number(processor, "instructions_interpreted"), number(processor, "thunks")));
    }
    if (!translator.empty()) add_translator(text, translator);
    if (processor.contains("tlb_fills")) {
      add_line(text, "TLB", fmt::format("{} misses of translations, {} fills, {} flushes, {} entries kept over changes of address space",
                                        number(translator, "tlb_misses"), number(processor, "tlb_fills"), number(processor, "tlb_flushes"),
                                        number(processor, "tlb_entries_kept")));
    }
    if (processor.contains("exits")) add_line(text, "exits", counts_text(processor["exits"]));
  }
  return text;
}

}  // namespace bygone::programs
