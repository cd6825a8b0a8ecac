// io_uring: one ring, one thread that reaps completions. A request costs one system call and no thread switch on its way in; what the
// host's cache can take or give at once costs no other either, and a cached write that may wait goes to a thread of its own.
#include <liburing.h>
#include <sys/uio.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "disk/io_backend.h"
#include "support/pace.h"

namespace bygone::disk {
namespace {

constexpr unsigned kEntries = 256;

class UringBackend final : public IoBackend {
 public:
  static Result<std::shared_ptr<IoBackend>> create() {
    auto backend = std::make_shared<UringBackend>();
    if (const int status = io_uring_queue_init(kEntries, &backend->ring_, 0); status < 0) {
      return std::unexpected(Error{ErrorCode::kUnsupported, error_from_errno(-status, "io_uring_setup").message,
                                   "The thread pool works everywhere"});
    }
    backend->has_ring_ = true;
    backend->reaper_ = std::thread([raw = backend.get()] { raw->reap(); });
    return backend;
  }

  UringBackend() = default;
  ~UringBackend() override {
    if (writer_.joinable()) {
      {
        const std::lock_guard lock(writes_mutex_);
        is_stopping_ = true;
      }
      writes_changed_.notify_one();
      writer_.join();
    }
    if (reaper_.joinable()) {
      push(nullptr, [](io_uring_sqe* entry) { io_uring_prep_nop(entry); });
      reaper_.join();
    }
    if (has_ring_) io_uring_queue_exit(&ring_);
  }

  std::string_view name() const override { return "io_uring"; }

  void submit(IoRequest request) override {
    if (transfer_at_once(request)) return;
    if (request.is_cached && request.operation == IoOperation::kWrite) return queue_write(std::move(request));
    auto* pending = new IoRequest(std::move(request));  // owned by the kernel until its completion
    push(pending, [pending](io_uring_sqe* entry) {
      const auto count = static_cast<unsigned>(pending->buffers.size());
      switch (pending->operation) {
        case IoOperation::kRead:
          io_uring_prep_readv(entry, pending->fd, pending->buffers.data(), count, pending->offset);
          break;
        case IoOperation::kWrite:
          io_uring_prep_writev(entry, pending->fd, pending->buffers.data(), count, pending->offset);
          break;
        case IoOperation::kAllocate:
          io_uring_prep_fallocate(entry, pending->fd, pending->mode, static_cast<off_t>(pending->offset),
                                  static_cast<off_t>(pending->length));
          break;
      }
    });
  }

 private:
  /// What lies in the host's cache is moved here and now: that is cheaper than to wake a thread for it that would wake its owner.
  [[nodiscard]] bool transfer_at_once(IoRequest& request) {
    if (!request.is_cached || request.operation == IoOperation::kAllocate) return false;
    const bool is_read = request.operation == IoOperation::kRead;
    std::atomic<bool>& is_possible = is_read ? has_reads_at_once_ : has_writes_at_once_;
    if (!is_possible.load(std::memory_order_relaxed)) return false;
    const auto move = is_read ? ::preadv2 : ::pwritev2;
    const ssize_t moved = move(request.fd, request.buffers.data(), static_cast<int>(request.buffers.size()),
                               static_cast<off_t>(request.offset), RWF_NOWAIT);
    if (moved < 0) {
      if (errno == EOPNOTSUPP || errno == ENOSYS) is_possible = false;
      return false;  // it would wait, or fails: the other way will tell
    }
    request.done(moved);
    return true;
  }

  /// Cached writes that may wait. The kernel has no other way for them than a thread either, and writes to one file one by one; a
  /// thread of our own completes them without the reaper.
  void queue_write(IoRequest request) {
    {
      const std::lock_guard lock(writes_mutex_);
      writes_.push_back(std::move(request));
      if (!writer_.joinable()) writer_ = std::thread([this] { write(); });
    }
    writes_changed_.notify_one();
  }

  void write() {
    Pace pace;  // many at once: all of them are taken before the thread that brings them is kept from it, and told of together
    std::unique_lock lock(writes_mutex_);
    for (;;) {
      if (writes_.empty()) {
        writes_changed_.wait(lock, [this] { return is_stopping_ || !writes_.empty(); });
        pace.woken();
        pace.found(writes_.size());
      }
      if (writes_.empty()) return;
      IoRequest request = std::move(writes_.front());
      writes_.pop_front();
      lock.unlock();
      const ssize_t moved =
          ::pwritev(request.fd, request.buffers.data(), static_cast<int>(request.buffers.size()), static_cast<off_t>(request.offset));
      request.done(moved < 0 ? -errno : moved);
      request = {};
      lock.lock();
    }
  }

  template <typename Prepare>
  void push(IoRequest* request, Prepare&& prepare) {
    const std::lock_guard lock(submission_mutex_);
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    while (entry == nullptr) {  // full: hand over what is there
      io_uring_submit(&ring_);
      entry = io_uring_get_sqe(&ring_);
    }
    prepare(entry);
    io_uring_sqe_set_data(entry, request);
    // -EAGAIN and -EBUSY leave the entry queued; the kernel has no memory or too many completions wait for the reaper.
    while (io_uring_sq_ready(&ring_) > 0 && io_uring_submit(&ring_) < 0) std::this_thread::yield();
  }

  void reap() {
    // The owner destroys the backend after its files, and a file waits for its requests: nothing comes after the stop.
    for (bool is_stopping = false; !is_stopping;) {
      io_uring_cqe* completion = nullptr;
      if (io_uring_wait_cqe(&ring_, &completion) < 0) continue;  // interrupted
      std::unique_ptr<IoRequest> request(static_cast<IoRequest*>(io_uring_cqe_get_data(completion)));
      const std::int64_t outcome = completion->res;
      io_uring_cqe_seen(&ring_, completion);
      if (request == nullptr) {
        is_stopping = true;
      } else {
        request->done(outcome);
      }
    }
  }

  io_uring ring_ = {};
  bool has_ring_ = false;
  std::atomic<bool> has_reads_at_once_ = true, has_writes_at_once_ = true;  ///< the file system can tell what would wait
  std::mutex submission_mutex_;
  std::thread reaper_;
  std::mutex writes_mutex_;
  std::condition_variable writes_changed_;
  std::deque<IoRequest> writes_;  // guarded by writes_mutex_
  bool is_stopping_ = false;      // guarded by writes_mutex_
  std::thread writer_;            // started with the first write; guarded by writes_mutex_
};

}  // namespace

Result<std::shared_ptr<IoBackend>> create_uring_backend() { return UringBackend::create(); }

}  // namespace bygone::disk
