#include "programs/bygone_vm/machine_handler.h"

#include "disk/host_file.h"
#include "disk/open.h"
#include "service/control/key_codes.h"
#include "service/control/runtime_directory.h"
#include "spec/agent/protocol.h"

namespace bygone::programs::vm {

namespace control = service::control;
namespace request = service::control::request;
using control::State;
using devices::mouse::PointerState;

namespace {

/// The client has opened the file: this process, in its sandbox, may not be able to.
Result<std::shared_ptr<disk::BlockDevice>> open_dvd(const std::string& name, int opened) {
  BYGONE_ASSIGN(const auto backend, disk::IoBackend::create());
  BYGONE_ASSIGN(auto file, disk::open_host_file(name, {.is_read_only = true, .opened = opened}, backend));
  disk::OpenOptions options;
  options.read_only = true;
  options.format = disk::DiskFormat::kDvd;
  options.backend = backend;
  BYGONE_ASSIGN(auto image, disk::open_image_file(std::move(file), options));
  return std::shared_ptr<disk::BlockDevice>(std::move(image));
}

}  // namespace

MachineHandler::MachineHandler(EventLoop& loop, machine::gen2::Machine& machine, ScreenFeed& feed, ConsoleHub& console,
                               library::Definition definition, std::string engine, std::filesystem::path saved_state, Log log)
    : loop_(loop), machine_(machine), feed_(feed), console_(console), definition_(std::move(definition)), engine_(std::move(engine)),
      saved_state_(std::move(saved_state)), typist_(std::make_shared<Typist>(loop, machine)), log_(std::move(log)) {
  if (!definition_.has_sockets) return;
  const auto agent = control::guest_sockets(definition_.name) / fmt::format("guest-{}", spec::agent::kVsockPort);
  follower_ = std::make_shared<ScreenFollower>(agent, log_);
}

MachineHandler::~MachineHandler() {
  if (saver_.joinable()) saver_.join();
}

void MachineHandler::handle(control::RequestBody body, Files files, Reply reply) {
  const bool only_looks = std::holds_alternative<request::Status>(body) || std::holds_alternative<request::Screenshot>(body);
  if (state_ == State::kSaving && !only_looks) {
    return reply.refuse({ErrorCode::kBusy, "the machine is being saved", "Wait until it is, and start it again"});
  }
  std::visit([&](const auto& one) { answer(one, std::move(files), std::move(reply)); }, body);
}

void MachineHandler::set_state(State state) {
  if (std::exchange(state_, state) != state && server_ != nullptr) server_->tell(control::StateChanged{state});
}

void MachineHandler::stop(bool is_forced) {
  if (state_ == State::kSaving) return;  // it ends soon, and nothing is lost
  set_state(State::kStopping);
  if (is_forced) {
    log_.info("the plug is pulled");
    machine_.power_off();
    return;
  }
  log_.info("the guest is asked to shut down");
  machine_.resume();  // a paused guest could not
  machine_.request_shutdown();
}

void MachineHandler::answer(const request::Status&, const Files&, Reply reply) {
  const control::ScreenMode mode = feed_.mode();
  const auto up = std::chrono::steady_clock::now() - started_;
  const machine::gen2::Activity activity = machine_.activity();
  nlohmann::json status = {{"name", definition_.name},
                           {"state", control::to_string(state_)},
                           {"process", ::getpid()},
                           {"engine", engine_},
                           {"processors", definition_.processors},
                           {"memory_bytes", definition_.memory_bytes},
                           {"seconds_up", std::chrono::duration<double>(up).count()},
                           {"screen", {{"width", mode.width}, {"height", mode.height}}},
                           {"activity", {{"disk", activity.disk_commands}, {"network", activity.network_frames}}}};
  if (std::string record = machine_.crash_record(); !record.empty()) status["crash"] = std::move(record);
  reply.done(std::move(status));
}

void MachineHandler::answer(const request::Pause&, const Files&, Reply reply) {
  machine_.pause();
  set_state(State::kPaused);
  reply.done();
}

void MachineHandler::answer(const request::Resume&, const Files&, Reply reply) {
  machine_.resume();
  set_state(State::kRunning);
  reply.done();
}

void MachineHandler::answer(const request::Reset&, const Files&, Reply reply) {
  const auto outcome = machine_.reset();
  if (outcome) set_state(State::kRunning);
  reply.finish(outcome);
}

void MachineHandler::answer(const request::Save&, const Files&, Reply reply) {
  // Memory takes its time to write: meanwhile others are answered.
  const State before = state_;
  if (saver_.joinable()) saver_.join();
  set_state(State::kSaving);
  saver_ = std::thread([this, before, answer = std::make_shared<Reply>(std::move(reply))]() mutable {
    auto outcome = machine_.save(saved_state_);
    loop_.post([this, before, outcome = std::move(outcome), answer = std::move(answer)]() mutable { on_saved(std::move(outcome), before, std::move(*answer)); });
  });
}

void MachineHandler::on_saved(Result<void> outcome, State before, Reply reply) {
  is_saved_ = outcome.has_value();
  if (outcome) {
    log_.info("the state is saved in {}", saved_state_.string());
    reply.done();
    machine_.power_off();
    return;
  }
  log_.warning("the state could not be saved: {}", outcome.error().text());
  set_state(before);
  reply.refuse(outcome.error());
}

void MachineHandler::answer(const request::Stop& asked, const Files&, Reply reply) {
  reply.done();
  stop(asked.is_forced);
}

void MachineHandler::answer(const request::Inspect&, const Files&, Reply reply) {
  const std::string text = machine_.inspect().dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  auto file = control::sealed_file(std::as_bytes(std::span(text)));
  if (!file) return reply.refuse(file.error());
  reply.done({{"bytes", text.size()}}, std::move(*file));
}

void MachineHandler::answer(const request::Screenshot&, const Files&, Reply reply) {
  const auto picture = machine_.picture();
  if (!picture) return reply.refuse(picture.error());
  auto file = control::sealed_file(std::as_bytes(std::span(picture->pixels)));
  if (!file) return reply.refuse(file.error());
  reply.done({{"width", picture->width}, {"height", picture->height}}, std::move(*file));
}

void MachineHandler::on_devices(std::move_only_function<Result<void>(machine::gen2::HumanDevices)> work, Reply reply) {
  machine_.with_human_devices([this, work = std::move(work), answer = std::make_shared<Reply>(std::move(reply))](machine::gen2::HumanDevices devices) mutable {
    // The reply belongs to the control loop, also when it ends unused.
    loop_.post([answer = std::move(answer), outcome = work(devices)]() mutable { answer->finish(outcome); });
  });
}

void MachineHandler::point(std::vector<PointerState> states, Reply reply) {
  on_devices(
      [states = std::move(states)](machine::gen2::HumanDevices devices) -> Result<void> {
        for (const PointerState& state : states) {
          if (!devices.mouse.move(state)) {
            return std::unexpected(Error{ErrorCode::kBusy, "the guest does not take pointer moves now", "Wait until its mouse driver has started"});
          }
        }
        return {};
      },
      std::move(reply));
}

void MachineHandler::answer(const request::Type& asked, const Files&, Reply reply) {
  auto keys = control::keys_for_text(asked.text);
  if (!keys) return reply.refuse(keys.error());
  typist_->type(std::move(*keys), std::move(reply));
}

void MachineHandler::answer(const request::Keys& asked, const Files&, Reply reply) { typist_->type(asked.keys, std::move(reply)); }

void MachineHandler::answer(const request::Pointer& asked, const Files&, Reply reply) {
  point({{asked.x, asked.y, asked.buttons, asked.wheel, asked.pan}}, std::move(reply));
}

void MachineHandler::answer(const request::Click& asked, const Files&, Reply reply) {
  const control::ScreenMode mode = feed_.mode();
  if (mode.width == 0) return reply.refuse({ErrorCode::kNotFound, "the guest has not switched its screen on", "Wait until it has"});
  if (asked.x >= mode.width || asked.y >= mode.height) {
    return reply.refuse({ErrorCode::kOutOfRange, fmt::format("{}, {} is outside the screen of {}x{}", asked.x, asked.y, mode.width, mode.height), {}});
  }
  // The middle of the pixel, in the mouse's 32768 steps over the screen.
  const auto step = [](std::uint32_t pixel, std::uint32_t side) { return static_cast<std::uint16_t>((std::uint64_t{pixel} * 2 + 1) * 32768 / (std::uint64_t{side} * 2)); };
  PointerState state{step(asked.x, mode.width), step(asked.y, mode.height), 0, 0, 0};
  std::vector<PointerState> states = {state};
  for (int i = 0; i < asked.count; ++i) {
    for (const int pressed : {1, 0}) {
      state.buttons = static_cast<std::uint8_t>(pressed << asked.button);
      states.push_back(state);
    }
  }
  point(std::move(states), std::move(reply));
}

void MachineHandler::answer(const request::Resize& asked, const Files&, Reply reply) {
  on_devices(
      [follower = follower_, asked](machine::gen2::HumanDevices devices) -> Result<void> {
        BYGONE_CHECK(devices.video.prefer({asked.width, asked.height}));
        if (follower) follower->ask({asked.width, asked.height});
        return {};
      },
      std::move(reply));
}

Result<std::uint8_t> MachineHandler::lun_of_drive(std::uint8_t drive) const {
  if (drive < definition_.dvds.size()) return static_cast<std::uint8_t>(definition_.disks.size() + drive);
  return std::unexpected(Error{ErrorCode::kNotFound, fmt::format("the machine has {} DVD drives; {} is not one", definition_.dvds.size(), drive),
                               "bygone set NAME 'dvds=[{}]' gives it a drive"});
}

void MachineHandler::answer(const request::Eject& asked, const Files&, Reply reply) {
  using devices::storage::ScsiDvd;
  const auto lun = lun_of_drive(asked.drive);
  if (!lun) return reply.refuse(lun.error());
  machine_.storage().eject_medium(*lun, asked.is_forced ? ScsiDvd::Force::kIgnoreLock : ScsiDvd::Force::kRespectLock,
                                  [this, answer = std::make_shared<Reply>(std::move(reply))](Result<void> outcome) mutable {
                                    loop_.post([answer = std::move(answer), outcome = std::move(outcome)] { answer->finish(outcome); });
                                  });
}

void MachineHandler::answer(const request::Insert& asked, Files files, Reply reply) {
  const auto lun = lun_of_drive(asked.drive);
  if (!lun) return reply.refuse(lun.error());
  if (files.size() != 1) return reply.refuse({ErrorCode::kInvalidArgument, "a request to insert a DVD brings its image as a file", {}});
  auto medium = open_dvd(asked.name, files[0].get());
  if (!medium) return reply.refuse(medium.error());
  machine_.storage().insert_medium(*lun, {std::move(*medium), asked.name}, [this, answer = std::make_shared<Reply>(std::move(reply))](Result<void> outcome) mutable {
    loop_.post([answer = std::move(answer), outcome = std::move(outcome)] { answer->finish(outcome); });
  });
}

void MachineHandler::answer(const request::Console&, const Files&, Reply reply) {
  if (definition_.com1 != "console") {
    return reply.refuse({ErrorCode::kUnsupported, fmt::format("the machine's COM1 is \"{}\"", definition_.com1),
                         fmt::format("bygone set \"{}\" com1=console, and start it again", definition_.name)});
  }
  auto stream = console_.attach();
  if (!stream) return reply.refuse(stream.error());
  reply.done({}, std::move(*stream));
}

void MachineHandler::answer(const request::Watch&, const Files&, Reply reply) { reply.done(); }

}  // namespace bygone::programs::vm
