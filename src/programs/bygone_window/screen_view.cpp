#include "programs/bygone_window/screen_view.h"

#include <linux/input-event-codes.h>

#include <QKeyEvent>
#include <QMouseEvent>
#include <QPaintEvent>
#include <QPainter>
#include <QWheelEvent>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

namespace bygone::window {
namespace {

constexpr std::uint32_t kHostKey = KEY_RIGHTCTRL;
constexpr std::uint32_t kGuestRange = 32767;
constexpr int kNotch = 120;  // eighths of a degree, see QWheelEvent::angleDelta
constexpr std::chrono::milliseconds kSettle{250};

std::uint32_t linux_code(const QKeyEvent& event) {
  return event.nativeScanCode() > kNativeOffset ? event.nativeScanCode() - kNativeOffset : 0;
}

std::uint8_t guest_buttons(Qt::MouseButtons buttons) {
  constexpr std::array<Qt::MouseButton, 5> kOrder = {Qt::LeftButton, Qt::RightButton, Qt::MiddleButton, Qt::BackButton, Qt::ForwardButton};
  unsigned bits = 0;
  for (std::size_t i = 0; i < kOrder.size(); ++i) {
    if (buttons.testFlag(kOrder[i])) bits |= 1U << i;
  }
  return static_cast<std::uint8_t>(bits);
}

// Whole notches out of what has come so far; the rest waits for more.
std::int8_t take_notches(int& rest, int delta) {
  rest += delta;
  const int notches = std::clamp(rest / kNotch, -127, 127);
  rest -= notches * kNotch;
  return static_cast<std::int8_t>(notches);
}

}  // namespace

ScreenView::ScreenView(QWidget* parent) : QWidget(parent) {
  setFocusPolicy(Qt::StrongFocus);
  setMouseTracking(true);
  setAttribute(Qt::WA_OpaquePaintEvent);
  setMinimumSize(160, 120);
  settle_.setSingleShot(true);
  settle_.setInterval(kSettle);
  connect(&settle_, &QTimer::timeout, this, [this] { Q_EMIT room_changed(room()); });
}

void ScreenView::show_screen(std::shared_ptr<GuestScreen> screen) {
  const bool same_size = screen && screen_ && screen->size() == screen_->size();
  screen_ = std::move(screen);
  if (!screen_) unsetCursor();
  if (!same_size) updateGeometry();
  update();
}

void ScreenView::show_text(const QString& text) {
  text_ = text;
  update();
}

void ScreenView::damage(const QRect& area) {
  if (!screen_) return;
  const QRectF shown = picture_area();
  const double across = shown.width() / screen_->size().width();
  const double down = shown.height() / screen_->size().height();
  const QRectF changed(shown.x() + area.x() * across, shown.y() + area.y() * down, area.width() * across, area.height() * down);
  update(changed.toAlignedRect().adjusted(-1, -1, 1, 1));  // smooth scaling reaches one pixel further
}

void ScreenView::show_pointer(const QImage& shape, QPoint hot_spot) {
  if (shape.isNull()) {
    setCursor(Qt::BlankCursor);
    return;
  }
  QPixmap picture = QPixmap::fromImage(shape);
  picture.setDevicePixelRatio(devicePixelRatioF());
  const QPointF hot = QPointF(hot_spot) / devicePixelRatioF();
  setCursor(QCursor(picture, qRound(hot.x()), qRound(hot.y())));
}

void ScreenView::set_fit(bool fit) {
  fit_ = fit;
  update();
}

void ScreenView::set_grab(bool grab) {
  if (grab == grabs_) return;
  grabs_ = grab;
  if (grab) {
    grabKeyboard();
  } else {
    releaseKeyboard();
    release_all();
  }
  Q_EMIT grab_changed(grab);
}

QRectF ScreenView::picture_area() const {
  if (!screen_) return {};
  const double ratio = devicePixelRatioF();
  QSizeF size = QSizeF(screen_->size()) / ratio;
  const QSizeF fitting = size.scaled(QSizeF(this->size()), Qt::KeepAspectRatio);
  // With a ratio such as 1.25 the window that has room for a screen may lack a fraction of a unit: no reason to blur it.
  const bool has_room = std::abs(fitting.width() - size.width()) < 1 && std::abs(fitting.height() - size.height()) < 1;
  if (fit_ && !has_room) size = fitting;
  const auto centred = [ratio](double room, double side) { return std::floor((room - side) / 2 * ratio) / ratio; };  // on a whole pixel
  return {QPointF(centred(width(), size.width()), centred(height(), size.height())), size};
}

QPoint ScreenView::to_guest(QPointF place) const {
  const QRectF shown = picture_area();
  if (shown.isEmpty()) return {};
  const auto scaled = [](double part) { return static_cast<int>(std::lround(std::clamp(part, 0.0, 1.0) * kGuestRange)); };
  return {scaled((place.x() - shown.x()) / shown.width()), scaled((place.y() - shown.y()) / shown.height())};
}

// Whole pixels only: a guest's screen of this size is seen whole.
QSize ScreenView::room() const {
  const QSizeF pixels = QSizeF(size()) * devicePixelRatioF();
  return {static_cast<int>(std::floor(pixels.width())), static_cast<int>(std::floor(pixels.height()))};
}

QSize ScreenView::sizeHint() const {
  if (!screen_) return {1024, 768};
  const QSizeF needed = QSizeF(screen_->size()) / devicePixelRatioF();
  return {static_cast<int>(std::ceil(needed.width())), static_cast<int>(std::ceil(needed.height()))};
}

void ScreenView::paintEvent(QPaintEvent* event) {
  QPainter painter(this);
  const QRectF shown = picture_area();
  for (const QRect& part : QRegion(event->rect()).subtracted(QRegion(shown.toRect()))) painter.fillRect(part, Qt::black);
  if (!screen_) {
    painter.setPen(Qt::lightGray);
    painter.drawText(rect(), Qt::AlignCenter | Qt::TextWordWrap, text_);
    return;
  }
  const bool is_exact = qFuzzyCompare(shown.width() * devicePixelRatioF(), screen_->size().width());
  painter.setRenderHint(QPainter::SmoothPixmapTransform, !is_exact);
  painter.setClipRect(event->rect());
  painter.drawImage(shown, screen_->image());
}

void ScreenView::resizeEvent(QResizeEvent* event) {
  QWidget::resizeEvent(event);
  settle_.start();
}

void ScreenView::strike(std::uint32_t code, bool is_release) {
  const auto codes = scan_codes(code);
  if (codes.empty()) return;
  if (is_release) {
    if (held_.erase(code) == 0) return;
  } else {
    held_.insert(code);
  }
  std::vector<Stroke> strokes;
  for (const ScanCode& each : codes) strokes.push_back({each, is_release});
  Q_EMIT struck(strokes);
}

void ScreenView::release_all() {
  for (const std::uint32_t code : std::set<std::uint32_t>(held_)) strike(code, true);
}

void ScreenView::keyPressEvent(QKeyEvent* event) {
  const std::uint32_t code = linux_code(*event);
  if (code == kHostKey) {
    if (!event->isAutoRepeat()) press_host_key();
  } else if (host_key_held_) {
    host_key_used_ = true;
    if (!event->isAutoRepeat()) Q_EMIT host_command(event->key());
  } else {
    strike(code, false);
  }
  event->accept();
}

void ScreenView::keyReleaseEvent(QKeyEvent* event) {
  event->accept();
  if (event->isAutoRepeat()) return;
  const std::uint32_t code = linux_code(*event);
  if (code == kHostKey) {
    release_host_key();
  } else {
    strike(code, true);
  }
}

void ScreenView::press_host_key() {
  host_key_held_ = true;
  host_key_used_ = false;
}

void ScreenView::release_host_key() {
  const bool alone = host_key_held_ && !host_key_used_;
  host_key_held_ = false;
  if (alone) set_grab(!grabs_);
}

void ScreenView::point(QPointF place, Qt::MouseButtons buttons, int wheel, int pan) {
  if (!screen_) return;
  const QPoint guest = to_guest(place);
  Q_EMIT pointed({.x = static_cast<std::uint16_t>(guest.x()),
                  .y = static_cast<std::uint16_t>(guest.y()),
                  .buttons = guest_buttons(buttons),
                  .wheel = take_notches(wheel_rest_, wheel),
                  .pan = take_notches(pan_rest_, pan)});
}

void ScreenView::mousePressEvent(QMouseEvent* event) { point(event->position(), event->buttons(), 0, 0); }
void ScreenView::mouseReleaseEvent(QMouseEvent* event) { point(event->position(), event->buttons(), 0, 0); }
void ScreenView::mouseMoveEvent(QMouseEvent* event) { point(event->position(), event->buttons(), 0, 0); }

void ScreenView::wheelEvent(QWheelEvent* event) {
  point(event->position(), event->buttons(), event->angleDelta().y(), -event->angleDelta().x());
  event->accept();
}

void ScreenView::focusOutEvent(QFocusEvent* event) {
  // The releases of keys held now go elsewhere.
  release_all();
  host_key_held_ = false;
  set_grab(false);
  QWidget::focusOutEvent(event);
}

// Tab belongs to the guest.
bool ScreenView::focusNextPrevChild(bool /*next*/) { return false; }

// Shortcuts of the window's menus would swallow Alt and function keys: every key is the guest's.
bool ScreenView::event(QEvent* event) {
  if (event->type() == QEvent::ShortcutOverride) {
    event->accept();
    return true;
  }
  return QWidget::event(event);
}

}  // namespace bygone::window
