#include "programs/bygone_window/main_window.h"

#include <gtest/gtest.h>

#include <QAction>
#include <QApplication>
#include <QMenuBar>

namespace bygone::window {
namespace {

class FakeLink final : public MachineLink {
 public:
  void strike(const std::vector<Stroke>& given) override { strokes.insert(strokes.end(), given.begin(), given.end()); }
  void point(const Pointer& pointer) override { pointers.push_back(pointer); }
  void resize_screen(QSize size) override { sizes.push_back(size); }
  void send(MachineCommand command) override { commands.push_back(command); }
  void insert_dvd(const QString& path) override { dvd = path; }
  void eject_dvd() override { dvd.clear(); }

  std::vector<Stroke> strokes;
  std::vector<Pointer> pointers;
  std::vector<QSize> sizes;
  std::vector<MachineCommand> commands;
  QString dvd;
};

QAction* action(MainWindow& window, const QString& start) {
  for (QAction* each : window.findChildren<QAction*>()) {
    if (each->text().remove('&').startsWith(start)) return each;
  }
  ADD_FAILURE() << "no menu entry " << start.toStdString();
  return nullptr;
}

TEST(MainWindow, commands_wait_for_the_machine) {
  FakeLink link;
  MainWindow window("Old Office", link);
  EXPECT_FALSE(action(window, "Pause")->isEnabled());
  Q_EMIT link.state_changed(MachineState::kRunning);
  ASSERT_TRUE(action(window, "Pause")->isEnabled());
  action(window, "Pause")->trigger();
  Q_EMIT link.state_changed(MachineState::kPaused);
  EXPECT_TRUE(window.windowTitle().contains("paused"));
  action(window, "Pause")->trigger();
  EXPECT_EQ(link.commands, (std::vector{MachineCommand::kPause, MachineCommand::kResume}));
}

TEST(MainWindow, ctrl_alt_del_presses_three_keys_and_releases_them) {
  FakeLink link;
  MainWindow window("Old Office", link);
  Q_EMIT link.state_changed(MachineState::kRunning);
  action(window, "Send Ctrl-Alt-Del")->trigger();
  ASSERT_EQ(link.strokes.size(), 6U);
  EXPECT_EQ(link.strokes[2], (Stroke{{.code = 0x53, .is_e0 = true}, false}));
  EXPECT_TRUE(link.strokes[5].is_release);
}

TEST(MainWindow, closing_saves_and_stays_until_the_machine_is_off) {
  FakeLink link;
  MainWindow window("Old Office", link);
  window.show();
  Q_EMIT link.state_changed(MachineState::kRunning);
  window.set_on_close(MainWindow::OnClose::kSave);
  EXPECT_FALSE(window.close());
  EXPECT_EQ(link.commands, std::vector{MachineCommand::kSave});
  EXPECT_TRUE(window.isVisible());
  Q_EMIT link.state_changed(MachineState::kOff);
  EXPECT_FALSE(window.isVisible());
}

TEST(MainWindow, says_that_a_machine_is_being_saved_or_shuts_down) {
  FakeLink link;
  MainWindow window("Old Office", link);
  window.show();
  Q_EMIT link.state_changed(MachineState::kShuttingDown);
  EXPECT_TRUE(window.windowTitle().contains("shutting down"));
  EXPECT_TRUE(action(window, "Turn off")->isEnabled()) << "a guest may ignore it";
  Q_EMIT link.state_changed(MachineState::kSaving);
  EXPECT_TRUE(window.windowTitle().contains("being saved"));
  EXPECT_FALSE(action(window, "Turn off")->isEnabled());
  EXPECT_TRUE(window.close()) << "it needs no window for that, and can be asked nothing";
  EXPECT_TRUE(link.commands.empty());
}

TEST(MainWindow, a_machine_may_go_on_without_its_window) {
  FakeLink link;
  MainWindow window("Old Office", link);
  window.show();
  Q_EMIT link.state_changed(MachineState::kRunning);
  window.set_on_close(MainWindow::OnClose::kKeepRunning);
  EXPECT_TRUE(window.close());
  EXPECT_TRUE(link.commands.empty());
}

TEST(MainWindow, the_guest_follows_the_window) {
  FakeLink link;
  MainWindow window("Old Office", link);
  Q_EMIT link.state_changed(MachineState::kRunning);
  Q_EMIT window.screen_view().room_changed({1234, 777});
  EXPECT_EQ(link.sizes, std::vector<QSize>({{1234, 777}}));
  action(window, "Guest's screen follows")->trigger();
  Q_EMIT window.screen_view().room_changed({800, 600});
  EXPECT_EQ(link.sizes.size(), 1U);
}

TEST(MainWindow, lights_show_what_works) {
  FakeLink link;
  MainWindow window("Old Office", link);
  const auto lit = [&] {
    QStringList names;
    for (const QLabel* label : window.findChildren<QLabel*>()) {
      if ((label->text() == "Disk" || label->text() == "Network") && label->isEnabled()) names += label->text();
    }
    return names;
  };
  EXPECT_TRUE(lit().isEmpty());
  Q_EMIT link.active(true, false);
  EXPECT_EQ(lit(), QStringList("Disk"));
}

}  // namespace
}  // namespace bygone::window
