#include "machine/gen2/machine.h"

#include <thread>

#include "machine/gen2/boot.h"
#include "machine/gen2/parts.h"

namespace bygone::machine::gen2 {

std::string_view to_string(GuestProfile profile) {
  switch (profile) {
    case GuestProfile::kLinux: return "linux";
    case GuestProfile::kWindows: return "windows";
    case GuestProfile::kLegacyWindows: return "legacy-windows";
  }
  return "linux";
}

Result<std::unique_ptr<Machine>> Machine::create(MachineOptions options) {
  BYGONE_ASSIGN(auto parts, Parts::create(std::move(options)));
  return std::unique_ptr<Machine>(new Machine(std::move(parts)));
}

Machine::Machine(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Machine::~Machine() = default;

Result<void> Machine::start() {
  if (!parts_->is_restored) {
    BYGONE_CHECK(parts_->load_boot_state());
    parts_->start_loops();
  }
  parts_->control_thread = std::thread([this] { parts_->serve_control(); });
  parts_->runner->start();
  if (parts_->debugger && parts_->options.waits_for_debugger) {
    parts_->stop_time();
    return {};
  }
  if (parts_->is_restored) parts_->start_time();
  parts_->runner->resume();
  return {};
}

void Machine::pause() {
  const std::lock_guard lock(parts_->control_mutex);
  parts_->runner->pause();
  parts_->stop_time();
}

void Machine::resume() {
  const std::lock_guard lock(parts_->control_mutex);
  if (parts_->has_ended() || !parts_->runner->is_paused()) return;
  parts_->start_time();
  parts_->runner->resume();
  parts_->time_sync->step();
}

Result<void> Machine::save(const std::filesystem::path& path, const saved_state::Progress& progress) {
  const std::lock_guard lock(parts_->control_mutex);
  const bool was_running = !parts_->runner->is_paused();
  parts_->runner->pause();
  parts_->stop_time();
  auto outcome = parts_->save(path, progress);
  if (!outcome && was_running && !parts_->has_ended()) {
    parts_->start_time();
    parts_->runner->resume();
  }
  if (!outcome) return std::unexpected(std::move(outcome).error().within("saving the machine"));
  return {};
}

Result<void> Machine::reset() { return parts_->reset(); }

void Machine::power_off() { parts_->end({MachineEnd::Reason::kStopped, {}}); }

void Machine::request_shutdown() {
  using devices::integration::ShutdownService;
  parts_->shutdown->ask(ShutdownService::Kind::kPowerOff, ShutdownService::Manner::kOrderly, "asked for on the host",
                        [parts = parts_.get()](Result<void> outcome) {
                          if (outcome) return;
                          parts->log.info("the shutdown service: {}; pressing the power button", outcome.error().text());
                          parts->power->press_power_button();
                        });
}

MachineEnd Machine::wait() {
  std::unique_lock lock(parts_->end_mutex);
  parts_->ended.wait(lock, [this] { return parts_->machine_end.has_value(); });
  return *parts_->machine_end;
}

std::optional<MachineEnd> Machine::wait_for(std::chrono::milliseconds limit) {
  std::unique_lock lock(parts_->end_mutex);
  parts_->ended.wait_for(lock, limit, [this] { return parts_->machine_end.has_value(); });
  return parts_->machine_end;
}

void Machine::with_human_devices(std::move_only_function<void(HumanDevices)> work) {
  parts_->loop->post([parts = parts_.get(), work = std::move(work)]() mutable { work({*parts->keyboard, *parts->mouse, *parts->video}); });
}

devices::storage::StorageController& Machine::storage() { return *parts_->storage; }
Result<devices::video::Picture> Machine::picture() const { return parts_->video->capture(); }
Activity Machine::activity() const {
  Activity activity{.disk_commands = parts_->storage->commands()};
  for (const auto& network : parts_->networks) activity.network_frames += network->adapter().frames();
  return activity;
}

const std::array<std::string, 2>& Machine::terminals() const { return parts_->terminals; }

std::string Machine::crash_record() const {
  const std::lock_guard lock(parts_->end_mutex);
  return parts_->crash_record;
}

nlohmann::json Machine::inspect() { return parts_->inspect(); }
devices::integration::KeyValueService& Machine::key_values() { return *parts_->key_values; }
memory::GuestMemory& Machine::guest_memory() { return parts_->memory; }
cpu::Partition& Machine::partition() { return *parts_->partition; }

}  // namespace bygone::machine::gen2
