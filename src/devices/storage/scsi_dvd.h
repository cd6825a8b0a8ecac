// A DVD drive (MMC-6) with a tray that the guest and the person at the host both use.
//
// A medium goes in and out while the guest runs: insert() and eject() raise what the guest must be told, and a tray that the
// guest has locked opens only by force.
// Threading: as ScsiTarget; insert() and eject() on the controller's loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "devices/storage/scsi_target.h"
#include "disk/block_device.h"

namespace bygone::devices::storage {

/// What lies in a drive.
struct Medium {
  std::shared_ptr<disk::BlockDevice> device;  ///< null: nothing
  std::string name = {};                      ///< the host's for it, by which the owner finds it again; the drive only keeps it
};

class ScsiDvd final : public ScsiTarget {
 public:
  /// `ejected` is called when the guest opens the tray: the host's medium is then out of the drive. May be empty.
  explicit ScsiDvd(Medium medium = {}, std::function<void()> ejected = {});

  void insert(Medium medium);
  [[nodiscard]] const Medium& medium() const { return medium_; }
  enum class Force { kRespectLock, kIgnoreLock };
  /// Errors: kBusy (the guest has locked the tray; it is told of the wish).
  [[nodiscard]] Result<void> eject(Force force);
  [[nodiscard]] bool is_locked() const { return locked_; }

  void execute(const ScsiCommand& command, Done done) override;
  void raise_attention(spec::scsi::AdditionalSense what) override { attention_ = what; }
  void reset() override;
  [[nodiscard]] nlohmann::json save() const override;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override;
  [[nodiscard]] nlohmann::json inspect() const override;

 private:
  /// What the guest hears next when it asks for media events (MMC-6 6.6.3.4.4).
  enum class MediaEvent : std::uint8_t { kNone = 0, kEjectRequest = 1, kNewMedia = 2, kMediaRemoval = 3 };

  [[nodiscard]] std::optional<ScsiOutcome> answer(const ScsiCommand& command);
  [[nodiscard]] std::optional<ScsiOutcome> answer_about_medium(const ScsiCommand& command);
  [[nodiscard]] ScsiOutcome start_stop(const ScsiCommand& command);
  [[nodiscard]] ScsiOutcome read_toc(const ScsiCommand& command) const;
  [[nodiscard]] ScsiOutcome get_configuration(const ScsiCommand& command) const;
  [[nodiscard]] ScsiOutcome get_event_status(const ScsiCommand& command);
  [[nodiscard]] ScsiOutcome read_disc_information(const ScsiCommand& command) const;
  [[nodiscard]] ScsiOutcome read_disc_structure(const ScsiCommand& command) const;
  [[nodiscard]] ScsiOutcome mode_sense(const ScsiCommand& command) const;
  void read(const ScsiCommand& command, Done done);
  [[nodiscard]] std::uint64_t blocks() const;

  Medium medium_;
  std::function<void()> ejected_;
  bool locked_ = false;
  bool tray_open_ = false;
  MediaEvent event_ = MediaEvent::kNone;
  std::optional<spec::scsi::AdditionalSense> attention_;
};

}  // namespace bygone::devices::storage
