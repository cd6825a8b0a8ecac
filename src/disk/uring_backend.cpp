// io_uring: one ring, one thread that reaps completions. A request costs one system call and no thread switch on its way in; a read of
// what the host has in its cache costs no other either.
#include <liburing.h>
#include <sys/uio.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <thread>

#include "disk/io_backend.h"

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
    if (reaper_.joinable()) {
      push(nullptr, [](io_uring_sqe* entry) { io_uring_prep_nop(entry); });
      reaper_.join();
    }
    if (has_ring_) io_uring_queue_exit(&ring_);
  }

  std::string_view name() const override { return "io_uring"; }

  void submit(IoRequest request) override {
    if (read_at_once(request)) return;
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
  /// What lies in the host's cache is copied here and now: that is cheaper than to wake the reaper for it, which would wake its owner.
  [[nodiscard]] bool read_at_once(IoRequest& request) {
    if (request.operation != IoOperation::kRead || !request.is_cached || !has_reads_at_once_.load(std::memory_order_relaxed)) return false;
    const ssize_t got = ::preadv2(request.fd, request.buffers.data(), static_cast<int>(request.buffers.size()),
                                  static_cast<off_t>(request.offset), RWF_NOWAIT);
    if (got < 0) {
      if (errno == EOPNOTSUPP || errno == ENOSYS) has_reads_at_once_ = false;
      return false;  // not all of it in the cache, or a failure that the ring will tell
    }
    request.done(got);
    return true;
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
  std::atomic<bool> has_reads_at_once_ = true;  ///< the file system can tell what would wait
  std::mutex submission_mutex_;
  std::thread reaper_;
};

}  // namespace

Result<std::shared_ptr<IoBackend>> create_uring_backend() { return UringBackend::create(); }

}  // namespace bygone::disk
