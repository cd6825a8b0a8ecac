// A fuzz target's input, taken in pieces: what is asked for beyond its end is zeros.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool is_empty() const { return size_ == 0; }
  template <typename T>
  T take() {
    T value{};
    take_into(&value, sizeof value);
    return value;
  }
  void take_into(void* to, std::size_t wanted) {
    const auto taken = take_bytes(wanted);
    if (!taken.empty()) std::memcpy(to, taken.data(), taken.size());
  }
  std::span<const std::byte> take_bytes(std::size_t wanted) {
    const std::span taken(reinterpret_cast<const std::byte*>(data_), std::min(wanted, size_));
    data_ += taken.size();
    size_ -= taken.size();
    return taken;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};
