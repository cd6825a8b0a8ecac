// Carries out what clients of the control socket ask of the machine. Threading: the control loop's thread.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "library/definition.h"
#include "machine/gen2/machine.h"
#include "programs/bygone_vm/console_hub.h"
#include "programs/bygone_vm/screen_feed.h"
#include "programs/bygone_vm/screen_follower.h"
#include "programs/bygone_vm/typist.h"
#include "service/control/server.h"

namespace bygone::programs::vm {

class MachineHandler final : public service::control::Handler {
 public:
  /// All outlive the handler.
  ~MachineHandler() override;
  MachineHandler(EventLoop& loop, machine::gen2::Machine& machine, ScreenFeed& feed, ConsoleHub& console, library::Definition definition,
                 std::string engine, std::filesystem::path saved_state, Log log);
  /// Whether the machine ends because its state has been saved.
  [[nodiscard]] bool is_saved() const { return is_saved_; }
  void set_server(service::control::Server* server) { server_ = server; }

  void handle(service::control::RequestBody request, std::vector<UniqueFd> files, service::control::Reply reply) override;
  service::control::ScreenNow screen() override { return feed_.screen(); }

  /// Asks the guest to shut down, or pulls the plug.
  void stop(bool is_forced);

 private:
  using Reply = service::control::Reply;
  using Files = std::vector<UniqueFd>;
  // One for each request but Watch, which is the server's.
  void answer(const service::control::request::Status&, const Files&, Reply reply);
  void answer(const service::control::request::Pause&, const Files&, Reply reply);
  void answer(const service::control::request::Resume&, const Files&, Reply reply);
  void answer(const service::control::request::Reset&, const Files&, Reply reply);
  void answer(const service::control::request::Save&, const Files&, Reply reply);
  void answer(const service::control::request::Stop& request, const Files&, Reply reply);
  void answer(const service::control::request::Inspect&, const Files&, Reply reply);
  void answer(const service::control::request::Screenshot&, const Files&, Reply reply);
  void answer(const service::control::request::Type& request, const Files&, Reply reply);
  void answer(const service::control::request::Keys& request, const Files&, Reply reply);
  void answer(const service::control::request::Pointer& request, const Files&, Reply reply);
  void answer(const service::control::request::Click& request, const Files&, Reply reply);
  void answer(const service::control::request::Resize& request, const Files&, Reply reply);
  void answer(const service::control::request::Eject& request, const Files&, Reply reply);
  void answer(const service::control::request::Insert& request, Files files, Reply reply);
  void answer(const service::control::request::Console&, const Files&, Reply reply);
  void answer(const service::control::request::Watch&, const Files&, Reply reply);

  void on_saved(Result<void> outcome, service::control::State before, Reply reply);
  void set_state(service::control::State state);
  void point(std::vector<devices::mouse::PointerState> states, Reply reply);
  /// Runs `work` on the devices' loop and gives what it returns to `reply` here.
  void on_devices(std::move_only_function<Result<void>(machine::gen2::HumanDevices)> work, Reply reply);
  [[nodiscard]] Result<std::uint8_t> lun_of_drive(std::uint8_t drive) const;

  EventLoop& loop_;
  machine::gen2::Machine& machine_;
  ScreenFeed& feed_;
  ConsoleHub& console_;
  const library::Definition definition_;
  const std::string engine_;
  const std::filesystem::path saved_state_;
  std::shared_ptr<ScreenFollower> follower_;  ///< null: there are no sockets to reach an agent by
  const std::shared_ptr<Typist> typist_;
  bool is_saved_ = false;
  std::thread saver_;
  Log log_;
  service::control::Server* server_ = nullptr;
  service::control::State state_ = service::control::State::kRunning;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace bygone::programs::vm
