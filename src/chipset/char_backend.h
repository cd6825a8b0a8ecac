// Where a serial port's characters go to and come from.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "support/event_loop.h"
#include "support/result.h"

namespace bygone::chipset {

/// Threading: write() from any thread; the input handler is called on the back end's own thread.
class CharBackend {
 public:
  virtual ~CharBackend() = default;
  /// Takes characters from the guest. Never waits for a reader: what nobody takes is dropped after a bounded while.
  virtual void write(std::span<const std::byte> data) = 0;
  /// Set once, before the machine runs; an empty handler takes it away again.
  virtual void set_input_handler(std::function<void(std::span<const std::byte>)> handler) = 0;
};

/// A back end over file descriptors that the caller keeps open: `input` (-1: none) is watched on `loop`, `output` is written
/// as it is, blocking when it blocks. For the terminal that started the machine.
[[nodiscard]] Result<std::unique_ptr<CharBackend>> create_console_backend(EventLoop& loop, int input, int output);
/// Appends to a file; no input.
[[nodiscard]] Result<std::unique_ptr<CharBackend>> create_file_backend(const std::string& path);
/// A new pseudo-terminal; `path` gets its name, such as /dev/pts/5.
[[nodiscard]] Result<std::unique_ptr<CharBackend>> create_pty_backend(EventLoop& loop, std::string& path);
/// Listens on a unix socket of mode 0600 at `path` and serves one client at a time. A stale socket there is replaced.
/// Create and destroy the last two, and a console, on the loop's thread or while the loop does not run.
[[nodiscard]] Result<std::unique_ptr<CharBackend>> create_socket_backend(EventLoop& loop, const std::string& path);

}  // namespace bygone::chipset
