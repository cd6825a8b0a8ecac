// The machine behind the window, reached over its control socket.
//
//   events ← one connection, read when it has something          keys and pointer → the same, without waiting for replies
//   commands → a worker and a connection of their own each: saving takes seconds, and the window must not stand still
//
// Threading: the window's thread.
#pragma once

#include <QSocketNotifier>
#include <QThreadPool>
#include <QTimer>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "programs/bygone_window/machine_link.h"
#include "service/control/client.h"

namespace bygone::window {

class ControlLink final : public MachineLink {
  Q_OBJECT
 public:
  explicit ControlLink(std::string machine);
  ~ControlLink() override;

  /// Connects and asks for the screen. Errors: as service::control::Client::connect.
  [[nodiscard]] Result<void> open();
  [[nodiscard]] bool is_open() const { return client_ != nullptr; }

  void strike(const std::vector<Stroke>& strokes) override;
  void point(const Pointer& pointer) override;
  void resize_screen(QSize size) override;
  void send(MachineCommand command) override;
  void insert_dvd(const QString& path) override;
  void eject_dvd() override;

 private:
  using Reply = Result<service::control::Packet>;
  void tell(service::control::RequestBody body);
  /// Asks on a connection of its own and calls `then` here with what came back.
  void ask(service::control::RequestBody body, UniqueFd file, std::function<void(const Reply&)> then);
  void take_events();
  void take(service::control::ClientEvent& event);
  void take_mode(const service::control::ScreenMode& mode, const std::vector<UniqueFd>& files);
  void take_shape(const service::control::PointerShape& shape, const std::vector<UniqueFd>& files);
  void poll();
  void take_status(const Reply& reply);
  void take_first_state(const service::control::Packet& status);
  void tell_state(service::control::State state);
  void lose();

  const std::string machine_;
  std::unique_ptr<service::control::Client> client_;
  std::unique_ptr<QSocketNotifier> notifier_;
  QTimer poll_;
  bool status_awaited_ = false;
  bool state_known_ = false;
  std::uint64_t disk_requests_ = 0, network_packets_ = 0;
  QImage shape_;
  QPoint hot_spot_;
  bool pointer_visible_ = true;
  QThreadPool workers_;
};

}  // namespace bygone::window
