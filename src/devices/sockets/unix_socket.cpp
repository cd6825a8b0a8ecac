#include "devices/sockets/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>

#include "support/unix_address.h"

namespace bygone::devices::sockets {
namespace {

constexpr int kBacklog = 64;

Result<UniqueFd> make_socket() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno(errno, "making a socket");
  return socket;
}

}  // namespace

Result<UniqueFd> listen_at(const std::filesystem::path& path) {
  BYGONE_ASSIGN(const sockaddr_un address, unix_address(path));
  if (struct stat there{}; ::lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) return fail(ErrorCode::kAlreadyExists, "{} is there already and is not a socket", path.string());
    if (const auto listener = connect_to(path); listener || listener.error().code == ErrorCode::kBusy) {
      return std::unexpected(Error{ErrorCode::kAlreadyExists, fmt::format("another program listens on {}", path.string()),
                                   "Stop the machine that uses this directory, or choose another"});
    }
    ::unlink(path.c_str());
  }
  BYGONE_ASSIGN(UniqueFd socket, make_socket());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(socket.get(), kBacklog) != 0) {
    return fail_errno(errno, "listening on " + path.string());
  }
  return socket;
}

Result<UniqueFd> connect_to(const std::filesystem::path& path) {
  BYGONE_ASSIGN(const sockaddr_un address, unix_address(path));
  BYGONE_ASSIGN(UniqueFd socket, make_socket());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return socket;
  switch (errno) {
    case ENOENT:
    case ECONNREFUSED: return fail(ErrorCode::kNotFound, "nobody listens on {}", path.string());
    case EAGAIN: return fail(ErrorCode::kBusy, "the program that listens on {} does not accept", path.string());
    default: return fail_errno(errno, "connecting to " + path.string());
  }
}

}  // namespace bygone::devices::sockets
