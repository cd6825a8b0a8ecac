// A small pool of threads with blocking calls, for kernels and sandboxes that refuse io_uring.
#include <fcntl.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "disk/io_backend.h"

namespace bygone::disk {
namespace {

constexpr std::size_t kThreads = 4;

std::int64_t perform(const IoRequest& request) {
  const auto count = static_cast<int>(request.buffers.size());
  const auto offset = static_cast<off_t>(request.offset);
  for (;;) {
    ssize_t outcome = -1;
    switch (request.operation) {
      case IoOperation::kRead: outcome = ::preadv(request.fd, request.buffers.data(), count, offset); break;
      case IoOperation::kWrite: outcome = ::pwritev(request.fd, request.buffers.data(), count, offset); break;
      case IoOperation::kAllocate:
        outcome = ::fallocate(request.fd, request.mode, offset, static_cast<off_t>(request.length));
        break;
    }
    if (outcome >= 0) return outcome;
    if (errno != EINTR) return -errno;
  }
}

class ThreadBackend final : public IoBackend {
 public:
  ThreadBackend() {
    for (std::thread& thread : threads_) thread = std::thread([this] { work(); });
  }
  ~ThreadBackend() override {
    {
      const std::lock_guard lock(mutex_);
      is_stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::string_view name() const override { return "threads"; }

  void submit(IoRequest request) override {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(request));
    }
    changed_.notify_one();
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return is_stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      IoRequest request = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      request.done(perform(request));
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<IoRequest> queue_;  // guarded by mutex_
  bool is_stopping_ = false;     // guarded by mutex_
  std::array<std::thread, kThreads> threads_;
};

}  // namespace

std::shared_ptr<IoBackend> create_thread_backend() { return std::make_shared<ThreadBackend>(); }

Result<std::shared_ptr<IoBackend>> IoBackend::create(Kind kind) {
  if (kind != Kind::kThreads) {
    auto ring = create_uring_backend();
    if (ring || kind == Kind::kUring) return ring;
  }
  return create_thread_backend();
}

}  // namespace bygone::disk
