#include "machine/gen2/runner.h"

#include <pthread.h>

namespace bygone::machine::gen2 {

Runner::Runner(cpu::Partition& partition, std::uint32_t count, ExitHandler on_exit, FailureHandler on_failure)
    : partition_(partition), count_(count), on_exit_(std::move(on_exit)), on_failure_(std::move(on_failure)) {}

Runner::~Runner() { stop(); }

void Runner::start() {
  should_stop_ = false;
  for (std::uint32_t i = 0; i < count_; ++i) {
    threads_.emplace_back([this, i] {
      ::pthread_setname_np(::pthread_self(), fmt::format("vp{}", i).c_str());
      serve({i});
    });
  }
}

void Runner::kick_all() {
  for (std::uint32_t i = 0; i < count_; ++i) partition_.vcpu({i}).kick();
}

void Runner::request_pause() {
  {
    const std::lock_guard lock(mutex_);
    should_run_ = false;
  }
  kick_all();
}

void Runner::pause() {
  request_pause();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return inside_ == 0; });
}

void Runner::resume_only(cpu::VpIndex vp) {
  const std::lock_guard lock(mutex_);
  should_run_ = true;
  only_ = vp;
  ++generation_;
  changed_.notify_all();
}

void Runner::resume() {
  const std::lock_guard lock(mutex_);
  only_.reset();
  should_run_ = true;
  ++generation_;
  changed_.notify_all();
}

void Runner::stop() {
  if (threads_.empty()) return;
  pause();
  {
    const std::lock_guard lock(mutex_);
    should_stop_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool Runner::is_paused() const {
  const std::lock_guard lock(mutex_);
  return !should_run_ && inside_ == 0;
}

void Runner::serve(cpu::VpIndex vp) {
  cpu::Vcpu& vcpu = partition_.vcpu(vp);
  std::uint64_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return should_stop_ || (should_run_ && generation_ != seen && (!only_ || *only_ == vp)); });
      if (should_stop_) return;
      ++inside_;
      seen = generation_;
    }
    // Whoever takes should_run_ back kicks afterwards. To stop before the kick has come out would be to stop anywhere in an
    // instruction that leaves the guest more than once, where no state can be saved.
    for (;;) {
      auto exit = vcpu.run();
      if (!exit) {
        on_failure_(vp, exit.error());
        break;
      }
      const bool is_between_instructions = std::holds_alternative<cpu::InterruptedExit>(**exit);
      if (!on_exit_(vp, **exit)) break;
      if (is_between_instructions && !should_run_.load(std::memory_order_acquire)) break;
    }
    const std::lock_guard lock(mutex_);
    --inside_;
    changed_.notify_all();
  }
}

}  // namespace bygone::machine::gen2
