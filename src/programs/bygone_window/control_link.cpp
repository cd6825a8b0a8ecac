#include "programs/bygone_window/control_link.h"

#include <fcntl.h>

#include <QFileInfo>
#include <algorithm>
#include <array>
#include <chrono>
#include <cerrno>
#include <span>
#include <utility>
#include <variant>

#include "library/definition_fields.h"
#include "service/control/fields.h"

namespace bygone::window {
namespace control = service::control;
namespace request = service::control::request;
namespace {

constexpr std::chrono::minutes kCommandLimit{10};  // saving many gigabytes to a slow disk
constexpr std::chrono::milliseconds kPoll{700};
constexpr std::size_t kMaximumShapeBytes = 256UL * 256 * 4;

MachineState shown(control::State state) {
  switch (state) {
    case control::State::kStarting: return MachineState::kConnecting;
    case control::State::kRunning: return MachineState::kRunning;
    case control::State::kPaused: return MachineState::kPaused;
    case control::State::kSaving: return MachineState::kSaving;
    case control::State::kStopping: return MachineState::kShuttingDown;
  }
  return MachineState::kRunning;
}

control::RequestBody body_of(MachineCommand command) {
  switch (command) {
    case MachineCommand::kPause: return request::Pause{};
    case MachineCommand::kResume: return request::Resume{};
    case MachineCommand::kReset: return request::Reset{};
    case MachineCommand::kShutDown: return request::Stop{};
    case MachineCommand::kTurnOff: return request::Stop{.is_forced = true};
    case MachineCommand::kSave: return request::Save{};
  }
  return request::Status{};
}

QRect rectangle(const control::Area& area) { return {QPoint(area.left, area.top), QPoint(area.right - 1, area.bottom - 1)}; }

}  // namespace

ControlLink::ControlLink(std::string machine) : machine_(std::move(machine)) {
  connect(&poll_, &QTimer::timeout, this, &ControlLink::poll);
}

ControlLink::~ControlLink() { workers_.waitForDone(); }

Result<void> ControlLink::open() {
  BYGONE_ASSIGN(client_, control::Client::connect(machine_));
  BYGONE_CHECK(client_->ask(request::Watch{.screen = true}));
  notifier_ = std::make_unique<QSocketNotifier>(client_->fd(), QSocketNotifier::Read);
  connect(notifier_.get(), &QSocketNotifier::activated, this, [this] { take_events(); });
  poll_.start(kPoll);
  poll();
  // Events may have come with the reply; nothing would announce them.
  QMetaObject::invokeMethod(this, [this] { take_events(); }, Qt::QueuedConnection);
  return {};
}

void ControlLink::strike(const std::vector<Stroke>& strokes) {
  request::Keys keys;
  for (const Stroke& stroke : strokes) {
    keys.keys.push_back({.code = stroke.code.code, .is_release = stroke.is_release, .is_e0 = stroke.code.is_e0, .is_e1 = stroke.code.is_e1});
  }
  tell(std::move(keys));
}

void ControlLink::point(const Pointer& pointer) {
  tell(request::Pointer{.x = pointer.x, .y = pointer.y, .buttons = pointer.buttons, .wheel = pointer.wheel, .pan = pointer.pan});
}

void ControlLink::resize_screen(QSize size) {
  // A window may be smaller or larger than what a machine's screen can be.
  const int width = std::clamp<int>(size.width(), library::kLeastScreenWidth, library::kMostScreenWidth);
  const int height = std::clamp<int>(size.height(), library::kLeastScreenHeight, library::kMostScreenHeight);
  tell(request::Resize{.width = static_cast<std::uint16_t>(width), .height = static_cast<std::uint16_t>(height)});
}

void ControlLink::send(MachineCommand command) {
  ask(body_of(command), {}, [this](const Reply& reply) {
    if (!reply) Q_EMIT failed(QString::fromStdString(reply.error().text()));
  });
}

void ControlLink::insert_dvd(const QString& path) {
  UniqueFd file(::open(path.toLocal8Bit().constData(), O_RDONLY | O_CLOEXEC));
  if (!file) {
    Q_EMIT failed(QString::fromStdString(error_from_errno(errno, "opening " + path.toStdString()).text()));
    return;
  }
  ask(request::Insert{.drive = 0, .name = QFileInfo(path).absoluteFilePath().toStdString()}, std::move(file), [this, path](const Reply& reply) {
    if (reply) {
      Q_EMIT dvd_changed(path);
    } else {
      Q_EMIT failed(QString::fromStdString(reply.error().text()));
    }
  });
}

void ControlLink::eject_dvd() {
  ask(request::Eject{}, {}, [this](const Reply& reply) {
    if (reply) {
      Q_EMIT dvd_changed({});
    } else {
      Q_EMIT failed(QString::fromStdString(reply.error().text()));
    }
  });
}

void ControlLink::tell(control::RequestBody body) {
  if (client_ && !client_->tell(std::move(body))) lose();
}

void ControlLink::ask(control::RequestBody body, UniqueFd file, std::function<void(const Reply&)> then) {
  auto task = [this, body = std::move(body), file = std::make_shared<UniqueFd>(std::move(file)), then = std::move(then)] {
    auto reply = std::make_shared<Reply>([&]() -> Reply {
      BYGONE_ASSIGN(auto client, control::Client::connect(machine_));
      client->set_limit(kCommandLimit);
      const std::array<int, 1> files = {file->get()};
      return client->ask(body, std::span<const int>(files).first(*file ? 1 : 0));
    }());
    QMetaObject::invokeMethod(this, [reply, then] { then(*reply); }, Qt::QueuedConnection);
  };
  workers_.start(std::move(task));
}

void ControlLink::poll() {
  if (std::exchange(status_awaited_, true)) return;
  ask(request::Status{}, {}, [this](const Reply& reply) { take_status(reply); });
}

void ControlLink::take_events() {
  while (client_) {
    auto event = client_->next_event(std::chrono::milliseconds(0));
    if (!event) return lose();
    if (!*event) return;
    take(**event);
  }
}

void ControlLink::take(control::ClientEvent& event) {
  if (const auto* mode = std::get_if<control::ScreenMode>(&event.event)) {
    take_mode(*mode, event.fds);
  } else if (const auto* damage = std::get_if<control::ScreenDamage>(&event.event)) {
    for (const control::Area& area : damage->areas) Q_EMIT damaged(rectangle(area));
  } else if (const auto* shape = std::get_if<control::PointerShape>(&event.event)) {
    take_shape(*shape, event.fds);
  } else if (const auto* moved = std::get_if<control::PointerMoved>(&event.event)) {
    if (std::exchange(pointer_visible_, moved->is_visible) != moved->is_visible) {
      Q_EMIT pointer_shaped(pointer_visible_ ? shape_ : QImage(), hot_spot_);
    }
  } else if (const auto* state = std::get_if<control::StateChanged>(&event.event)) {
    tell_state(state->state);
  } else if (const auto* end = std::get_if<control::Ended>(&event.event)) {
    if (!end->detail.empty()) Q_EMIT failed(tr("%1 ended: %2").arg(QString::fromStdString(machine_), QString::fromStdString(end->detail)));
    lose();
  }
}

void ControlLink::take_mode(const control::ScreenMode& mode, const std::vector<UniqueFd>& files) {
  if (mode.width == 0 || files.empty()) {
    Q_EMIT screen_changed(nullptr);
    return;
  }
  auto screen = GuestScreen::create(
      files.front(), {.offset = mode.offset, .width = mode.width, .height = mode.height, .pitch = mode.stride, .depth = mode.depth});
  if (screen) {
    Q_EMIT screen_changed(*screen);
  } else {
    Q_EMIT failed(QString::fromStdString(screen.error().text()));
  }
}

void ControlLink::take_shape(const control::PointerShape& shape, const std::vector<UniqueFd>& files) {
  const std::size_t pixel = shape.is_argb ? 4 : 3;
  if (files.empty() || shape.width == 0 || shape.height == 0 || shape.width > 256 || shape.height > 256) return;
  const auto bytes = control::read_sealed_file(files.front().get(), kMaximumShapeBytes);
  if (!bytes || bytes->size() < pixel * shape.width * shape.height) return;
  const QImage image(reinterpret_cast<const uchar*>(bytes->data()), static_cast<int>(shape.width), static_cast<int>(shape.height),
                     static_cast<qsizetype>(pixel * shape.width), shape.is_argb ? QImage::Format_ARGB32 : QImage::Format_BGR888);
  shape_ = image.copy();
  hot_spot_ = QPoint(static_cast<int>(shape.hot_x), static_cast<int>(shape.hot_y));
  if (pointer_visible_) Q_EMIT pointer_shaped(shape_, hot_spot_);
}

void ControlLink::take_status(const Reply& reply) {
  status_awaited_ = false;
  if (!reply || !client_) return;
  if (!state_known_) take_first_state(*reply);
  const auto count = [&](const char* name) -> std::uint64_t {
    const auto activity = reply->message.find("activity");
    if (activity == reply->message.end() || !activity->is_object()) return 0;
    const auto value = activity->find(name);
    return value != activity->end() && value->is_number_unsigned() ? value->get<std::uint64_t>() : 0;
  };
  const std::uint64_t disk = count("disk"), network = count("network");
  Q_EMIT active(std::exchange(disk_requests_, disk) != disk, std::exchange(network_packets_, network) != network);
}

// What the machine was doing when the window came: only changes are told as events.
void ControlLink::take_first_state(const control::Packet& status) {
  std::string name;
  control::FieldReader fields(status.message);
  fields.read("state", name, 64);
  for (const auto state : {control::State::kStarting, control::State::kRunning, control::State::kPaused, control::State::kSaving, control::State::kStopping}) {
    if (name == control::to_string(state)) tell_state(state);
  }
}

void ControlLink::tell_state(control::State state) {
  state_known_ = true;
  Q_EMIT state_changed(shown(state));
}

void ControlLink::lose() {
  poll_.stop();
  notifier_.reset();
  client_.reset();
  state_known_ = false;
  Q_EMIT screen_changed(nullptr);
  Q_EMIT state_changed(MachineState::kOff);
}

}  // namespace bygone::window
