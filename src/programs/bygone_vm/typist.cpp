#include "programs/bygone_vm/typist.h"

#include <algorithm>
#include <chrono>

namespace bygone::programs::vm {

namespace control = service::control;

namespace {
constexpr std::size_t kKeysAtOnce = 4;  // two characters
constexpr std::chrono::milliseconds kPause(10);
}  // namespace

Typist::~Typist() {
  if (pause_) loop_.cancel_timer(*pause_);
}

void Typist::type(std::vector<control::Key> keys, control::Reply reply) {
  jobs_.push_back({std::move(keys), 0, std::move(reply)});
  if (!is_busy_) strike_some();
}

void Typist::strike_some() {
  is_busy_ = !jobs_.empty();
  if (!is_busy_) return;
  const Job& job = jobs_.front();
  const auto first = job.keys.begin() + static_cast<std::ptrdiff_t>(job.next);
  const std::size_t count = std::min(kKeysAtOnce, job.keys.size() - job.next);
  std::vector<control::Key> keys(first, first + static_cast<std::ptrdiff_t>(count));
  machine_.with_human_devices([weak = weak_from_this(), &loop = loop_, keys = std::move(keys)](machine::gen2::HumanDevices devices) {
    const bool were_taken = std::ranges::all_of(keys, [&](const control::Key& key) {
      return devices.keyboard.strike({key.code, key.is_release, key.is_e0, key.is_e1});
    });
    loop.post([weak, count = keys.size(), were_taken] {
      if (const auto typist = weak.lock()) typist->on_struck(count, were_taken);
    });
  });
}

void Typist::on_struck(std::size_t count, bool were_taken) {
  Job& job = jobs_.front();
  job.next += count;
  const bool is_done = !were_taken || job.next == job.keys.size();
  if (is_done) {
    control::Reply reply = std::move(job.reply);
    jobs_.pop_front();
    reply.finish(were_taken ? Result<void>() : std::unexpected(Error{ErrorCode::kBusy, "the guest does not take keys now", "Wait until its keyboard driver has started"}));
  }
  // A person's single keys come with pauses of their own.
  if (is_done && count < kKeysAtOnce) return strike_some();
  pause_ = loop_.add_timer(std::chrono::steady_clock::now() + kPause, [this] {
    pause_.reset();
    strike_some();
  });
}

}  // namespace bygone::programs::vm
