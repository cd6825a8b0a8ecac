#include "seamless/agent_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "support/unix_address.h"

namespace bygone::seamless {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// Events that nobody has fetched are dropped from the oldest on beyond this number.
constexpr std::size_t kMaximumEvents = 4096;

[[nodiscard]] ErrorCode code_of(spec::agent::ReplyError error) {
  switch (error) {
    case spec::agent::ReplyError::kBadRequest: return ErrorCode::kInvalidArgument;
    case spec::agent::ReplyError::kUnknownRequest:
    case spec::agent::ReplyError::kUnsupportedVersion: return ErrorCode::kUnsupported;
    case spec::agent::ReplyError::kNotFound:
    case spec::agent::ReplyError::kNoDisplay: return ErrorCode::kNotFound;
    case spec::agent::ReplyError::kFailed: return ErrorCode::kIo;
  }
  return ErrorCode::kIo;
}

}  // namespace

Result<std::unique_ptr<AgentClient>> AgentClient::connect(const std::string& path, milliseconds limit) {
  BYGONE_ASSIGN(const sockaddr_un address, unix_address(path));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno(errno, "making a socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno(errno, "connecting to the guest's agent at " + path);
  }
  std::unique_ptr<AgentClient> client(new AgentClient(std::move(socket), limit));
  auto hello = client->ask<spec::agent::HelloReply>(spec::agent::HelloRequest{});
  if (!hello) return std::unexpected(std::move(hello).error().within("greeting the guest's agent"));
  if (hello->version != spec::agent::kProtocolVersion) {
    return fail(ErrorCode::kUnsupported, "the guest's agent speaks version {} of the protocol, this host version {}", hello->version,
                spec::agent::kProtocolVersion);
  }
  client->hello_ = std::move(*hello);
  return client;
}

template <typename ExpectedReply>
Result<ExpectedReply> AgentClient::ask(spec::agent::RequestBody body) {
  const auto deadline = steady_clock::now() + limit_;
  const spec::agent::Request request{next_id_++, std::move(body)};
  BYGONE_ASSIGN(const auto frame, spec::agent::encode(request));
  BYGONE_CHECK(send_all(frame, deadline));
  while (true) {
    BYGONE_ASSIGN(auto message, receive(deadline));
    if (!message) return fail(ErrorCode::kBusy, "the guest's agent did not answer within {} ms", limit_.count());
    if (auto* event = std::get_if<spec::agent::Event>(&*message)) {
      if (events_.size() == kMaximumEvents) events_.pop_front();
      events_.push_back(std::move(*event));
      continue;
    }
    auto* reply = std::get_if<spec::agent::Reply>(&*message);
    if (reply == nullptr || reply->id < request.id) continue;  // late, to a request that was given up
    if (reply->id > request.id) return fail(ErrorCode::kCorrupt, "the guest's agent answers a request that was not made");
    if (const auto* error = std::get_if<spec::agent::ErrorReply>(&reply->body)) {
      return fail(code_of(error->code), "the guest's agent: {}", error->text);
    }
    auto* expected = std::get_if<ExpectedReply>(&reply->body);
    if (expected == nullptr) return fail(ErrorCode::kCorrupt, "the guest's agent gives an answer of the wrong kind");
    return std::move(*expected);
  }
}

Result<std::vector<spec::agent::Program>> AgentClient::list_programs() {
  BYGONE_ASSIGN(auto reply, ask<spec::agent::ProgramsReply>(spec::agent::ListProgramsRequest{}));
  return std::move(reply.programs);
}

Result<spec::agent::IconReply> AgentClient::program_icon(const std::string& program, std::uint32_t size) {
  return ask<spec::agent::IconReply>(spec::agent::ProgramIconRequest{program, size});
}

Result<std::uint32_t> AgentClient::start_program(const std::string& program, const std::vector<std::string>& files) {
  if (program.empty()) return fail(ErrorCode::kInvalidArgument, "no program is named");
  BYGONE_ASSIGN(const auto reply, ask<spec::agent::StartedReply>(spec::agent::StartProgramRequest{program, files}));
  return reply.process;
}

Result<std::uint32_t> AgentClient::start_command(const std::vector<std::string>& command) {
  BYGONE_ASSIGN(const auto reply, ask<spec::agent::StartedReply>(spec::agent::StartProgramRequest{{}, command}));
  return reply.process;
}

Result<std::vector<spec::agent::Window>> AgentClient::list_windows() {
  BYGONE_ASSIGN(auto reply, ask<spec::agent::WindowsReply>(spec::agent::ListWindowsRequest{}));
  return std::move(reply.windows);
}

Result<void> AgentClient::log_off() {
  BYGONE_CHECK(ask<spec::agent::DoneReply>(spec::agent::LogOffRequest{}));
  return {};
}

Result<void> AgentClient::shut_down(bool restart) {
  BYGONE_CHECK(ask<spec::agent::DoneReply>(spec::agent::ShutdownRequest{restart}));
  return {};
}

Result<void> AgentClient::set_screen(std::uint32_t width, std::uint32_t height) {
  BYGONE_CHECK(ask<spec::agent::DoneReply>(spec::agent::SetScreenRequest{width, height}));
  return {};
}

Result<void> AgentClient::watch() {
  BYGONE_CHECK(ask<spec::agent::DoneReply>(spec::agent::WatchRequest{}));
  return {};
}

Result<std::optional<spec::agent::Event>> AgentClient::next_event(milliseconds limit) {
  const auto deadline = steady_clock::now() + limit;
  while (events_.empty()) {
    BYGONE_ASSIGN(auto message, receive(deadline));
    if (!message) return std::nullopt;
    if (auto* event = std::get_if<spec::agent::Event>(&*message)) events_.push_back(std::move(*event));
  }
  std::optional<spec::agent::Event> event(std::move(events_.front()));
  events_.pop_front();
  return event;
}

Result<void> AgentClient::send_all(std::span<const std::byte> bytes, TimePoint deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return fail_errno(errno, "sending to the guest's agent");
    BYGONE_ASSIGN(const bool is_ready, wait_for(POLLOUT, deadline));
    if (!is_ready) return fail(ErrorCode::kBusy, "the guest's agent does not take what is sent to it");
  }
  return {};
}

Result<std::optional<spec::agent::FromAgent>> AgentClient::receive(TimePoint deadline) {
  while (true) {
    BYGONE_ASSIGN(const auto payload, reader_.next());
    if (payload) {
      BYGONE_ASSIGN(auto message, spec::agent::decode_from_agent(*payload));
      return std::optional(std::move(message));
    }
    std::array<std::byte, 16384> buffer;
    const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got > 0) {
      reader_.append(std::span(buffer).first(static_cast<std::size_t>(got)));
      continue;
    }
    if (got == 0) return fail(ErrorCode::kIo, "the guest's agent has closed the connection");
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return fail_errno(errno, "reading from the guest's agent");
    BYGONE_ASSIGN(const bool is_ready, wait_for(POLLIN, deadline));
    if (!is_ready) return std::nullopt;
  }
}

Result<bool> AgentClient::wait_for(short events, TimePoint deadline) const {
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
    pollfd waiting{.fd = socket_.get(), .events = events, .revents = 0};
    const int ready = poll(&waiting, 1, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000)));
    if (ready < 0 && errno != EINTR) return fail_errno(errno, "waiting for the guest's agent");
    if (ready > 0) return true;
    if (steady_clock::now() >= deadline) return false;
  }
}

}  // namespace bygone::seamless
