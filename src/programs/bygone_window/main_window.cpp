#include "programs/bygone_window/main_window.h"

#include <linux/input-event-codes.h>

#include <QAction>
#include <QCloseEvent>
#include <QFileDialog>
#include <QMenuBar>
#include <QMessageBox>
#include <QPushButton>
#include <QScreen>
#include <QStatusBar>

namespace bygone::window {
namespace {

/// Whether a machine in this state does what it is asked.
bool is_listening(MachineState state) {
  return state == MachineState::kRunning || state == MachineState::kPaused || state == MachineState::kShuttingDown;
}

}  // namespace

MainWindow::MainWindow(const QString& machine_name, MachineLink& link) : name_(machine_name), link_(link), view_(new ScreenView(this)) {
  setCentralWidget(view_);
  make_menus();
  make_status_bar();
  connect_link();
  show_state(MachineState::kConnecting);
  view_->setFocus();
}

void MainWindow::make_menus() {
  const auto add = [this](QMenu* menu, const QString& text, auto action) {
    QAction* made = menu->addAction(text);
    connect(made, &QAction::triggered, this, action);
    needs_machine_.push_back(made);
    return made;
  };
  QMenu* machine = menuBar()->addMenu(tr("&Machine"));
  pause_ = add(machine, tr("&Pause"), [this](bool checked) { link_.send(checked ? MachineCommand::kPause : MachineCommand::kResume); });
  pause_->setCheckable(true);
  add(machine, tr("&Save and close"), [this] {
    on_close_ = OnClose::kSave;
    close();
  });
  machine->addSeparator();
  add(machine, tr("Shut &down"), [this] { link_.send(MachineCommand::kShutDown); });
  add(machine, tr("&Reset…"), [this] { ask_then(tr("Reset %1? What its programs have not saved is lost.").arg(name_), MachineCommand::kReset); });
  add(machine, tr("&Turn off…"), [this] { ask_then(tr("Turn %1 off? What its programs have not saved is lost.").arg(name_), MachineCommand::kTurnOff); });
  machine->addSeparator();
  connect(machine->addAction(tr("&Close window…")), &QAction::triggered, this, &QWidget::close);

  QMenu* keyboard = menuBar()->addMenu(tr("&Keyboard"));
  add(keyboard, tr("Send Ctrl-Alt-&Del"), [this] { send_ctrl_alt_delete(); });
  grab_ = add(keyboard, tr("&All keys to the guest (right Ctrl)"), [this](bool checked) { view_->set_grab(checked); });
  grab_->setCheckable(true);

  QMenu* show = menuBar()->addMenu(tr("&View"));
  full_screen_ = show->addAction(tr("&Full screen (right Ctrl+F)"));
  full_screen_->setCheckable(true);
  connect(full_screen_, &QAction::triggered, this, [this](bool checked) { set_full_screen(checked); });
  fit_ = show->addAction(tr("Scale to &fit the window"));
  fit_->setCheckable(true);
  fit_->setChecked(true);
  connect(fit_, &QAction::toggled, view_, &ScreenView::set_fit);
  follow_ = show->addAction(tr("&Guest's screen follows the window"));
  follow_->setCheckable(true);
  follow_->setChecked(true);

  QMenu* dvd = menuBar()->addMenu(tr("&DVD"));
  add(dvd, tr("&Insert…"), [this] { choose_dvd(); });
  eject_ = add(dvd, tr("&Eject"), [this] { link_.eject_dvd(); });
}

void MainWindow::make_status_bar() {
  state_label_ = new QLabel(this);
  disk_light_ = new QLabel(tr("Disk"), this);
  network_light_ = new QLabel(tr("Network"), this);
  statusBar()->addWidget(state_label_, 1);
  for (QLabel* light : {disk_light_, network_light_}) {
    light->setEnabled(false);
    statusBar()->addPermanentWidget(light);
  }
}

void MainWindow::connect_link() {
  connect(view_, &ScreenView::struck, &link_, [this](const std::vector<Stroke>& strokes) { link_.strike(strokes); });
  connect(view_, &ScreenView::pointed, &link_, [this](const Pointer& pointer) { link_.point(pointer); });
  connect(view_, &ScreenView::room_changed, this, [this](QSize room) {
    if (follow_->isChecked() && state_ == MachineState::kRunning) link_.resize_screen(room);
  });
  connect(view_, &ScreenView::grab_changed, grab_, &QAction::setChecked);
  connect(view_, &ScreenView::host_command, this, &MainWindow::run_host_command);
  connect(&link_, &MachineLink::screen_changed, this, &MainWindow::show_screen);
  connect(&link_, &MachineLink::damaged, view_, &ScreenView::damage);
  connect(&link_, &MachineLink::pointer_shaped, view_, &ScreenView::show_pointer);
  connect(&link_, &MachineLink::state_changed, this, &MainWindow::show_state);
  connect(&link_, &MachineLink::active, this, [this](bool disk, bool network) {
    disk_light_->setEnabled(disk);
    network_light_->setEnabled(network);
  });
  connect(&link_, &MachineLink::dvd_changed, this, [this](const QString& path) {
    eject_->setEnabled(!path.isEmpty());
    eject_->setText(path.isEmpty() ? tr("&Eject") : tr("&Eject %1").arg(QFileInfo(path).fileName()));
  });
  connect(&link_, &MachineLink::failed, this, [this](const QString& what) {
    close_when_off_ = false;
    QMessageBox::warning(this, name_, what);
  });
}

void MainWindow::show_state(MachineState state) {
  state_ = state;
  const QString text = state_text();
  setWindowTitle(tr("%1 – Bygone").arg(state == MachineState::kRunning ? name_ : tr("%1 (%2)").arg(name_, text)));
  state_label_->setText(text);
  view_->show_text(state == MachineState::kOff ? tr("%1 is off").arg(name_) : tr("%1 shows no picture yet").arg(name_));
  pause_->setChecked(state == MachineState::kPaused);
  for (QAction* action : needs_machine_) action->setEnabled(is_listening(state));
  if (state == MachineState::kOff && close_when_off_) close();
}

QString MainWindow::state_text() const {
  switch (state_) {
    case MachineState::kConnecting: return tr("starting");
    case MachineState::kRunning: return tr("running");
    case MachineState::kPaused: return tr("paused");
    case MachineState::kSaving: return tr("being saved");
    case MachineState::kShuttingDown: return tr("shutting down");
    case MachineState::kOff: break;
  }
  return tr("off");
}

void MainWindow::show_screen(const std::shared_ptr<GuestScreen>& screen) {
  view_->show_screen(screen);
  if (!screen || sized_once_) return;
  sized_once_ = true;
  if (isFullScreen() || isMaximized()) return;
  // The guest's pixels one to one, where the desktop has room for them.
  const QSize around = size() - view_->size();
  resize((view_->sizeHint() + around).boundedTo(this->screen()->availableSize()));
}

void MainWindow::run_host_command(int key) {
  switch (key) {
    case Qt::Key_F: set_full_screen(!isFullScreen()); break;
    case Qt::Key_Delete: send_ctrl_alt_delete(); break;
    case Qt::Key_P: pause_->trigger(); break;
    case Qt::Key_Q: close(); break;
    default: break;
  }
}

void MainWindow::send_ctrl_alt_delete() {
  std::vector<Stroke> strokes;
  constexpr std::uint32_t kKeys[] = {KEY_LEFTCTRL, KEY_LEFTALT, KEY_DELETE};
  for (const std::uint32_t key : kKeys) strokes.push_back({scan_codes(key)[0], false});
  for (const std::uint32_t key : kKeys) strokes.push_back({scan_codes(key)[0], true});
  link_.strike(strokes);
}

void MainWindow::ask_then(const QString& question, MachineCommand command) {
  if (QMessageBox::question(this, name_, question) == QMessageBox::Yes) link_.send(command);
}

void MainWindow::choose_dvd() {
  const QString path = QFileDialog::getOpenFileName(this, tr("Insert a DVD"), {}, tr("DVD images (*.iso);;All files (*)"));
  if (!path.isEmpty()) link_.insert_dvd(path);
}

void MainWindow::set_full_screen(bool full) {
  menuBar()->setVisible(!full);
  statusBar()->setVisible(!full);
  full_screen_->setChecked(full);
  if (full) {
    showFullScreen();
  } else {
    showNormal();
  }
}

MainWindow::OnClose MainWindow::ask_on_close() {
  QMessageBox box(QMessageBox::Question, name_, tr("%1 is %2. What shall become of it?").arg(name_, state_text()), QMessageBox::Cancel, this);
  const QPushButton* save = box.addButton(tr("&Save"), QMessageBox::AcceptRole);
  const QPushButton* shut_down = box.addButton(tr("Shut &down"), QMessageBox::DestructiveRole);
  const QPushButton* keep = box.addButton(tr("&Keep running"), QMessageBox::NoRole);
  box.exec();
  if (box.clickedButton() == save) return OnClose::kSave;
  if (box.clickedButton() == shut_down) return OnClose::kShutDown;
  if (box.clickedButton() == keep) return OnClose::kKeepRunning;
  return OnClose::kAsk;
}

void MainWindow::closeEvent(QCloseEvent* event) {
  OnClose choice = is_listening(state_) ? on_close_ : OnClose::kKeepRunning;
  if (choice == OnClose::kAsk) choice = ask_on_close();
  on_close_ = OnClose::kAsk;  // a choice holds once
  if (choice == OnClose::kKeepRunning) return event->accept();
  event->ignore();
  if (choice == OnClose::kAsk) return;
  close_when_off_ = true;
  link_.send(choice == OnClose::kSave ? MachineCommand::kSave : MachineCommand::kShutDown);
}

}  // namespace bygone::window
