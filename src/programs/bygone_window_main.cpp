// bygone-window: the desktop of one running machine. Reconnects to a machine that is started again.
#include <QApplication>
#include <QCommandLineParser>
#include <QTimer>
#include <chrono>
#include <iostream>

#include "programs/bygone_window/control_link.h"
#include "programs/bygone_window/main_window.h"

namespace {

constexpr std::chrono::milliseconds kRetry{500};

}  // namespace

int main(int argc, char** argv) {
  QApplication application(argc, argv);
  QApplication::setApplicationName("bygone-window");
  QApplication::setDesktopFileName("bygone");
  QCommandLineParser parser;
  parser.setApplicationDescription(
      "Shows the screen of a running machine. Right Ctrl lets the keyboard go; right Ctrl with F full screen, with Del Ctrl-Alt-Del,\n"
      "with P pause, with Q close.\n\nExample: bygone-window \"Old Office\"");
  parser.addHelpOption();
  parser.addPositionalArgument("machine", "the machine's name");
  const QCommandLineOption full("full-screen", "starts with the whole screen");
  const QCommandLineOption wait("wait", "waits for a machine that does not run yet");
  parser.addOptions({full, wait});
  parser.process(application);
  if (parser.positionalArguments().size() != 1) {
    std::cerr << "bygone-window: name one machine; bygone list shows them\n";
    return 2;
  }
  const QString name = parser.positionalArguments().first();

  bygone::window::ControlLink link(name.toStdString());
  bygone::window::MainWindow window(name, link);
  if (const auto opened = link.open(); !opened && !parser.isSet(wait)) {
    std::cerr << "bygone-window: " << opened.error().text() << '\n';
    return 1;
  }
  // A machine that ended may be started again, by whoever: the window is there for it.
  QTimer reconnect;
  QObject::connect(&reconnect, &QTimer::timeout, &link, [&] {
    if (!link.is_open()) (void)link.open();
  });
  reconnect.start(kRetry);
  window.show();
  if (parser.isSet(full)) window.set_full_screen(true);
  return QApplication::exec();
}
