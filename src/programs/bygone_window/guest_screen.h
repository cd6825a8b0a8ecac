// The guest's picture as the window has it: pixels in memory shared with the machine's process, never copied.
//
// Threading: the window's thread only. The guest draws at any time; a torn picture is repaired by the damage that follows.
#pragma once

#include <QImage>
#include <QSize>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::window {

/// Where a mode's pixels lie in the file that the machine handed over.
struct ScreenLayout {
  std::uint64_t offset = 0;  ///< bytes from the file's start
  std::uint32_t width = 0, height = 0;  ///< pixels
  std::uint32_t pitch = 0;  ///< bytes from line to line
  std::uint32_t depth = 32;  ///< bits a pixel: 32 (blue lowest) or 16 (5-6-5)
};

class GuestScreen {
 public:
  /// Maps the pixels read-only. Errors: the layout isn't one, or lies beyond the file.
  [[nodiscard]] static Result<std::shared_ptr<GuestScreen>> create(const UniqueFd& memory, const ScreenLayout& layout);
  ~GuestScreen();
  GuestScreen(const GuestScreen&) = delete;
  GuestScreen& operator=(const GuestScreen&) = delete;

  [[nodiscard]] QSize size() const { return image_.size(); }
  /// Shows the shared memory itself; valid as long as this object.
  [[nodiscard]] const QImage& image() const { return image_; }

 private:
  GuestScreen(void* mapping, std::size_t mapped_bytes, QImage image);
  void* mapping_;
  std::size_t mapped_bytes_;
  QImage image_;
};

}  // namespace bygone::window
