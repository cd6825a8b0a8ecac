// Links: bygone_library
// Machine definitions: whatever the text, the reader says what is wrong or takes it, and what it took it takes again after writing.
#include <cstdlib>

#include "library/definition.h"
#include "library/document_lines.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bygone::library;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)line_of(text, {"disks", "0", "path"});
  const auto read = read_definition(text, "fuzz.json");
  if (!read) return 0;
  const auto again = read_definition(write_document(read->document), "fuzz.json");
  if (!again || again->definition.memory_bytes != read->definition.memory_bytes || again->definition.name != read->definition.name) std::abort();
  return 0;
}
