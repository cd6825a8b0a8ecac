// io_uring: one ring, one thread that reaps completions. A request costs one system call and no thread switch on its way in.
#include <liburing.h>

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
  std::mutex submission_mutex_;
  std::thread reaper_;
};

}  // namespace

Result<std::shared_ptr<IoBackend>> create_uring_backend() { return UringBackend::create(); }

}  // namespace bygone::disk
