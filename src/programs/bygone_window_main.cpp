// bygone-window: the desktop of one running machine. Reconnects to a machine that is started again.
#include <QApplication>
#include <QCommandLineParser>
#include <QTimer>
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string_view>

#include "programs/bygone_window/control_link.h"
#include "programs/bygone_window/main_window.h"

namespace {

constexpr std::chrono::milliseconds kRetry{500};

/// What Qt says while it looks for a desktop. It aborts when there is none; a person is told instead.
void on_message(QtMsgType type, const QMessageLogContext& /*context*/, const QString& text) {
  if (type != QtFatalMsg) {
    std::cerr << text.toStdString() << '\n';
    return;
  }
  std::cerr << "bygone-window: there is no desktop that shows a window (see DISPLAY and WAYLAND_DISPLAY)\n"
               "  bygone screenshot, type and click do without one\n"
            << std::flush;
  std::_Exit(1);
}

/// Help is for every terminal, with a desktop or without.
std::unique_ptr<QCoreApplication> make_application(int& argc, char** argv) {
  const auto asks_for_help = [](const char* word) { return std::string_view(word) == "--help" || std::string_view(word) == "-h"; };
  if (std::any_of(argv, argv + argc, asks_for_help)) return std::make_unique<QCoreApplication>(argc, argv);
  const QtMessageHandler usual = qInstallMessageHandler(on_message);
  std::unique_ptr<QCoreApplication> application = std::make_unique<QApplication>(argc, argv);
  qInstallMessageHandler(usual);
  return application;
}

}  // namespace

int main(int argc, char** argv) {
  const std::unique_ptr<QCoreApplication> application = make_application(argc, argv);
  QCoreApplication::setApplicationName("bygone-window");
  QApplication::setDesktopFileName("bygone");
  QCommandLineParser parser;
  parser.setApplicationDescription(
      "Shows the screen of a running machine. Right Ctrl gives the guest all keys of the desktop and takes them back; with F it switches\n"
      "full screen, with Del it sends Ctrl-Alt-Del, with P it pauses, with Q it closes.\n\nExample: bygone-window \"Old Office\"");
  parser.addHelpOption();
  parser.addPositionalArgument("machine", "the machine's name");
  const QCommandLineOption full("full-screen", "starts with the whole screen");
  const QCommandLineOption wait("wait", "waits for a machine that does not run yet");
  parser.addOptions({full, wait});
  parser.process(*application);
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
