// The part of the window that shows the guest's screen and takes keys and pointer for it.
//
// Pixels: "fit" scales the picture to the window, keeping its shape; otherwise a guest pixel is one pixel of the display, whatever the
// display's scale. Keys: everything goes to the guest but the host key (right Ctrl) and what is pressed while it is held.
// Threading: the window's thread.
#pragma once

#include <QElapsedTimer>
#include <QTimer>
#include <QWidget>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "programs/bygone_window/guest_screen.h"
#include "programs/bygone_window/host_keys.h"

namespace bygone::window {

/// One press or release for the guest's keyboard.
struct Stroke {
  ScanCode code;
  bool is_release = false;
  friend bool operator==(const Stroke&, const Stroke&) = default;
};

/// Where the guest's pointer shall be: `x`, `y` 0-32767 over the screen; buttons as the guest's mouse numbers them.
struct Pointer {
  std::uint16_t x = 0, y = 0;
  std::uint8_t buttons = 0;  ///< bit 0 left, 1 right, 2 middle, 3 back, 4 forward
  std::int8_t wheel = 0;     ///< notches, away from the person positive
  std::int8_t pan = 0;       ///< notches, to the right positive
  friend bool operator==(const Pointer&, const Pointer&) = default;
};

class ScreenView final : public QWidget {
  Q_OBJECT
 public:
  explicit ScreenView(QWidget* parent = nullptr);

  /// Null: the machine shows nothing; `text` is shown in its place.
  void show_screen(std::shared_ptr<GuestScreen> screen);
  void show_text(const QString& text);
  /// Guest pixels that changed.
  void damage(const QRect& area);
  /// The guest's pointer; a null image hides it.
  void show_pointer(const QImage& shape, QPoint hot_spot);

  void set_fit(bool fit);
  [[nodiscard]] bool fits() const { return fit_; }
  /// All keys of the desktop go to the guest, until the host key is pressed and released alone.
  void set_grab(bool grab);
  [[nodiscard]] bool grabs() const { return grabs_; }

  /// Where the picture is drawn, in this widget's coordinates.
  [[nodiscard]] QRectF picture_area() const;
  /// The place in the guest's units (0-32767) under a place of this widget; clipped to the picture.
  [[nodiscard]] QPoint to_guest(QPointF place) const;
  /// How many guest pixels the view has room for, one for each pixel of the display.
  [[nodiscard]] QSize room() const;
  [[nodiscard]] QSize sizeHint() const override;

 Q_SIGNALS:
  void struck(const std::vector<Stroke>& strokes);
  void pointed(const Pointer& pointer);
  void grab_changed(bool grabs);
  /// A key pressed while the host key was held; a Qt::Key.
  void host_command(int key);
  /// The room changed and has stayed so for a moment.
  void room_changed(QSize pixels);

 protected:
  void paintEvent(QPaintEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void keyReleaseEvent(QKeyEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void mouseReleaseEvent(QMouseEvent* event) override;
  void mouseMoveEvent(QMouseEvent* event) override;
  void wheelEvent(QWheelEvent* event) override;
  void focusOutEvent(QFocusEvent* event) override;
  bool focusNextPrevChild(bool next) override;
  bool event(QEvent* event) override;

 private:
  void strike(std::uint32_t linux_code, bool is_release);
  void release_all();
  void point(QPointF place, Qt::MouseButtons buttons, int wheel, int pan);
  void press_host_key();
  void release_host_key();

  std::shared_ptr<GuestScreen> screen_;
  QString text_;
  bool fit_ = true;
  bool grabs_ = false;
  bool host_key_held_ = false;
  bool host_key_used_ = false;  // with another key, since it went down
  std::set<std::uint32_t> held_;  // Linux codes that the guest thinks are down
  int wheel_rest_ = 0, pan_rest_ = 0;  // eighths of a degree not yet a notch
  QTimer settle_;
};

}  // namespace bygone::window
