#include "programs/bygone_vm/screen_follower.h"

#include <utility>

#include "seamless/agent_client.h"

namespace bygone::programs::vm {

namespace {
constexpr std::chrono::seconds kAgentLimit(5);
}  // namespace

ScreenFollower::ScreenFollower(std::filesystem::path agent, Log log)
    : agent_(std::move(agent)), log_(std::move(log)) {}

ScreenFollower::~ScreenFollower() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void ScreenFollower::ask(devices::video::Resolution size) {
  {
    const std::lock_guard lock(mutex_);
    wanted_ = size;
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  changed_.notify_one();
}

void ScreenFollower::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ends_ || wanted_; });
    if (ends_) return;
    const devices::video::Resolution size = *std::exchange(wanted_, std::nullopt);
    lock.unlock();
    auto agent = seamless::AgentClient::connect(agent_.string(), kAgentLimit);
    auto outcome = agent ? (*agent)->set_screen(size.width, size.height) : Result<void>(std::unexpected(std::move(agent).error()));
    if (!outcome) log_.debug("the guest's screen does not become {}x{}: {}", size.width, size.height, outcome.error().text());
    lock.lock();
  }
}

}  // namespace bygone::programs::vm
