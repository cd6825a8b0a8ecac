// What the window knows of the machine it shows, and what it can ask of it. The window itself never sees a socket.
//
// Threading: the window's thread. Requests return at once; what became of them arrives as a signal.
#pragma once

#include <QImage>
#include <QObject>
#include <QPoint>
#include <QRect>
#include <QString>
#include <memory>
#include <vector>

#include "programs/bygone_window/guest_screen.h"
#include "programs/bygone_window/screen_view.h"

namespace bygone::window {

enum class MachineState { kConnecting, kRunning, kPaused, kSaving, kShuttingDown, kOff };

enum class MachineCommand { kPause, kResume, kReset, kShutDown, kTurnOff, kSave };

class MachineLink : public QObject {
  Q_OBJECT
 public:
  using QObject::QObject;

  virtual void strike(const std::vector<Stroke>& strokes) = 0;
  virtual void point(const Pointer& pointer) = 0;
  /// Asks the guest to make its screen this large, in its pixels.
  virtual void resize_screen(QSize size) = 0;
  virtual void send(MachineCommand command) = 0;
  virtual void insert_dvd(const QString& path) = 0;
  virtual void eject_dvd() = 0;

 Q_SIGNALS:
  /// Null: the guest shows nothing now.
  void screen_changed(const std::shared_ptr<GuestScreen>& screen);
  void damaged(const QRect& area);
  /// A null image: no pointer.
  void pointer_shaped(const QImage& shape, QPoint hot_spot);
  void state_changed(MachineState state);
  /// Since the last time: whether disks and network adapters had work.
  void active(bool disk, bool network);
  /// What was inserted, empty after an eject.
  void dvd_changed(const QString& path);
  /// A request failed; for the person's eyes.
  void failed(const QString& what);
};

}  // namespace bygone::window
