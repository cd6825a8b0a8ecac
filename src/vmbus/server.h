// The bus: binds the control plane to the synthetic interrupt controller and the devices to their channels.
//
//   vCPU thread   HvPostMessage ── copy ──> control loop ── Control ──> actions
//   vCPU thread   HvSignalEvent ─────────> the device's loop ── on_signal()
//   device loop   flush() ───────────────> SynIC event flag, vector
//   control loop  message to the guest ──> SynIC message slot; busy: again when the slot is free
//
// Threading: public functions from any thread but the loops' own, unless they say otherwise. The constructor's `control` loop
// and the devices' loops must run (each in one thread) while reset(), save(), restore() and inspect() are called: those wait
// for them. Destroy it after the loops have stopped.
// Lock order: `mutex_` alone; no call into devices, SynIC or loops is made with it held.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "hyperv/synic_port.h"
#include "memory/guest_memory.h"
#include "support/event_loop.h"
#include "support/log.h"
#include "support/result.h"
#include "vmbus/control.h"
#include "vmbus/device.h"

namespace bygone::vmbus {

class OpenedChannel;

class Server {
 public:
  /// All four outlive the server. `control` may also carry slow devices.
  Server(memory::GuestMemory& memory, hyperv::SynicPort& synic, EventLoop& control, Log log);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Puts a device on the bus; `loop` is where it is called. Also while the guest runs: the guest is told. Also from loops.
  /// Errors: kAlreadyExists (instance), kExhausted.
  [[nodiscard]] Result<void> add_device(Device& device, EventLoop& loop);
  /// Takes it off; `removed` is called on the control loop when nothing will call the device any more (it may be destroyed
  /// then). Also from loops. An offer should stand for a second or so before it is taken back: some guests crash otherwise.
  void remove_device(Device& device, std::move_only_function<void()> removed);

  /// A guest program connects to a service of the host's (hvsocket). Called on the control loop; answer by adding a device of
  /// the endpoint's instance or with refuse_socket(). Set before the machine runs; without it all are refused.
  using SocketConnector = std::function<void(const Guid& endpoint, const Guid& service)>;
  void set_socket_connector(SocketConnector connector);
  /// Also from loops.
  void refuse_socket(const Guid& endpoint, const Guid& service);
  /// Whether a socket's channel that is offered now would reach the guest. Also from loops.
  [[nodiscard]] bool takes_sockets();

  /// Machine reset; no vCPU runs. Returns when all devices have let go and have been reset.
  void reset();
  /// Waits until no channel is being opened or closed; no vCPU runs. Errors: kBusy.
  [[nodiscard]] Result<void> settle();
  /// The whole bus and its devices; no vCPU runs. The loops may be held, after settle(): then nothing happens between this look
  /// at the devices and one at guest memory. Errors: a device's, kBusy (a channel does not settle).
  [[nodiscard]] Result<nlohmann::json> save();
  /// Into a new server with the same devices, guest memory already restored, no vCPU running. Errors: kCorrupt, kNotFound,
  /// kUnsupported; the server is then only good for destruction.
  [[nodiscard]] Result<void> restore(const nlohmann::json& state);
  [[nodiscard]] nlohmann::json inspect();

 private:
  friend class OpenedChannel;
  struct Port {
    Device* device = nullptr;
    EventLoop* loop = nullptr;
    std::shared_ptr<OpenedChannel> opened;
  };
  struct Removal {
    Device* device = nullptr;
    std::move_only_function<void()> done;
  };

  [[nodiscard]] std::uint16_t on_message(std::span<const std::byte> payload);
  void on_shared_event();
  void run_actions();
  void run(SendMessage action);
  void run(const OpenChannel& action);
  void run(const CloseChannel& action);
  void run(const SetTargetVp& action);
  void run(const TearDownGpadl& action);
  void run(const OfferRemoved& action);
  void run(const ConnectSocket& action);
  void finish_open(OfferId offer, bool accepted);
  void finish_close(OfferId offer);
  void finish_removals();
  void pump_messages();
  [[nodiscard]] Result<std::shared_ptr<OpenedChannel>> build_channel(const OpenChannel& action, Port& port);
  void add_subchannels(OfferId primary, std::uint16_t count);
  template <typename Work>
  void on_control(Work work);
  [[nodiscard]] bool wait_until_quiet();
  /// Calls `work(device)` on its loop for each device; devices that are being removed stay until it has returned.
  template <typename Work>
  void for_each_device(Work work);

  memory::GuestMemory& memory_;
  hyperv::SynicPort& synic_;
  EventLoop& control_loop_;
  Log log_;
  RateLimit complaints_;
  SocketConnector connect_socket_;

  std::mutex mutex_;
  std::condition_variable settled_;
  Control control_;                    // guarded by mutex_
  std::map<OfferId, Port> ports_;      // guarded by mutex_
  std::vector<Removal> removals_;      // guarded by mutex_
  std::size_t device_users_ = 0;       // guarded by mutex_; while it is not zero no device is let go
  std::deque<SendMessage> outgoing_;   // control loop only
  bool retry_armed_ = false;           // control loop only
  std::atomic<std::size_t> incoming_ = 0;  ///< messages on their way to the control loop
  std::atomic<std::size_t> backlog_ = 0;   ///< outgoing_.size()
};

/// Runs `work` on a loop that another thread runs, also when the loop is held, and waits for it.
template <typename Work>
void run_on(EventLoop& loop, Work work) {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  loop.post_held([&] {
    work();
    const std::lock_guard lock(mutex);
    done = true;
    changed.notify_one();  // under the lock: the waiter destroys the condition variable next
  });
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done; });
}

}  // namespace bygone::vmbus
