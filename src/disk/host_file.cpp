#include "disk/host_file.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>

#include "disk/io_vector.h"
#include "support/unique_fd.h"

namespace bygone::disk {
namespace {

/// What O_DIRECT is used for: requests that are whole, aligned pages. A page is then either written past the cache or through
/// it, never in two halves both ways, which is what keeps the two descriptors coherent. No file system needs more than this.
constexpr std::uint64_t kDirectAlignment = 4096;

constexpr std::size_t kZeroBytes = 64U << 10;
alignas(4096) constexpr std::array<std::byte, kZeroBytes> kZeros = {};

bool is_aligned(const FileRequest& request) {
  if (request.offset % kDirectAlignment != 0 || request.length % kDirectAlignment != 0) return false;
  return std::ranges::all_of(request.buffers, [](const iovec& buffer) {
    return reinterpret_cast<std::uintptr_t>(buffer.iov_base) % kDirectAlignment == 0 && buffer.iov_len % kDirectAlignment == 0;
  });
}

/// Removes the first `count` bytes of the buffers.
void drop_front(std::vector<iovec>& buffers, std::uint64_t count) {
  std::size_t whole = 0;
  while (whole < buffers.size() && count >= buffers[whole].iov_len) count -= buffers[whole++].iov_len;
  buffers.erase(buffers.begin(), buffers.begin() + static_cast<std::ptrdiff_t>(whole));
  if (!buffers.empty()) {
    buffers[0].iov_base = static_cast<std::byte*>(buffers[0].iov_base) + count;
    buffers[0].iov_len -= count;
  }
}

/// Open-file-description locks over the bytes that QEMU's tools use too (100 + permission: in use, 200 + permission: not shared),
/// so that neither opens for writing what the other has open. A writer locks the whole file; a reader only says "nobody writes".
Result<void> lock_file(int fd, const std::string& path, bool is_read_only) {
  const auto lock = [fd](short type, off_t start, off_t length) {
    struct flock range = {};
    range.l_type = type;
    range.l_whence = SEEK_SET;
    range.l_start = start;
    range.l_len = length;
    return ::fcntl(fd, F_OFD_SETLK, &range) == 0 || (errno != EAGAIN && errno != EACCES);  // no locks at all: go on without
  };
  constexpr std::array<off_t, 3> kReaderBytes = {100, 201, 203};  // reads; does not share writing; nor resizing
  const bool is_locked = is_read_only
                             ? std::ranges::all_of(kReaderBytes, [&](off_t byte) { return lock(F_RDLCK, byte, 1); })
                             : lock(F_WRLCK, 0, 0);
  if (is_locked) return {};
  return std::unexpected(Error{ErrorCode::kBusy, fmt::format("{} is open in another program", path),
                               "Close the machine or tool that uses it and try again"});
}

class HostFile final : public File {
 public:
  HostFile(std::string name, bool is_read_only, bool is_regular, UniqueFd cached, UniqueFd direct, std::shared_ptr<IoBackend> backend)
      : name_(std::move(name)),
        is_read_only_(is_read_only),
        is_regular_(is_regular),
        cached_(std::move(cached)),
        direct_(std::move(direct)),
        backend_(std::move(backend)) {}
  ~HostFile() override {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return in_flight_ == 0; });
    // Not left to close(): the kernel may hold on to the open file for a moment after an io_uring request.
    struct flock range = {};
    range.l_type = F_UNLCK;
    range.l_whence = SEEK_SET;
    ::fcntl(cached_.get(), F_OFD_SETLK, &range);
  }

  const std::string& name() const override { return name_; }
  bool is_read_only() const override { return is_read_only_; }

  void submit(FileRequest request) override {
    {
      const std::lock_guard lock(mutex_);
      ++in_flight_;
    }
    if (request.length == 0) return finish(request, {});
    const bool goes_direct = direct_ && is_aligned(request);
    switch (request.operation) {
      case FileOperation::kRead:
      case FileOperation::kWrite: return transfer(std::move(request), goes_direct);
      case FileOperation::kZero: return deallocate(std::move(request), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
      case FileOperation::kDiscard: return deallocate(std::move(request), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    }
  }

  Result<std::uint64_t> size() override {
    struct stat status = {};
    if (::fstat(cached_.get(), &status) != 0) return fail_errno(errno, "asking for the size of " + name_);
    if (S_ISBLK(status.st_mode)) {
      std::uint64_t bytes = 0;
      if (::ioctl(cached_.get(), BLKGETSIZE64, &bytes) != 0) return fail_errno(errno, "asking for the size of " + name_);
      return bytes;
    }
    return static_cast<std::uint64_t>(status.st_size);
  }

  std::string change_stamp() override {
    struct stat status = {};
    if (::fstat(cached_.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
    return fmt::format("{} bytes, {}.{:09}", status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  }

  Result<void> resize(std::uint64_t new_size) override {
    if (::ftruncate(cached_.get(), static_cast<off_t>(new_size)) != 0) return fail_errno(errno, "resizing " + name_);
    return {};
  }

  Result<void> read(std::uint64_t offset, std::span<std::byte> into) override {
    while (!into.empty()) {
      const ssize_t got = ::pread(cached_.get(), into.data(), into.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail_errno(errno, "reading " + name_);
      if (got == 0) return fail(ErrorCode::kCorrupt, "{} ends at {:#x}, inside its own structures", name_, offset);
      into = into.subspan(static_cast<std::size_t>(got));
      offset += static_cast<std::uint64_t>(got);
    }
    return {};
  }

  Result<void> write(std::uint64_t offset, std::span<const std::byte> from) override {
    while (!from.empty()) {
      const ssize_t put = ::pwrite(cached_.get(), from.data(), from.size(), static_cast<off_t>(offset));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return fail_errno(errno, "writing " + name_);
      from = from.subspan(static_cast<std::size_t>(put));
      offset += static_cast<std::uint64_t>(put);
    }
    return {};
  }

  Result<void> flush() override {
    if (::fdatasync(cached_.get()) != 0) return fail_errno(errno, "flushing " + name_);
    return {};
  }

  Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
    if (::fallocate(cached_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                    static_cast<off_t>(length)) == 0) {
      return {};
    }
    if (errno != EOPNOTSUPP && errno != ENOSYS) return fail_errno(errno, "freeing space of " + name_);
    while (length > 0) {
      const std::uint64_t part = std::min<std::uint64_t>(length, kZeroBytes);
      BYGONE_CHECK(write(offset, std::span(kZeros).first(part)));
      offset += part;
      length -= part;
    }
    return {};
  }

  Result<void> allocate(std::uint64_t offset, std::uint64_t length) override {
    if (length == 0) return {};
    if (::fallocate(cached_.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0) return {};
    if (errno != EOPNOTSUPP && errno != ENOSYS) return fail_errno(errno, "reserving space for " + name_);
    BYGONE_ASSIGN(const std::uint64_t now, size());  // no reservation here; the size must still be as asked
    return now < offset + length ? resize(offset + length) : Result<void>{};
  }

  Result<FileRun> run_at(std::uint64_t offset) override {
    BYGONE_ASSIGN(const std::uint64_t end, size());
    const off_t data = ::lseek(cached_.get(), static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return FileRun{end - offset, false};
    if (data < 0) return FileRun{end - offset, true};  // no such question here: all of it may be data
    if (static_cast<std::uint64_t>(data) > offset) return FileRun{static_cast<std::uint64_t>(data) - offset, false};
    const off_t hole = ::lseek(cached_.get(), data, SEEK_HOLE);
    return FileRun{(hole < 0 ? end : static_cast<std::uint64_t>(hole)) - offset, true};
  }

 private:
  void finish(FileRequest& request, Result<void> result) {
    request.done(std::move(result));
    const std::lock_guard lock(mutex_);
    if (--in_flight_ == 0) idle_.notify_all();
  }

  void transfer(FileRequest request, bool is_direct) {
    IoRequest io;
    io.operation = request.operation == FileOperation::kRead ? IoOperation::kRead : IoOperation::kWrite;
    io.fd = is_direct ? direct_.get() : cached_.get();
    io.is_cached = is_regular_ && !is_direct;
    io.offset = request.offset;
    const std::size_t count = std::min(request.buffers.size(), IoBackend::kMaximumBuffers);
    io.buffers.assign(request.buffers.begin(), request.buffers.begin() + static_cast<std::ptrdiff_t>(count));
    io.done = [this, is_direct, request = std::move(request)](std::int64_t outcome) mutable {
      on_transferred(std::move(request), is_direct, outcome);
    };
    backend_->submit(std::move(io));
  }

  void on_transferred(FileRequest request, bool is_direct, std::int64_t outcome) {
    const bool is_read = request.operation == FileOperation::kRead;
    if (outcome == -EINTR || outcome == -EAGAIN) return transfer(std::move(request), is_direct);
    if (outcome == -EINVAL && is_direct) return transfer(std::move(request), false);  // alignment that we didn't know of
    if (outcome < 0) {
      return finish(request, fail_errno(static_cast<int>(-outcome), (is_read ? "reading " : "writing ") + name_));
    }
    const auto moved = static_cast<std::uint64_t>(outcome);
    if (moved == request.length) return finish(request, {});
    drop_front(request.buffers, moved);
    request.offset += moved;
    request.length -= moved;
    if (moved > 0) return transfer(std::move(request), false);  // the rest may not be aligned any more
    if (!is_read) return finish(request, fail(ErrorCode::kIo, "{} takes no more bytes at {:#x}", name_, request.offset));
    fill_with_zeros(request.buffers);
    finish(request, {});
  }

  void deallocate(FileRequest request, int mode) {
    IoRequest io;
    io.operation = IoOperation::kAllocate;
    io.fd = cached_.get();
    io.mode = mode;
    io.offset = request.offset;
    io.length = request.length;
    io.done = [this, mode, request = std::move(request)](std::int64_t outcome) mutable {
      if (outcome >= 0) return finish(request, {});
      if (outcome == -EINTR || outcome == -EAGAIN) return deallocate(std::move(request), mode);
      if (outcome != -EOPNOTSUPP && outcome != -ENOSYS) {
        return finish(request, fail_errno(static_cast<int>(-outcome), "zeroing part of " + name_));
      }
      if ((mode & FALLOC_FL_ZERO_RANGE) != 0) {
        return deallocate(std::move(request), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
      }
      request.operation = FileOperation::kWrite;
      for (std::uint64_t left = request.length; left > 0;) {
        const std::uint64_t part = std::min<std::uint64_t>(left, kZeroBytes);
        request.buffers.push_back({const_cast<std::byte*>(kZeros.data()), part});
        left -= part;
      }
      transfer(std::move(request), false);
    };
    backend_->submit(std::move(io));
  }

  std::string name_;
  bool is_read_only_;
  bool is_regular_;
  UniqueFd cached_;
  UniqueFd direct_;
  std::shared_ptr<IoBackend> backend_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::uint64_t in_flight_ = 0;  // guarded by mutex_
};

}  // namespace

Result<std::unique_ptr<File>> open_host_file(const std::string& path, const HostFileOptions& options,
                                             std::shared_ptr<IoBackend> backend) {
  const int access = (options.is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  UniqueFd cached(options.opened >= 0 ? ::fcntl(options.opened, F_DUPFD_CLOEXEC, 0)
                                      : ::open(path.c_str(), access | (options.is_created ? O_CREAT | O_EXCL : 0), 0666));
  if (!cached) {
    const int error_number = errno;
    return fail_errno(error_number, fmt::format("{} {}", options.is_created ? "creating" : "opening", path));
  }
  struct stat status = {};
  if (::fstat(cached.get(), &status) != 0) return fail_errno(errno, "opening " + path);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return fail(ErrorCode::kInvalidArgument, "{} is not a file or a block device", path);
  }
  if (!options.ignores_lock) BYGONE_CHECK(lock_file(cached.get(), path, options.is_read_only));
  UniqueFd direct;
  if (options.bypasses_cache && options.opened < 0) direct.reset(::open(path.c_str(), access | O_DIRECT));
  return std::make_unique<HostFile>(path, options.is_read_only, S_ISREG(status.st_mode), std::move(cached), std::move(direct), std::move(backend));
}

}  // namespace bygone::disk
