#include "service/control/client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "service/control/fields.h"
#include "service/control/runtime_directory.h"
#include "support/unix_address.h"

namespace bygone::service::control {
namespace {

constexpr std::size_t kMaximumKeptEvents = 4096;

ErrorCode code_named(std::string_view name) {
  for (int code = 0; code <= static_cast<int>(ErrorCode::kInternal); ++code) {
    if (to_string(static_cast<ErrorCode>(code)) == name) return static_cast<ErrorCode>(code);
  }
  return ErrorCode::kInternal;
}

Error error_of(const nlohmann::json& message) {
  Error error{ErrorCode::kInternal, "the machine refused without a word", {}};
  std::string code;
  FieldReader fields(message);
  fields.optional().read("code", code, 64);
  fields.read("message", error.message, kMaximumPacketBytes);
  fields.read("hint", error.hint, kMaximumPacketBytes);
  error.code = code_named(code);
  return error;
}

std::unexpected<Error> does_not_run(const std::string& machine) {
  return std::unexpected(Error{ErrorCode::kNotFound, fmt::format("\"{}\" is not running", machine), fmt::format("bygone start \"{}\" starts it", machine)});
}

}  // namespace

Result<std::unique_ptr<Client>> Client::connect(const std::string& machine, std::chrono::milliseconds limit) {
  const std::string path = control_socket(machine).string();
  BYGONE_ASSIGN(const sockaddr_un address, unix_address(path));
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "creating a socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) return does_not_run(machine);
    return fail_errno(errno, "connecting to " + path);
  }
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != ::geteuid()) {
    return fail(ErrorCode::kPermissionDenied, "{} belongs to another user's process", path);
  }
  std::unique_ptr<Client> client(new Client(std::move(socket), limit));
  auto greeted = client->greet();
  if (!greeted && greeted.error().code == ErrorCode::kCancelled) return does_not_run(machine);
  if (!greeted) return std::unexpected(std::move(greeted).error().within("talking to \"" + machine + "\""));
  return client;
}

Result<void> Client::greet() {
  BYGONE_ASSIGN(auto packet, receive(std::chrono::steady_clock::now() + limit_));
  if (!packet) return fail(ErrorCode::kBusy, "the machine's process does not answer");
  FieldReader fields(packet->message);
  int version = 0;
  fields.read("hello", version);
  fields.read("machine", machine_, 256);
  fields.read("process", process_);
  BYGONE_CHECK(fields.outcome());
  if (version != kProtocolVersion) {
    return std::unexpected(Error{ErrorCode::kUnsupported, fmt::format("it speaks version {} of the control protocol, not {}", version, kProtocolVersion),
                                 "Stop it with the version of bygone that started it"});
  }
  return {};
}

Result<std::optional<Packet>> Client::receive(TimePoint deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd poll{socket_.get(), POLLIN, 0};
    const int ready = ::poll(&poll, 1, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return fail_errno(errno, "waiting for the machine's process");
    if (ready == 0) return std::nullopt;
    BYGONE_ASSIGN(auto packet, receive_packet(socket_.get()));
    return packet;
  }
}

Result<void> Client::keep_event(Packet packet) {
  BYGONE_ASSIGN(auto event, parse_event(packet.message));
  if (event && events_.size() < kMaximumKeptEvents) events_.push_back({std::move(*event), std::move(packet.fds)});
  return {};
}

Result<Packet> Client::ask(RequestBody body, std::span<const int> fds) {
  const std::uint64_t id = next_id_++;
  BYGONE_CHECK(send_packet(socket_.get(), to_json(Request{id, std::move(body)}), fds));
  const TimePoint deadline = std::chrono::steady_clock::now() + limit_;
  for (;;) {
    BYGONE_ASSIGN(auto packet, receive(deadline));
    if (!packet) return fail(ErrorCode::kBusy, "\"{}\" has not answered within {} s", machine_, limit_.count() / 1000);
    if (packet->message.contains("event")) {
      BYGONE_CHECK(keep_event(std::move(*packet)));
      continue;
    }
    std::uint64_t answered = 0;
    std::string reply;
    FieldReader fields(packet->message);
    fields.read("id", answered);
    fields.read("reply", reply, 64);
    BYGONE_CHECK(fields.outcome());
    if (answered != id) continue;  // of a request that nobody waits for
    if (reply != "ok") return std::unexpected(error_of(packet->message));
    return std::move(*packet);
  }
}

Result<void> Client::tell(RequestBody body) { return send_packet(socket_.get(), to_json(Request{next_id_++, std::move(body)})); }

Result<std::optional<ClientEvent>> Client::next_event(std::chrono::milliseconds limit) {
  const TimePoint deadline = std::chrono::steady_clock::now() + limit;
  while (events_.empty()) {
    BYGONE_ASSIGN(auto packet, receive(deadline));
    if (!packet) return std::nullopt;
    if (packet->message.contains("event")) BYGONE_CHECK(keep_event(std::move(*packet)));
  }
  ClientEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

}  // namespace bygone::service::control
