// The threads that run a machine's virtual processors, one each.
//
//   stopped --start()--> paused --resume()--> running --pause()--> paused --stop()--> stopped
//
// Threading: start, pause, resume and stop from one controlling thread at a time, never from a processor's own;
// request_pause() from any thread, processors' included.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "cpu/partition.h"

namespace bygone::machine::gen2 {

class Runner {
 public:
  /// Called on the processor's thread for every exit; false: this processor runs no more until the next resume().
  using ExitHandler = std::function<bool(cpu::VpIndex vp, cpu::Exit& exit)>;
  /// Called on the processor's thread when its engine failed; the processor stops.
  using FailureHandler = std::function<void(cpu::VpIndex vp, const Error& error)>;

  Runner(cpu::Partition& partition, std::uint32_t count, ExitHandler on_exit, FailureHandler on_failure);
  ~Runner();

  /// Creates the threads, paused.
  void start();
  /// Returns when no processor is in guest code.
  void pause();
  /// Asks for a pause without waiting for it.
  void request_pause();
  void resume();
  /// Only that processor goes on; the others stay as they are until resume().
  void resume_only(cpu::VpIndex vp);
  void stop();
  [[nodiscard]] bool is_paused() const;

 private:
  void serve(cpu::VpIndex vp);
  void kick_all();

  cpu::Partition& partition_;
  const std::uint32_t count_;
  ExitHandler on_exit_;
  FailureHandler on_failure_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> should_run_ = false;  // written with mutex_ held
  std::atomic<bool> should_stop_ = false;
  std::optional<cpu::VpIndex> only_;  // of the last resume; guarded by mutex_
  std::uint64_t generation_ = 0;  // of resume(); a processor that stopped waits for the next
  std::uint32_t inside_ = 0;      // processors between their wait and their return to it
  std::vector<std::thread> threads_;
};

}  // namespace bygone::machine::gen2
