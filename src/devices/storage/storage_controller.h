// The synthetic SCSI controller (StorVSP): packets in the rings of a VMBus device become SCSI commands for what is attached to
// its 64 LUNs.
//
//   ring ── packet ──> command ──> ScsiTarget ──> BlockDevice ── completion, any thread ──> queue ── the loop ──> ring
//
// A request's payload never passes through here: its page list becomes the iovecs of the image's read or write. Completions
// that come together share one signal to the guest. The primary channel negotiates; subchannels carry commands only.
// Protocol 4.2, 5.1, 6.0 and 6.2, see spec/vmbus/storage.h.
// Threading: as vmbus::Device; a loop of its own. attach, detach, insert, eject and announce_resize: any thread.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "devices/storage/scsi_dvd.h"
#include "devices/storage/scsi_target.h"
#include "disk/block_device.h"
#include "spec/vmbus/storage.h"
#include "support/event_loop.h"
#include "support/guid.h"
#include "support/log.h"
#include "support/relaxed_counter.h"
#include "vmbus/device.h"

namespace bygone::devices::storage {

inline constexpr std::uint8_t kMaximumLuns = 64;

struct StorageOptions {
  std::string name = "scsi0";              ///< for people and saved state
  Guid instance;                           ///< stable over the machine's life; which controller this is to the guest
  std::uint16_t maximum_subchannels = 0;   ///< besides the primary; a processor each is what guests use
  Log log = {};                            ///< hears of images that fail
  std::chrono::milliseconds save_limit = std::chrono::seconds(30);  ///< how long save() waits for requests in flight
};

class StorageController final : public vmbus::Device {
 public:
  /// `loop` is the one that the device will be added to the bus with.
  StorageController(StorageOptions options, EventLoop& loop);
  ~StorageController() override;

  /// Connects a disk, also while the guest runs: it is told to look. Replaces what was there.
  void attach_disk(std::uint8_t lun, std::shared_ptr<disk::BlockDevice> device);
  /// Connects a DVD drive; null: empty. `ejected` is called on the loop when the guest has opened the tray.
  void attach_dvd(std::uint8_t lun, Medium medium, std::function<void()> ejected = {});
  /// Takes a disk or drive away. `done` is called on the loop when no request uses it any more. May be empty.
  void detach(std::uint8_t lun, std::move_only_function<void()> done = {});
  /// Puts a medium into a DVD drive. `done` gets kNotFound when the LUN has none.
  void insert_medium(std::uint8_t lun, Medium medium, std::move_only_function<void(Result<void>)> done = {});
  /// What lies in a drive now, empty when there is no drive. On the controller's loop, or while that is held.
  [[nodiscard]] Medium medium(std::uint8_t lun) const;
  void eject_medium(std::uint8_t lun, ScsiDvd::Force force, std::move_only_function<void(Result<void>)> done = {});
  /// The disk's size has changed: the guest is told with its next command.
  void announce_resize(std::uint8_t lun);
  /// What the guest has asked of its drives so far. Any thread.
  [[nodiscard]] std::uint64_t commands() const { return commands_.get(); }

  // vmbus::Device
  [[nodiscard]] const vmbus::Offer& offer() const override { return offer_; }
  [[nodiscard]] Result<void> open(vmbus::Channel& channel) override;
  void close(vmbus::Channel& channel, Closed done) override;
  [[nodiscard]] Result<void> on_signal(vmbus::Channel& channel) override;
  [[nodiscard]] std::size_t requests_in_flight(const vmbus::Channel& channel) const override;
  void reset() override;
  /// Errors: kBusy (images that do not answer).
  [[nodiscard]] Result<nlohmann::json> save() override;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override;
  [[nodiscard]] nlohmann::json inspect() const override;

 private:
  enum class Phase { kNew, kBegun, kVersioned, kPropertiesKnown, kReady };
  struct Request;
  struct ChannelState;
  struct Lun {
    std::shared_ptr<ScsiTarget> target;
    ScsiDvd* dvd = nullptr;  ///< the target, when it is one
    std::uint64_t commands = 0;
  };

  [[nodiscard]] Result<void> drain(ChannelState& state);
  [[nodiscard]] Result<void> handle_packet(ChannelState& state, std::unique_ptr<Request> request);
  void handle_control(ChannelState& state, spec::vmbus::StoragePacket& reply);
  [[nodiscard]] std::uint32_t negotiate(spec::vmbus::StoragePacket& reply);
  void execute(std::unique_ptr<Request> request);
  void execute_without_target(std::unique_ptr<Request> request, const ScsiCommand& command);
  [[nodiscard]] ScsiOutcome report_luns(const ScsiCommand& command) const;
  /// Any thread.
  void complete(std::unique_ptr<Request> request, ScsiOutcome outcome);
  void process_completions();
  [[nodiscard]] Result<void> send_replies(ChannelState& state);
  void finish(ChannelState& state, Request& request);
  void report_host_failure(const spec::vmbus::StorageScsiRequest& srb, const std::string& what);
  void tell_bus_changed();
  void finish_detaches();
  [[nodiscard]] ChannelState* find(const vmbus::Channel& channel) const;
  [[nodiscard]] std::unique_ptr<Request> take_request();
  [[nodiscard]] std::size_t packet_size() const;
  void attach(std::uint8_t lun, std::shared_ptr<ScsiTarget> target, ScsiDvd* dvd);

  const StorageOptions options_;
  EventLoop& loop_;
  vmbus::Offer offer_;

  // The loop's only:
  std::map<std::uint8_t, Lun> luns_;
  std::map<const vmbus::Channel*, std::unique_ptr<ChannelState>> channels_;
  std::vector<std::unique_ptr<Request>> free_requests_;
  std::map<std::uint32_t, std::vector<std::unique_ptr<Request>>> restored_replies_;  ///< by channel id
  struct Detach {
    std::weak_ptr<ScsiTarget> target;
    std::move_only_function<void()> done;
  };
  std::vector<Detach> detaches_;
  Phase phase_ = Phase::kNew;
  std::uint16_t version_ = 0;
  std::size_t in_flight_ = 0;
  bool draining_ = false;
  bool bus_changed_ = false;  ///< the guest has not been told yet: no room, or not ready
  RelaxedCounter commands_;
  std::uint64_t failures_ = 0;
  std::uint64_t host_failures_ = 0;
  std::string last_host_failure_;
  RateLimit host_complaints_;

  std::mutex mutex_;
  std::condition_variable completed_;
  std::vector<std::unique_ptr<Request>> completions_;  // guarded by mutex_
  bool completions_posted_ = false;                    // guarded by mutex_
};

}  // namespace bygone::devices::storage
