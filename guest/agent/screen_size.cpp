#include "screen_size.h"

#include <xcb/randr.h>
#include <xcb/xcb.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace bygone::agent {
namespace {

/// Modes that are made here are called so, and go when another takes their place.
constexpr std::string_view kModePrefix = "bygone-";

struct Disconnect {
  void operator()(xcb_connection_t* connection) const { xcb_disconnect(connection); }
};
struct Free {
  void operator()(void* reply) const { std::free(reply); }  // NOLINT: XCB replies come from malloc
};
template <typename T>
using Reply = std::unique_ptr<T, Free>;

struct Mode {
  xcb_randr_mode_info_t info;
  std::string name;
};

/// What a screen without a cathode ray needs: blanking of the least size, 60 pictures a second.
xcb_randr_mode_info_t describe_mode(std::uint16_t width, std::uint16_t height) {
  xcb_randr_mode_info_t mode = {};
  mode.width = width;
  mode.height = height;
  mode.hsync_start = static_cast<std::uint16_t>(width + 48);
  mode.hsync_end = static_cast<std::uint16_t>(width + 80);
  mode.htotal = static_cast<std::uint16_t>(width + 160);
  mode.vsync_start = static_cast<std::uint16_t>(height + 3);
  mode.vsync_end = static_cast<std::uint16_t>(height + 8);
  mode.vtotal = static_cast<std::uint16_t>(height + 30);
  mode.dot_clock = std::uint32_t{mode.htotal} * mode.vtotal * 60;
  return mode;
}

template <typename T>
std::span<const T> list(const T* first, int count) {
  return {first, static_cast<std::size_t>(std::max(count, 0))};
}

class Screen {
 public:
  explicit Screen(const std::string& display) : connection_(xcb_connect(display.c_str(), nullptr)) {}

  [[nodiscard]] Result<void> resize(std::uint16_t width, std::uint16_t height) {
    BYGONE_CHECK(look());
    if (width < smallest_.first || height < smallest_.second || width > largest_.first || height > largest_.second) {
      return fail(ErrorCode::kInvalidArgument, "a screen of {}x{}; this one can have {}x{} to {}x{}", width, height, smallest_.first,
                  smallest_.second, largest_.first, largest_.second);
    }
    if (width_ == width && height_ == height) return {};
    BYGONE_ASSIGN(const xcb_randr_mode_t mode, mode_of(width, height));
    // The screen holds its output at every step.
    BYGONE_CHECK(set_screen(std::max(width, width_), std::max(height, height_)));
    if (auto shown = show(mode); !shown) {
      (void)set_screen(width_, height_);
      return shown;
    }
    BYGONE_CHECK(set_screen(width, height));
    forget_modes(mode);
    return {};
  }

 private:
  [[nodiscard]] xcb_connection_t* x() const { return connection_.get(); }

  [[nodiscard]] Result<void> look() {
    if (xcb_connection_has_error(x()) != 0) return fail(ErrorCode::kNotFound, "there is no X server on this display");
    root_ = xcb_setup_roots_iterator(xcb_get_setup(x())).data->root;
    const auto cannot = [] { return fail(ErrorCode::kUnsupported, "this X server cannot change its screen's size"); };
    const auto* extension = xcb_get_extension_data(x(), &xcb_randr_id);
    if (extension == nullptr || extension->present == 0) return cannot();
    const Reply<xcb_randr_query_version_reply_t> version(xcb_randr_query_version_reply(x(), xcb_randr_query_version(x(), 1, 2), nullptr));
    const Reply<xcb_randr_get_screen_size_range_reply_t> range(
        xcb_randr_get_screen_size_range_reply(x(), xcb_randr_get_screen_size_range(x(), root_), nullptr));
    const Reply<xcb_get_geometry_reply_t> now(xcb_get_geometry_reply(x(), xcb_get_geometry(x(), root_), nullptr));
    const Reply<xcb_randr_get_screen_resources_reply_t> resources(
        xcb_randr_get_screen_resources_reply(x(), xcb_randr_get_screen_resources(x(), root_), nullptr));
    if (!version || !range || !now || !resources) return cannot();
    smallest_ = {range->min_width, range->min_height};
    largest_ = {range->max_width, range->max_height};
    width_ = now->width;
    height_ = now->height;
    read_modes(resources.get());
    return read_output(resources.get());
  }

  void read_modes(const xcb_randr_get_screen_resources_reply_t* resources) {
    std::string_view names(reinterpret_cast<const char*>(xcb_randr_get_screen_resources_names(resources)),
                           static_cast<std::size_t>(xcb_randr_get_screen_resources_names_length(resources)));
    for (const auto& mode : list(xcb_randr_get_screen_resources_modes(resources), xcb_randr_get_screen_resources_modes_length(resources))) {
      modes_.push_back({mode, std::string(names.substr(0, mode.name_len))});
      names.remove_prefix(std::min<std::size_t>(names.size(), mode.name_len));
    }
  }

  [[nodiscard]] Result<void> read_output(const xcb_randr_get_screen_resources_reply_t* resources) {
    for (const auto output : list(xcb_randr_get_screen_resources_outputs(resources), xcb_randr_get_screen_resources_outputs_length(resources))) {
      const Reply<xcb_randr_get_output_info_reply_t> info(
          xcb_randr_get_output_info_reply(x(), xcb_randr_get_output_info(x(), output, XCB_CURRENT_TIME), nullptr));
      if (!info || info->connection != XCB_RANDR_CONNECTION_CONNECTED) continue;
      const auto crtcs = list(xcb_randr_get_output_info_crtcs(info.get()), xcb_randr_get_output_info_crtcs_length(info.get()));
      const auto modes = list(xcb_randr_get_output_info_modes(info.get()), xcb_randr_get_output_info_modes_length(info.get()));
      if (crtcs.empty()) continue;
      output_ = output;
      crtc_ = info->crtc != XCB_NONE ? info->crtc : crtcs.front();
      output_modes_.assign(modes.begin(), modes.end());
      return {};
    }
    return fail(ErrorCode::kUnsupported, "this X server has no output whose mode could change");
  }

  [[nodiscard]] Result<void> check(xcb_void_cookie_t cookie, const char* what) {
    const Reply<xcb_generic_error_t> error(xcb_request_check(x(), cookie));
    if (error) return fail(ErrorCode::kIo, "the X server refuses {} (error {})", what, error->error_code);
    return {};
  }

  /// A mode of this size that the output has, made if need be.
  [[nodiscard]] Result<xcb_randr_mode_t> mode_of(std::uint16_t width, std::uint16_t height) {
    for (const Mode& mode : modes_) {
      const bool is_usable = std::ranges::find(output_modes_, mode.info.id) != output_modes_.end();
      if (mode.info.width == width && mode.info.height == height && is_usable) return mode.info.id;
    }
    const std::string name = fmt::format("{}{}x{}", kModePrefix, width, height);
    const auto known = std::ranges::find(modes_, name, &Mode::name);
    xcb_randr_mode_t id = known != modes_.end() ? known->info.id : XCB_NONE;
    if (id == XCB_NONE) {
      xcb_randr_mode_info_t info = describe_mode(width, height);
      info.name_len = static_cast<std::uint16_t>(name.size());
      const auto asked = xcb_randr_create_mode(x(), root_, info, static_cast<std::uint32_t>(name.size()), name.data());
      const Reply<xcb_randr_create_mode_reply_t> made(xcb_randr_create_mode_reply(x(), asked, nullptr));
      if (!made) return fail(ErrorCode::kIo, "the X server refuses a mode of {}x{}", width, height);
      id = made->mode;
    }
    BYGONE_CHECK(check(xcb_randr_add_output_mode_checked(x(), output_, id), "the mode"));
    return id;
  }

  [[nodiscard]] Result<void> set_screen(std::uint16_t width, std::uint16_t height) {
    constexpr double kMillimetresAPixel = 25.4 / 96;
    const auto size_of = [](std::uint16_t pixels) { return std::max(1U, static_cast<std::uint32_t>(pixels * kMillimetresAPixel)); };
    return check(xcb_randr_set_screen_size_checked(x(), root_, width, height, size_of(width), size_of(height)), "the screen's size");
  }

  [[nodiscard]] Result<void> show(xcb_randr_mode_t mode) {
    const auto asked = xcb_randr_set_crtc_config(x(), crtc_, XCB_CURRENT_TIME, XCB_CURRENT_TIME, 0, 0, mode, XCB_RANDR_ROTATION_ROTATE_0, 1, &output_);
    const Reply<xcb_randr_set_crtc_config_reply_t> set(xcb_randr_set_crtc_config_reply(x(), asked, nullptr));
    if (!set || set->status != XCB_RANDR_SET_CONFIG_SUCCESS) return fail(ErrorCode::kIo, "the screen's driver refuses the mode");
    return {};
  }

  void forget_modes(xcb_randr_mode_t except) {
    for (const Mode& mode : modes_) {
      if (mode.info.id == except || !mode.name.starts_with(kModePrefix)) continue;
      xcb_randr_delete_output_mode(x(), output_, mode.info.id);
      xcb_randr_destroy_mode(x(), mode.info.id);
    }
    xcb_flush(x());
  }

  std::unique_ptr<xcb_connection_t, Disconnect> connection_;
  xcb_window_t root_ = 0;
  xcb_randr_output_t output_ = 0;
  xcb_randr_crtc_t crtc_ = 0;
  std::uint16_t width_ = 0, height_ = 0;
  std::pair<std::uint16_t, std::uint16_t> smallest_, largest_;
  std::vector<Mode> modes_;
  std::vector<xcb_randr_mode_t> output_modes_;
};

}  // namespace

Result<void> set_screen_size(const std::string& display, std::uint32_t width, std::uint32_t height) {
  constexpr std::uint32_t kMostPixels = 32767 - 160;  // X counts them in 15 bits; the blanking counts too
  if (width == 0 || height == 0 || width > kMostPixels || height > kMostPixels) {
    return fail(ErrorCode::kInvalidArgument, "a screen of {}x{}", width, height);
  }
  return Screen(display).resize(static_cast<std::uint16_t>(width), static_cast<std::uint16_t>(height));
}

}  // namespace bygone::agent
