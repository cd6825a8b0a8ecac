// Links: bygone_vmbus
// The control plane under any sequence of guest messages and device answers: no crash, no growth beyond its bounds.
// Input: steps of {u8 kind, u8 length, bytes}. Kinds below 0xE0 are messages of type kind % 32; from 0xE0 on the host does something;
// from 0xF0 on the devices answer.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
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
      add(offer);
    }
  }
  void add(const Offer& offer) {
    const auto added = control_.add_offer(offer);
    if (!added) return;
    offers_.push_back(*added);
    known_[*added] = offer;
  }
  void act(std::uint8_t what, std::uint8_t argument) {
    switch (what % 4) {
      case 0: {  // taken away, and put back
        const OfferId offer = offers_[argument % offers_.size()];
        const auto found = known_.find(offer);
        control_.revoke(offer);
        if (found != known_.end() && (argument & 0x80) != 0) add(Offer(found->second));
        break;
      }
      case 1: {  // a socket, whose instance the guest has chosen
        Offer socket;
        socket.name = "socket";
        socket.interface_type.bytes[0] = 7;
        socket.instance.bytes[0] = argument % 8;
        socket.flags = spec::vmbus::kOfferSocket;
        if (control_.takes_sockets() && offers_.size() < 64) add(socket);
        break;
      }
      case 2: control_.refuse_socket({}, {}); break;
      default: save_and_restore(); break;
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
      } else if (const auto* removed = std::get_if<OfferRemoved>(&action)) {
        known_.erase(removed->offer);
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
  /// What a quiet bus saves another one takes, and saves again.
  void save_and_restore() {
    const auto state = control_.save();
    if (!state) return;
    for (const auto& offer : (*state)["offers"]) {
      if (offer["revoked"].get<bool>()) return;  // not restored
    }
    Control fresh;
    for (const auto& [id, offer] : known_) {
      if (!fresh.add_offer(offer)) std::abort();
    }
    if (!fresh.restore(*state)) std::abort();
    for (const Action& action : fresh.take_actions()) fresh.opened(std::get<OpenChannel>(action).offer, true);
    if (!fresh.take_actions().empty()) std::abort();
    const auto again = fresh.save();
    if (!again || (*again)["gpadls"].size() != (*state)["gpadls"].size() || (*again)["offers"].size() != (*state)["offers"].size()) std::abort();
    if (fresh.inspect()["gpadl_pages"] != control_.inspect()["gpadl_pages"]) std::abort();
  }

  Control& control_;
  std::vector<OfferId> offers_, opening_, closing_;
  std::map<OfferId, Offer> known_;
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
    } else if (kind >= 0xE0) {
      devices.act(kind, bytes.empty() ? 0 : bytes[0]);
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
