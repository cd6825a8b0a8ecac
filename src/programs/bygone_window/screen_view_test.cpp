#include "programs/bygone_window/screen_view.h"

#include <gtest/gtest.h>
#include <linux/input-event-codes.h>
#include <sys/mman.h>
#include <unistd.h>

#include <QApplication>
#include <QKeyEvent>
#include <QMouseEvent>
#include <QWheelEvent>
#include <memory>
#include <vector>

namespace bygone::window {
namespace {

struct SharedPixels {
  UniqueFd file{::memfd_create("screen", MFD_CLOEXEC)};
  std::shared_ptr<GuestScreen> screen;

  SharedPixels(std::uint32_t width, std::uint32_t height) {
    EXPECT_EQ(::ftruncate(file.get(), 1 << 24), 0);
    auto made = GuestScreen::create(file, {.offset = 4096 + 64, .width = width, .height = height, .pitch = width * 4});
    EXPECT_TRUE(made.has_value());
    screen = *made;
  }
  void set(std::uint32_t x, std::uint32_t y, std::uint32_t pixel) const {
    const auto place = 4096 + 64 + (std::uint64_t{y} * static_cast<std::uint64_t>(screen->size().width()) + x) * 4;
    ASSERT_EQ(::pwrite(file.get(), &pixel, 4, static_cast<off_t>(place)), 4);
  }
};

TEST(GuestScreen, layouts_that_are_none_are_refused) {
  const UniqueFd file{::memfd_create("screen", MFD_CLOEXEC)};
  ASSERT_EQ(::ftruncate(file.get(), 65536), 0);
  EXPECT_TRUE(GuestScreen::create(file, {.offset = 0, .width = 128, .height = 128, .pitch = 512}).has_value());
  EXPECT_FALSE(GuestScreen::create(file, {.offset = 4096, .width = 128, .height = 128, .pitch = 512}).has_value());
  EXPECT_FALSE(GuestScreen::create(file, {.offset = ~0ULL - 100, .width = 1, .height = 1, .pitch = 4}).has_value());
  EXPECT_FALSE(GuestScreen::create(file, {.offset = 0, .width = 128, .height = 128, .pitch = 500}).has_value());
  EXPECT_FALSE(GuestScreen::create(file, {.offset = 0, .width = 0, .height = 128, .pitch = 500}).has_value());
  EXPECT_FALSE(GuestScreen::create(file, {.offset = 0, .width = 128, .height = 128, .pitch = 512, .depth = 24}).has_value());
}

TEST(ScreenView, shows_what_the_guest_draws) {
  const SharedPixels pixels(320, 200);
  ScreenView view;
  view.resize(320, 200);
  view.show_screen(pixels.screen);
  pixels.set(17, 40, 0xFF8040);
  view.damage({17, 40, 1, 1});
  EXPECT_EQ(view.grab().toImage().pixelColor(17, 40), QColor(0xFF, 0x80, 0x40));
  EXPECT_EQ(view.grab().toImage().pixelColor(18, 40), QColor(Qt::black));
}

TEST(ScreenView, fit_keeps_the_shape_and_centres) {
  const SharedPixels pixels(400, 200);
  ScreenView view;
  view.resize(800, 600);
  view.show_screen(pixels.screen);
  EXPECT_EQ(view.picture_area(), QRectF(0, 100, 800, 400));
  view.set_fit(false);
  EXPECT_EQ(view.picture_area(), QRectF(200, 200, 400, 200));
}

TEST(ScreenView, a_part_of_a_unit_that_lacks_does_not_scale) {
  const SharedPixels pixels(801, 600);
  ScreenView view;
  view.resize(800, 600);
  view.show_screen(pixels.screen);
  EXPECT_EQ(view.picture_area().width(), 800) << "a whole unit does";
  view.resize(801, 600);
  EXPECT_EQ(view.picture_area(), QRectF(0, 0, 801, 600));
  view.resize(802, 600);
  EXPECT_EQ(view.picture_area(), QRectF(0, 0, 801, 600)) << "in the middle, but on a whole pixel";
}

TEST(ScreenView, places_become_the_guests_units) {
  const SharedPixels pixels(400, 200);
  ScreenView view;
  view.resize(800, 600);
  view.show_screen(pixels.screen);
  EXPECT_EQ(view.to_guest({0, 100}), QPoint(0, 0));
  EXPECT_EQ(view.to_guest({800, 500}), QPoint(32767, 32767));
  EXPECT_EQ(view.to_guest({400, 300}), QPoint(16384, 16384));
  EXPECT_EQ(view.to_guest({-50, 9000}), QPoint(0, 32767));
}

struct Heard {
  std::vector<Stroke> strokes;
  std::vector<Pointer> pointers;
  std::vector<int> commands;
  explicit Heard(ScreenView& view) {
    QObject::connect(&view, &ScreenView::struck, &view, [this](const auto& these) { strokes.insert(strokes.end(), these.begin(), these.end()); });
    QObject::connect(&view, &ScreenView::pointed, &view, [this](const auto& pointer) { pointers.push_back(pointer); });
    QObject::connect(&view, &ScreenView::host_command, &view, [this](int key) { commands.push_back(key); });
  }
};

void press(ScreenView& view, std::uint32_t code, int key, bool is_release = false) {
  QKeyEvent event(is_release ? QEvent::KeyRelease : QEvent::KeyPress, key, Qt::NoModifier, code + kNativeOffset, 0, 0);
  QApplication::sendEvent(&view, &event);
}

TEST(ScreenView, keys_go_to_the_guest_by_their_place) {
  ScreenView view;
  const Heard heard(view);
  press(view, KEY_Q, Qt::Key_A);  // an AZERTY host
  press(view, KEY_Q, Qt::Key_A, true);
  const std::vector<Stroke> expected = {{{.code = 0x10}, false}, {{.code = 0x10}, true}};
  EXPECT_EQ(heard.strokes, expected);
}

TEST(ScreenView, keys_held_when_the_focus_goes_are_released) {
  ScreenView view;
  const Heard heard(view);
  press(view, KEY_LEFTALT, Qt::Key_Alt);
  QFocusEvent away(QEvent::FocusOut);
  QApplication::sendEvent(&view, &away);
  ASSERT_EQ(heard.strokes.size(), 2U);
  EXPECT_TRUE(heard.strokes[1].is_release);
  press(view, KEY_LEFTALT, Qt::Key_Alt, true);
  EXPECT_EQ(heard.strokes.size(), 2U) << "released twice";
}

TEST(ScreenView, host_key_with_another_is_a_command_and_alone_grabs) {
  ScreenView view;
  const Heard heard(view);
  press(view, KEY_RIGHTCTRL, Qt::Key_Control);
  press(view, KEY_F, Qt::Key_F);
  press(view, KEY_F, Qt::Key_F, true);
  press(view, KEY_RIGHTCTRL, Qt::Key_Control, true);
  EXPECT_EQ(heard.commands, std::vector<int>{Qt::Key_F});
  EXPECT_TRUE(heard.strokes.empty());
  EXPECT_FALSE(view.grabs());
  press(view, KEY_RIGHTCTRL, Qt::Key_Control);
  press(view, KEY_RIGHTCTRL, Qt::Key_Control, true);
  EXPECT_TRUE(view.grabs());
}

TEST(ScreenView, wheel_sends_whole_notches_and_keeps_the_rest) {
  const SharedPixels pixels(400, 200);
  ScreenView view;
  view.resize(400, 200);
  view.show_screen(pixels.screen);
  const Heard heard(view);
  for (int i = 0; i < 3; ++i) {
    QWheelEvent event(QPointF(200, 100), QPointF(200, 100), {}, QPoint(0, 80), Qt::NoButton, Qt::NoModifier, Qt::NoScrollPhase, false);
    QApplication::sendEvent(&view, &event);
  }
  ASSERT_EQ(heard.pointers.size(), 3U);
  EXPECT_EQ(heard.pointers[0].wheel, 0);
  EXPECT_EQ(heard.pointers[1].wheel, 1);
  EXPECT_EQ(heard.pointers[2].wheel, 1);
  EXPECT_EQ(heard.pointers[2].x, 16384);
}

}  // namespace
}  // namespace bygone::window
