// Links: bygone_vmbus
// The control plane under any sequence of guest messages and device answers: no crash, no growth beyond its bounds.
// Input: steps of {u8 kind, u8 length, bytes}. Kinds below 0xF0 are messages of type kind % 32; the rest are the devices' answers.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "vmbus/control.h"

using namespace bygone;
using namespace bygone::vmbus;

namespace {

class Devices {
 public:
  explicit Devices(Control& control) : control_(control) {
    for (std::uint8_t i = 1; i <= 3; ++i) {
      Offer offer;
      offer.name = "device";
      offer.instance.bytes[0] = i;
      offer.maximum_subchannels = 2;
      offers_.push_back(*control_.add_offer(offer));
    }
  }
  void collect() {
    for (Action& action : control_.take_actions()) {
      if (const auto* open = std::get_if<OpenChannel>(&action)) {
        if (!open->ring) std::abort();
        opening_.push_back(open->offer);
      } else if (const auto* close = std::get_if<CloseChannel>(&action)) {
        closing_.push_back(close->offer);
      } else if (const auto* tear_down = std::get_if<TearDownGpadl>(&action)) {
        control_.gpadl_released(tear_down->offer, tear_down->gpadl);
      } else if (const auto* message = std::get_if<SendMessage>(&action)) {
        if (message->bytes.size() > 240) std::abort();
      }
    }
  }
  void answer(std::uint8_t how) {
    if (how % 8 < 3 && !opening_.empty()) {
      const OfferId offer = opening_.front();
      opening_.erase(opening_.begin());
      control_.opened(offer, how % 8 != 2);
    } else if (how % 8 < 6 && !closing_.empty()) {
      const OfferId offer = closing_.front();
      closing_.erase(closing_.begin());
      control_.closed(offer);
    } else if (how % 8 == 6) {
      (void)control_.add_subchannels(offers_[how / 8 % offers_.size()], how / 64 % 3);
    } else {
      control_.reset();
    }
  }
  /// Whatever the guest did, the devices' answers bring the bus to rest.
  void settle() {
    for (int i = 0; i < 100000 && !(opening_.empty() && closing_.empty()); ++i) {
      answer(opening_.empty() ? 3 : 0);
      collect();
    }
    if (!control_.is_quiet()) std::abort();
  }

 private:
  Control& control_;
  std::vector<OfferId> offers_, opening_, closing_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Control control;
  Devices devices(control);
  std::span input(data, size);
  while (input.size() >= 2) {
    const std::uint8_t kind = input[0];
    const std::size_t length = std::min<std::size_t>(input[1], input.size() - 2);
    const auto bytes = input.subspan(2, length);
    input = input.subspan(2 + length);
    if (kind >= 0xF0) {
      devices.answer(bytes.empty() ? kind : bytes[0]);
    } else {
      std::vector<std::byte> message(8 + length);
      message[0] = std::byte{static_cast<std::uint8_t>(kind % 32)};
      if (length != 0) std::memcpy(message.data() + 8, bytes.data(), length);
      (void)control.handle_message(message);
    }
    devices.collect();
  }
  devices.settle();
  return 0;
}
