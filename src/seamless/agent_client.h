// The host's side of the agent protocol: one connection to the integration agent of a running machine.
// Specification: docs/agent-protocol.md. Everything the agent says comes from the guest and has been checked for form only:
// titles and names are to be treated as foreign text.
// Threading: one thread; calls block until the reply is there or the time limit has passed.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "spec/agent/message.h"
#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::seamless {

class AgentClient {
 public:
  /// Connects to the Unix socket by which a machine's process offers the agent's port, and greets the agent. Every
  /// call gives up after `limit`. Errors: kNotFound or kIo when nobody listens, kUnsupported for an agent of another version,
  /// kBusy when the time has passed.
  [[nodiscard]] static Result<std::unique_ptr<AgentClient>> connect(const std::string& path, std::chrono::milliseconds limit);

  [[nodiscard]] const spec::agent::HelloReply& agent() const { return hello_; }

  [[nodiscard]] Result<std::vector<spec::agent::Program>> list_programs();
  [[nodiscard]] Result<spec::agent::IconReply> program_icon(const std::string& program, std::uint32_t size);
  /// Starts an installed program with files to open; returns its process in the guest.
  [[nodiscard]] Result<std::uint32_t> start_program(const std::string& program, const std::vector<std::string>& files);
  /// Starts a command line.
  [[nodiscard]] Result<std::uint32_t> start_command(const std::vector<std::string>& command);
  [[nodiscard]] Result<std::vector<spec::agent::Window>> list_windows();
  [[nodiscard]] Result<void> log_off();
  [[nodiscard]] Result<void> shut_down(bool restart);
  /// The session's screen becomes this large. Errors besides the connection's: the agent has no display, does not know the request,
  /// or its driver has no such mode.
  [[nodiscard]] Result<void> set_screen(std::uint32_t width, std::uint32_t height);

  /// From now on next_event() has something to tell.
  [[nodiscard]] Result<void> watch();
  /// The next event, or nothing when none has come within `limit`.
  [[nodiscard]] Result<std::optional<spec::agent::Event>> next_event(std::chrono::milliseconds limit);

  /// For an event loop: readable when next_event() may have something.
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  AgentClient(UniqueFd socket, std::chrono::milliseconds limit) : socket_(std::move(socket)), limit_(limit) {}

  template <typename ExpectedReply>
  [[nodiscard]] Result<ExpectedReply> ask(spec::agent::RequestBody body);
  [[nodiscard]] Result<void> send_all(std::span<const std::byte> bytes, TimePoint deadline);
  /// The next message that this side knows, or nothing at the deadline.
  [[nodiscard]] Result<std::optional<spec::agent::FromAgent>> receive(TimePoint deadline);
  /// Waits for events of poll(2); false at the deadline.
  [[nodiscard]] Result<bool> wait_for(short events, TimePoint deadline) const;

  UniqueFd socket_;
  std::chrono::milliseconds limit_;
  spec::agent::HelloReply hello_;
  spec::agent::FrameReader reader_;
  std::deque<spec::agent::Event> events_;
  std::uint32_t next_id_ = 1;
};

}  // namespace bygone::seamless
