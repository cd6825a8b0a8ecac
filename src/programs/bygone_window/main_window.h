// Desktop mode: one machine's screen in a window, with what a person does to a machine in its menus.
// Closing the window never ends the machine by itself: it asks.
//
// Threading: the window's thread.
#pragma once

#include <QLabel>
#include <QMainWindow>
#include <QTimer>

#include "programs/bygone_window/machine_link.h"
#include "programs/bygone_window/screen_view.h"

class QAction;

namespace bygone::window {

class MainWindow final : public QMainWindow {
  Q_OBJECT
 public:
  /// `link` outlives the window.
  MainWindow(const QString& machine_name, MachineLink& link);

  [[nodiscard]] ScreenView& screen_view() { return *view_; }

  /// What to do with the machine when its window closes.
  enum class OnClose { kAsk, kSave, kShutDown, kKeepRunning };
  void set_on_close(OnClose choice) { on_close_ = choice; }
  void set_full_screen(bool full);

 protected:
  void closeEvent(QCloseEvent* event) override;

 private:
  void make_menus();
  void make_status_bar();
  void connect_link();
  void show_state(MachineState state);
  [[nodiscard]] QString state_text() const;
  void show_screen(const std::shared_ptr<GuestScreen>& screen);
  void run_host_command(int key);
  void send_ctrl_alt_delete();
  void ask_then(const QString& question, MachineCommand command);
  void choose_dvd();
  [[nodiscard]] OnClose ask_on_close();

  QString name_;
  MachineLink& link_;
  MachineState state_ = MachineState::kConnecting;
  OnClose on_close_ = OnClose::kAsk;
  bool close_when_off_ = false;
  bool sized_once_ = false;

  ScreenView* view_;
  QAction* pause_ = nullptr;
  QAction* full_screen_ = nullptr;
  QAction* fit_ = nullptr;
  QAction* follow_ = nullptr;
  QAction* grab_ = nullptr;
  QAction* eject_ = nullptr;
  std::vector<QAction*> needs_machine_;
  QLabel* state_label_ = nullptr;
  QLabel* disk_light_ = nullptr;
  QLabel* network_light_ = nullptr;
};

}  // namespace bygone::window
