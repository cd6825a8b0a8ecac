// Walking over scattered buffers. Threading: values.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bygone::disk {

/// Hands out the buffers of a request piece by piece.
class IoVectorReader {
 public:
  explicit IoVectorReader(std::span<const iovec> buffers) : buffers_(buffers) {}

  /// The next `length` bytes, which must be there.
  [[nodiscard]] std::vector<iovec> take(std::uint64_t length) {
    std::vector<iovec> result;
    while (length > 0) {
      const iovec& buffer = buffers_[index_];
      const std::uint64_t part = std::min<std::uint64_t>(length, buffer.iov_len - used_);
      if (part > 0) result.push_back({static_cast<std::byte*>(buffer.iov_base) + used_, part});
      used_ += part;
      length -= part;
      if (used_ == buffer.iov_len) {
        ++index_;
        used_ = 0;
      }
    }
    return result;
  }

 private:
  std::span<const iovec> buffers_;
  std::size_t index_ = 0;
  std::size_t used_ = 0;
};

inline void fill_with_zeros(std::span<const iovec> buffers) {
  for (const iovec& buffer : buffers) std::fill_n(static_cast<std::byte*>(buffer.iov_base), buffer.iov_len, std::byte{0});
}

}  // namespace bygone::disk
