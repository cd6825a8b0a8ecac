// The synthetic video device: a linear framebuffer in guest memory, and messages that say where it is, how it is laid out,
// what changed and what the pointer looks like.
//
//   guest: version → VRAM location → resolutions → situation (mode) → features → dirt, dirt, …
//
// The picture itself never goes through here: a screen reads it from guest memory with capture() or in place.
// Threading: as vmbus::Device; mode(), capture() and statistics from any thread; the observer is called on the device's loop.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "memory/guest_memory.h"
#include "vmbus/packet_device.h"

namespace bygone::devices::video {

/// How the picture lies in guest memory. All zero: no mode set.
struct ScreenMode {
  std::uint32_t width = 0, height = 0;  ///< pixels
  std::uint32_t pitch = 0;              ///< bytes from line to line
  std::uint8_t depth = 32;              ///< bits a pixel: 32 (blue lowest) or 16 (5-6-5)
  memory::Gpa address;
  friend bool operator==(const ScreenMode&, const ScreenMode&) = default;
};

/// Pixels; right and bottom are outside.
struct Rectangle {
  std::int32_t left = 0, top = 0, right = 0, bottom = 0;
};

struct PointerShape {
  std::uint32_t width = 0, height = 0, hot_x = 0, hot_y = 0;
  bool is_argb = false;         ///< always, for observers: monochrome ones are coloured first
  std::vector<std::byte> data;  ///< 4 bytes a pixel, blue first, lines without gaps
};

struct PointerPlace {
  bool is_visible = true;
  std::int32_t x = 0, y = 0;  ///< of its hot spot; may be outside of the screen
};

/// A screen that shows the guest's picture. Threading: called on the device's loop; must be quick.
class ScreenObserver {
 public:
  virtual ~ScreenObserver() = default;
  virtual void mode_changed(const ScreenMode& mode) = 0;
  /// Clipped to the mode.
  virtual void damaged(const Rectangle& area) = 0;
  virtual void pointer_shaped(const PointerShape& shape) = 0;
  virtual void pointer_moved(bool is_visible, std::int32_t x, std::int32_t y) = 0;
};

/// A copy of the screen, 32 bits a pixel, blue lowest, lines without gaps.
struct Picture {
  std::uint32_t width = 0, height = 0;
  std::vector<std::uint32_t> pixels;
};

struct Resolution {
  std::uint16_t width = 0, height = 0;
  friend bool operator==(const Resolution&, const Resolution&) = default;
};

inline constexpr std::uint16_t kUsualVramMegabytes = 64;  ///< up to 5120x2880

struct VideoOptions {
  std::uint16_t vram_megabytes = kUsualVramMegabytes;  ///< what the guest is told to set aside: no mode is larger
  Resolution preferred = {1024, 768};
};

/// Whether a picture of 32 bits a pixel has room in so much video memory.
[[nodiscard]] constexpr bool fits(Resolution resolution, std::uint16_t vram_megabytes) {
  return std::uint64_t{resolution.width} * resolution.height * 4 <= std::uint64_t{vram_megabytes} << 20;
}

class Video final : public vmbus::PacketDevice {
 public:
  Video(memory::GuestMemory& memory, VideoOptions options);

  /// Null: nobody watches. It is told of the mode and the pointer at once. On the device's loop.
  void set_observer(ScreenObserver* observer);
  [[nodiscard]] ScreenMode mode() const;
  /// Errors: kNotFound before the guest has set a mode; kOutOfRange when its framebuffer is not memory.
  [[nodiscard]] Result<Picture> capture() const;
  /// What a guest that asks for resolutions is told to prefer; from 3.4 on it is told when this changes. On the device's loop.
  /// Errors: kOutOfRange (no side may be zero, and the picture must fit the video memory).
  [[nodiscard]] Result<void> prefer(Resolution resolution);

  void reset() override;
  [[nodiscard]] nlohmann::json inspect() const override;

 private:
  [[nodiscard]] Result<nlohmann::json> save_state() override;
  [[nodiscard]] Result<void> restore_state(const nlohmann::json& state) override;
  [[nodiscard]] Result<void> on_open(const vmbus::ChannelParameters& parameters) override;
  void on_close() override;
  [[nodiscard]] Result<void> on_message(std::span<const std::byte> message) override;
  [[nodiscard]] Result<void> on_version(std::span<const std::byte> message);
  [[nodiscard]] Result<void> on_vram_location(std::span<const std::byte> message);
  [[nodiscard]] Result<void> on_situation(std::span<const std::byte> message);
  [[nodiscard]] Result<void> on_pointer_position(std::span<const std::byte> message);
  [[nodiscard]] Result<void> on_pointer_shape(std::span<const std::byte> message);
  [[nodiscard]] bool is_shape_whole() const;
  void show_pointer();
  [[nodiscard]] nlohmann::json save_pointer() const;
  [[nodiscard]] Result<void> restore_pointer(const nlohmann::json& state);
  [[nodiscard]] Result<void> on_dirt(std::span<const std::byte> message);
  [[nodiscard]] Result<void> on_resolution_request(std::span<const std::byte> message);
  void request_features(const ScreenMode& mode);
  void send_features();
  void set_mode(const ScreenMode& mode);

  memory::GuestMemory& memory_;
  VideoOptions options_;
  ScreenObserver* observer_ = nullptr;
  std::uint32_t version_ = 0;
  std::optional<std::uint64_t> vram_address_;
  ScreenMode mode_with_features_;  ///< for which the driver has been asked for features
  PointerShape shape_;  ///< as the guest sends it
  bool shape_is_growing_ = false;  ///< parts of it are to come
  PointerPlace place_;
  mutable std::mutex mutex_;
  ScreenMode mode_;  // guarded by mutex_
  std::uint64_t dirty_messages_ = 0;
};

}  // namespace bygone::devices::video
