// The language between the host and the integration agent in a guest, version 1: what can be asked, answered and told.
// Specification: docs/agent-protocol.md. Values only; message.h turns them into bytes and back.
//
//   host ──Request{id, body}──▶ agent        every request gets exactly one reply with its id
//   host ◀──Reply{id, body}──── agent
//   host ◀──Event──────────────── agent        only after WatchRequest
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace bygone::spec::agent {

/// The version this code speaks. A peer of another version is answered with kUnsupportedVersion.
inline constexpr std::uint32_t kProtocolVersion = 1;

/// The AF_VSOCK port on which the agent listens: "BG". Over Hyper-V sockets it is the service
/// 00004247-facb-11e6-bd58-64006a7986d3 (Linux net/vmw_vsock/hyperv_transport.c gives the template).
inline constexpr std::uint32_t kVsockPort = 0x4247;

/// Bounds that both sides hold; a message beyond one is an error, never cut short.
inline constexpr std::size_t kMaximumMessageSize = 1 << 20;
inline constexpr std::size_t kMaximumTextSize = 4096;
inline constexpr std::size_t kMaximumArguments = 256;
inline constexpr std::size_t kMaximumPrograms = 1024;
inline constexpr std::size_t kMaximumWindows = 1024;
inline constexpr std::size_t kMaximumIconSize = 256 << 10;

// --- things ---------------------------------------------------------------------------------------------------------

/// An installed program as a menu shows it.
struct Program {
  std::string id;       ///< the identifier of its .desktop file, such as "wine-Programs-SumatraPDF.desktop"
  std::string name;     ///< in the guest's language
  std::string comment;  ///< may be empty
  bool is_windows_program = false;
  bool operator==(const Program&) const = default;
};

struct Window {
  std::uint32_t id = 0;  ///< the X11 window
  std::uint32_t process = 0;  ///< 0 when the window does not say
  std::string title;
  std::string class_name;     ///< the second part of WM_CLASS
  std::string instance_name;  ///< the first part
  std::int32_t x = 0, y = 0;  ///< of the client area, in pixels of the guest's screen
  std::uint32_t width = 0, height = 0;
  bool is_active = false;
  bool is_minimized = false;
  bool operator==(const Window&) const = default;
};

// --- requests -------------------------------------------------------------------------------------------------------

struct HelloRequest {
  std::uint32_t version = kProtocolVersion;
  bool operator==(const HelloRequest&) const = default;
};
struct ListProgramsRequest {
  bool operator==(const ListProgramsRequest&) const = default;
};
struct ProgramIconRequest {
  std::string program;
  std::uint32_t size = 48;  ///< wished for, in pixels; another size may come
  bool operator==(const ProgramIconRequest&) const = default;
};
/// Either an installed program with files to open, or a command line; as the session's user, on the session's display.
struct StartProgramRequest {
  std::string program;                 ///< identifier from the list; empty for a command line
  std::vector<std::string> arguments;  ///< the files, or the whole command line with the program first
  bool operator==(const StartProgramRequest&) const = default;
};
struct ListWindowsRequest {
  bool operator==(const ListWindowsRequest&) const = default;
};
/// Events follow from now on, on this connection.
struct WatchRequest {
  bool operator==(const WatchRequest&) const = default;
};
struct LogOffRequest {
  bool operator==(const LogOffRequest&) const = default;
};
struct ShutdownRequest {
  bool restart = false;
  bool operator==(const ShutdownRequest&) const = default;
};
/// The session's screen is to have this size, of any width.
struct SetScreenRequest {
  std::uint32_t width = 0, height = 0;  ///< pixels
  bool operator==(const SetScreenRequest&) const = default;
};
using RequestBody = std::variant<HelloRequest, ListProgramsRequest, ProgramIconRequest, StartProgramRequest, ListWindowsRequest,
                                 WatchRequest, LogOffRequest, ShutdownRequest, SetScreenRequest>;
struct Request {
  std::uint32_t id = 0;
  RequestBody body;
  bool operator==(const Request&) const = default;
};

// --- replies --------------------------------------------------------------------------------------------------------

/// Wire names in message.cpp.
enum class ReplyError : std::uint8_t {
  kBadRequest,          ///< understood as a message, not as a request
  kUnknownRequest,      ///< a request this agent does not know
  kUnsupportedVersion,  ///< hello with another version; the text names the agent's
  kNotFound,            ///< no such program or icon
  kNoDisplay,           ///< there is no session to show or list windows in
  kFailed,              ///< it was tried; the text says what went wrong
};
struct ErrorReply {
  ReplyError code = ReplyError::kFailed;
  std::string text;
  bool operator==(const ErrorReply&) const = default;
};
struct DoneReply {
  bool operator==(const DoneReply&) const = default;
};
struct HelloReply {
  std::uint32_t version = kProtocolVersion;
  std::string agent;   ///< the agent's own version
  std::string system;  ///< the guest's name for itself, such as "Debian GNU/Linux 12 (bookworm)"
  bool has_display = false;
  bool operator==(const HelloReply&) const = default;
};
struct ProgramsReply {
  std::vector<Program> programs;
  bool operator==(const ProgramsReply&) const = default;
};
struct IconReply {
  std::string media_type;  ///< "image/png" or "image/svg+xml" or "image/x-xpixmap" or "image/vnd.microsoft.icon"
  std::vector<std::byte> data;
  bool operator==(const IconReply&) const = default;
};
struct StartedReply {
  std::uint32_t process = 0;
  bool operator==(const StartedReply&) const = default;
};
struct WindowsReply {
  std::vector<Window> windows;  ///< bottom to top
  bool operator==(const WindowsReply&) const = default;
};
using ReplyBody = std::variant<ErrorReply, DoneReply, HelloReply, ProgramsReply, IconReply, StartedReply, WindowsReply>;
struct Reply {
  std::uint32_t id = 0;
  ReplyBody body;
  bool operator==(const Reply&) const = default;
};

// --- events ---------------------------------------------------------------------------------------------------------

struct WindowOpenedEvent {
  Window window;
  bool operator==(const WindowOpenedEvent&) const = default;
};
struct WindowChangedEvent {
  Window window;
  bool operator==(const WindowChangedEvent&) const = default;
};
struct WindowClosedEvent {
  std::uint32_t window = 0;
  bool operator==(const WindowClosedEvent&) const = default;
};
/// A program that was started by StartProgramRequest on this connection.
struct ProgramEndedEvent {
  std::uint32_t process = 0;
  std::int32_t status = 0;  ///< exit status, or minus the number of the signal that ended it
  bool operator==(const ProgramEndedEvent&) const = default;
};
using Event = std::variant<WindowOpenedEvent, WindowChangedEvent, WindowClosedEvent, ProgramEndedEvent>;

}  // namespace bygone::spec::agent
