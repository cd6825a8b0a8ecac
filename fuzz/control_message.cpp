// Links: bygone_service
// Packets of the control protocol, as either side may get them: refused or understood, and what was understood is written as it was read.
#include <cstdlib>

#include "service/control/event.h"
#include "service/control/key_codes.h"
#include "service/control/packet.h"
#include "service/control/request.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bygone::service::control;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)keys_for_text(text);
  (void)keys_for_combination(text);
  const auto message = parse_message(text);
  if (!message) return 0;
  if (const auto request = parse_request(*message)) {
    const auto written = to_json(*request);
    const auto again = parse_request(written);
    if (!again || to_json(*again) != written) std::abort();
  }
  if (const auto event = parse_event(*message); event && *event) {
    const auto written = to_json(**event);
    const auto again = parse_event(written);
    if (!again || !*again || to_json(**again) != written) std::abort();
  }
  return 0;
}
