#include "service/control/packet.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace bygone::service::control {

Result<nlohmann::json> parse_message(std::string_view text) {
  if (text.size() > kMaximumPacketBytes) return fail(ErrorCode::kCorrupt, "a message of {} bytes", text.size());
  bool is_too_deep = false;
  const nlohmann::json::parser_callback_t bound = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    is_too_deep = is_too_deep || depth > kMaximumDepth;
    return !is_too_deep;
  };
  auto message = nlohmann::json::parse(text, bound, false);
  if (is_too_deep) return fail(ErrorCode::kCorrupt, "a message nested deeper than {} levels", kMaximumDepth);
  if (!message.is_object()) return fail(ErrorCode::kCorrupt, "a message that is not a JSON object");
  return message;
}

Result<void> send_packet(int socket, const nlohmann::json& message, std::span<const int> fds) {
  std::string text = message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMaximumPacketBytes || fds.size() > kMaximumPacketFds) {
    return fail(ErrorCode::kExhausted, "a control message of {} bytes and {} files is too large", text.size(), fds.size());
  }
  iovec part{text.data(), text.size()};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaximumPacketFds * sizeof(int))> control = {};
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  for (;;) {
    if (::sendmsg(socket, &header, MSG_NOSIGNAL) >= 0) return {};
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return fail(ErrorCode::kBusy, "the other side of the control socket does not read");
    return fail_errno(errno, "sending on the control socket");
  }
}

Result<Packet> receive_packet(int socket) {
  std::string text(kMaximumPacketBytes, '\0');
  iovec part{text.data(), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaximumPacketFds * sizeof(int))> control = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return fail(ErrorCode::kBusy, "nothing has come");
  if (got < 0 && errno == ECONNRESET) return fail(ErrorCode::kCancelled, "the other side of the control socket is gone");
  if (got < 0) return fail_errno(errno, "receiving on the control socket");
  Packet packet;
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t offset = 0; CMSG_LEN(offset + sizeof(int)) <= item->cmsg_len; offset += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + offset, sizeof fd);
      packet.fds.emplace_back(fd);
    }
  }
  if (got == 0) return fail(ErrorCode::kCancelled, "the other side of the control socket has closed it");
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return fail(ErrorCode::kCorrupt, "a control message that is too large");
  BYGONE_ASSIGN(packet.message, parse_message(std::string_view(text).substr(0, static_cast<std::size_t>(got))));
  return packet;
}

Result<UniqueFd> sealed_file(std::span<const std::byte> content) {
  UniqueFd file(::memfd_create("bygone-message", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_errno(errno, "creating a file in memory");
  while (!content.empty()) {
    const ssize_t wrote = ::write(file.get(), content.data(), content.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return fail_errno(errno, "writing a file in memory");
    content = content.subspan(static_cast<std::size_t>(wrote));
  }
  ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
  return file;
}

Result<std::vector<std::byte>> read_sealed_file(int fd, std::size_t maximum_bytes) {
  struct stat about = {};
  if (::fstat(fd, &about) != 0) return fail_errno(errno, "looking at a file that came with a message");
  if (about.st_size < 0 || std::cmp_greater(about.st_size, maximum_bytes)) {
    return fail(ErrorCode::kExhausted, "a message brought a file of {} bytes", about.st_size);
  }
  std::vector<std::byte> content(static_cast<std::size_t>(about.st_size));
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t got = ::pread(fd, content.data() + done, content.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading a file that came with a message");
    if (got == 0) return fail(ErrorCode::kCorrupt, "a file that came with a message ended early");
    done += static_cast<std::size_t>(got);
  }
  return content;
}

}  // namespace bygone::service::control
