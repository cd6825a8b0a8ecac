// Links: bygone_spec bygone_support
// Feeds a byte stream to the agent protocol's frame reader and both decoders. What is accepted must survive a round trip:
// encoded again and decoded, it is the same value.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "spec/agent/message.h"

namespace {
using namespace bygone::spec::agent;  // NOLINT(google-build-using-namespace): a fuzz target is one function

std::span<const std::byte> payload_of(const std::vector<std::byte>& frame) { return std::span(frame).subspan(4); }

void check_request(const Request& request) {
  const auto frame = encode(request);
  if (!frame) return;  // a bound of the whole message, possible when the shortest encoding is not the input's
  const auto again = decode_request(payload_of(*frame));
  if (!again || !std::holds_alternative<Request>(*again) || std::get<Request>(*again) != request) std::abort();
}

template <typename T>
void check_from_agent(const T& value, const FromAgent& message) {
  const auto frame = encode(value);
  if (!frame) return;
  const auto again = decode_from_agent(payload_of(*frame));
  if (!again || *again != message) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto stream = std::as_bytes(std::span(data, size));
  FrameReader reader;
  reader.append(stream);
  while (true) {
    const auto payload = reader.next();
    if (!payload || !*payload) break;
    if (const auto request = decode_request(**payload); request && std::holds_alternative<Request>(*request)) {
      check_request(std::get<Request>(*request));
    }
    if (const auto message = decode_from_agent(**payload)) {
      if (const auto* reply = std::get_if<Reply>(&*message)) check_from_agent(*reply, *message);
      if (const auto* event = std::get_if<Event>(&*message)) check_from_agent(*event, *message);
    }
  }
  return 0;
}
