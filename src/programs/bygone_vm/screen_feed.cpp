#include "programs/bygone_vm/screen_feed.h"

#include <fcntl.h>

namespace bygone::programs::vm {

namespace control = service::control;
using devices::video::Rectangle;

Result<std::unique_ptr<ScreenFeed>> ScreenFeed::create(EventLoop& loop, const memory::GuestMemory& memory) {
  std::unique_ptr<ScreenFeed> feed(new ScreenFeed(loop));
  for (const memory::Slot& slot : memory.slots()) {
    if (slot.memfd < 0) continue;  // no pictures there
    // Opened again, for reading only: a window can look at the guest's memory and not change it.
    UniqueFd file(::open(fmt::format("/proc/self/fd/{}", slot.memfd).c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return fail_errno(errno, "opening guest memory for the screen");
    feed->ranges_.push_back({slot.base, slot.size, std::move(file)});
  }
  return feed;
}

const ScreenFeed::Range* ScreenFeed::find(const devices::video::ScreenMode& mode) const {
  const std::uint64_t bytes = std::uint64_t{mode.pitch} * mode.height;
  for (const Range& range : ranges_) {
    if (mode.address.value >= range.base.value && mode.address.value - range.base.value <= range.size &&
        bytes <= range.size - (mode.address.value - range.base.value)) {
      return &range;
    }
  }
  return nullptr;
}

control::ScreenNow ScreenFeed::screen() const {
  const auto again = [](const UniqueFd& file) { return file ? UniqueFd(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0)) : UniqueFd(); };
  return {mode_, mode_range_ == nullptr ? UniqueFd() : again(mode_range_->file), pointer_, again(pointer_file_), place_};
}

void ScreenFeed::mode_changed(const devices::video::ScreenMode& mode) {
  loop_.post([this, mode] { tell_mode(mode); });
}

void ScreenFeed::tell_mode(const devices::video::ScreenMode& mode) {
  mode_range_ = mode.width == 0 ? nullptr : find(mode);
  mode_ = {};
  if (mode_range_ != nullptr) {
    mode_ = {mode.width, mode.height, mode.pitch, mode.depth, mode.address.value - mode_range_->base.value};
  }
  if (server_ != nullptr) server_->tell(mode_, mode_range_ == nullptr ? -1 : mode_range_->file.get());
}

void ScreenFeed::damaged(const Rectangle& area) {
  const std::lock_guard lock(mutex_);
  damage_.push_back(area);
  if (damage_.size() == 1) loop_.post([this] { tell_damage(); });
}

void ScreenFeed::tell_damage() {
  std::vector<Rectangle> areas;
  {
    const std::lock_guard lock(mutex_);
    areas.swap(damage_);
  }
  if (server_ == nullptr) return;
  for (const Rectangle& area : areas) server_->damage({area.left, area.top, area.right, area.bottom});
}

void ScreenFeed::pointer_shaped(const devices::video::PointerShape& shape) {
  loop_.post([this, shape] {
    auto file = control::sealed_file(shape.data);
    if (!file) return;
    pointer_ = {shape.width, shape.height, shape.hot_x, shape.hot_y, shape.is_argb};
    pointer_file_ = std::move(*file);
    if (server_ != nullptr) server_->tell(pointer_, pointer_file_.get());
  });
}

void ScreenFeed::pointer_moved(bool is_visible, std::int32_t x, std::int32_t y) {
  loop_.post([this, is_visible, x, y] {
    place_ = {is_visible, x, y};
    if (server_ != nullptr) server_->tell(place_);
  });
}

}  // namespace bygone::programs::vm
