// How the host is asked for input and output: io_uring, or a pool of threads where the kernel refuses that.
//
// Threading: submit() from any thread; completions run on the backend's threads, or within submit(). Destroying a backend waits for its requests;
// never from a completion.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "support/result.h"

namespace bygone::disk {

enum class IoOperation { kRead, kWrite, kAllocate };

struct IoRequest {
  IoOperation operation = IoOperation::kRead;
  int fd = -1;
  int mode = 0;  ///< kAllocate: fallocate's flags
  bool is_cached = false;  ///< goes through the host's cache, of a regular file
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  ///< kAllocate
  std::vector<iovec> buffers;  ///< at most kMaximumBuffers
  /// Bytes transferred, or a negative errno.
  std::move_only_function<void(std::int64_t)> done;
};

class IoBackend {
 public:
  enum class Kind { kAutomatic, kUring, kThreads };
  static constexpr std::size_t kMaximumBuffers = 1024;  ///< the kernel's UIO_MAXIOV

  virtual ~IoBackend() = default;
  virtual void submit(IoRequest request) = 0;
  [[nodiscard]] virtual std::string_view name() const = 0;

  /// kAutomatic falls back to threads where io_uring is refused; kUring fails then with kUnsupported.
  [[nodiscard]] static Result<std::shared_ptr<IoBackend>> create(Kind kind = Kind::kAutomatic);
};

/// The two kinds, each in its own file.
[[nodiscard]] Result<std::shared_ptr<IoBackend>> create_uring_backend();
[[nodiscard]] std::shared_ptr<IoBackend> create_thread_backend();

}  // namespace bygone::disk
