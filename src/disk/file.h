// A file that an image lives in: what the format layer asks of the host. Payload goes through submit(), small metadata through
// the synchronous calls.
//
// Threading: everything from any thread. Completions run on a thread of the file's, or inside submit(), and must not block.
// Destroying a file waits for its requests; never from a completion.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "support/result.h"

namespace bygone::disk {

enum class FileOperation {
  kRead,     ///< bytes past the end read as zero
  kWrite,
  kZero,     ///< the range reads as zero and stays allocated where the file system can say so
  kDiscard,  ///< the range reads as zero and its space goes back to the file system
};

struct FileRequest {
  FileOperation operation = FileOperation::kRead;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  ///< the buffers' total for kRead and kWrite
  std::vector<iovec> buffers;
  std::move_only_function<void(Result<void>)> done;
};

/// A run of a file: data, or a hole that reads as zero.
struct FileRun {
  std::uint64_t length = 0;
  bool is_data = true;
};

class File {
 public:
  virtual ~File() = default;
  /// For messages.
  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual bool is_read_only() const = 0;

  virtual void submit(FileRequest request) = 0;

  [[nodiscard]] virtual Result<std::uint64_t> size() = 0;
  /// Grows with zeros or cuts off.
  [[nodiscard]] virtual Result<void> resize(std::uint64_t size) = 0;
  /// Errors: kCorrupt when the file ends before `into` is full.
  [[nodiscard]] virtual Result<void> read(std::uint64_t offset, std::span<std::byte> into) = 0;
  [[nodiscard]] virtual Result<void> write(std::uint64_t offset, std::span<const std::byte> from) = 0;
  /// Everything that completed before is durable afterwards, the file's size included.
  [[nodiscard]] virtual Result<void> flush() = 0;
  [[nodiscard]] virtual Result<void> discard(std::uint64_t offset, std::uint64_t length) = 0;
  /// Reserves space on the host so that later writes to the range don't run out of it.
  [[nodiscard]] virtual Result<void> allocate(std::uint64_t offset, std::uint64_t length) = 0;
  /// The run that starts at `offset`, which lies inside the file.
  [[nodiscard]] virtual Result<FileRun> run_at(std::uint64_t offset) = 0;
  /// Its size and the time of its last change; empty: unknown.
  [[nodiscard]] virtual std::string change_stamp() { return {}; }
};

template <typename T>
[[nodiscard]] Result<T> read_object(File& file, std::uint64_t offset) {
  T object;
  BYGONE_CHECK(file.read(offset, std::as_writable_bytes(std::span<T, 1>(&object, 1))));
  return object;
}
template <typename T>
[[nodiscard]] Result<void> write_object(File& file, std::uint64_t offset, const T& object) {
  return file.write(offset, std::as_bytes(std::span<const T, 1>(&object, 1)));
}

}  // namespace bygone::disk
