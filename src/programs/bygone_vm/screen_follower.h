// Lets the session of a Linux guest follow the size that a window asks for: drivers there never ask the video device again, so the
// integration agent is told.
// Threading: public functions from any thread; a thread of its own, which is made with the first question so that it lives in the
// process's sandbox, waits for the agent.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <thread>

#include "devices/video/video.h"
#include "support/log.h"

namespace bygone::programs::vm {

class ScreenFollower {
 public:
  /// `agent` is the Unix socket by which the agent is reached.
  ScreenFollower(std::filesystem::path agent, Log log);
  ~ScreenFollower();

  /// Soon; of several sizes only the last matters. A guest without an agent, or without a session, stays as it is.
  void ask(devices::video::Resolution size);

 private:
  void run();

  const std::filesystem::path agent_;
  Log log_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<devices::video::Resolution> wanted_;  // guarded by mutex_
  bool ends_ = false;                                 // guarded by mutex_
  std::thread thread_;
};

}  // namespace bygone::programs::vm
