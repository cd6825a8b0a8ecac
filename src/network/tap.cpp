#include "network/tap.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

namespace bygone::network {
namespace {

constexpr int kFramesATurn = 64;
constexpr auto kLookAgain = std::chrono::seconds(1);

class FrameDescriptor final : public Backend {
 public:
  FrameDescriptor(EventLoop& loop, UniqueFd descriptor, std::string name, Log log)
      : loop_(loop), descriptor_(std::move(descriptor)), name_(std::move(name)), log_(std::move(log)), buffer_(kMaximumFrameBytes) {}
  ~FrameDescriptor() override {
    if (watched_) loop_.unwatch(descriptor_.get());
    if (look_again_) loop_.cancel_timer(*look_again_);
  }

  Result<void> start(FrameSink& sink) override {
    sink_ = &sink;
    BYGONE_CHECK(watch());
    sink.set_link(true);
    return {};
  }

  void send(std::span<const std::byte> frame) override {
    if (failed_) return;
    if (::write(descriptor_.get(), frame.data(), frame.size()) >= 0) {
      ++sent_;
      if (down_) set_down(false);
      return;
    }
    ++lost_;
    if (errno == EIO) {
      set_down(true);  // the interface is not up
    } else if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR && errno != EINVAL && errno != EMSGSIZE) {
      give_up(errno);
    }
  }
  void finish_burst() override {}
  void has_room_again() override {
    if (watched_ || failed_) return;
    if (auto watched = watch(); !watched) log_.warning("{}: {}", name_, watched.error().text());
  }
  nlohmann::json inspect() const override {
    return {{"kind", "tap"}, {"name", name_}, {"state", failed_ ? failure_ : down_ ? "down" : "up"},
            {"sent", sent_}, {"received", received_}, {"lost", lost_}};
  }

 private:
  Result<void> watch() {
    BYGONE_CHECK(loop_.watch(descriptor_.get(), EPOLLIN, [this](std::uint32_t) { receive(); }));
    watched_ = true;
    return {};
  }
  void unwatch() {
    if (std::exchange(watched_, false)) loop_.unwatch(descriptor_.get());
  }

  void receive() {
    for (int i = 0; i < kFramesATurn; ++i) {
      if (!sink_->has_room()) {
        unwatch();  // the kernel keeps what comes; the sink says when to go on
        break;
      }
      const ssize_t length = ::read(descriptor_.get(), buffer_.data(), buffer_.size());
      if (length < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (length <= 0) {
        give_up(length < 0 ? errno : EPIPE);
        break;
      }
      ++received_;
      if (!sink_->deliver(std::span(buffer_).first(static_cast<std::size_t>(length)), {})) ++lost_;
    }
    sink_->finish_delivery();
  }

  void give_up(int error_number) {
    unwatch();
    failed_ = true;
    failure_ = error_from_errno(error_number, "using the interface").text();
    log_.error("{} has failed and the guest's cable is out: {}", name_, failure_);
    sink_->set_link(false);
  }

  void set_down(bool is_down) {
    if (std::exchange(down_, is_down) == is_down) return;
    log_.warning("{} is {}", name_, is_down ? "down, and so is the guest's link" : "up again");
    sink_->set_link(!is_down);
    if (is_down) look_again();
  }

  /// A guest without link sends nothing, so its frames do not tell.
  void look_again() {
    look_again_ = loop_.add_timer(std::chrono::steady_clock::now() + kLookAgain, [this] {
      look_again_.reset();
      if (!down_ || failed_) return;
      const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      const UniqueFd owned(socket);
      ifreq request{};
      name_.copy(request.ifr_name, IFNAMSIZ - 1);
      if (::ioctl(socket, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0) {
        set_down(false);
      } else {
        look_again();
      }
    });
  }

  EventLoop& loop_;
  UniqueFd descriptor_;
  std::string name_;
  Log log_;
  std::vector<std::byte> buffer_;
  FrameSink* sink_ = nullptr;
  bool watched_ = false;
  bool down_ = false;
  bool failed_ = false;
  std::string failure_;
  std::optional<EventLoop::TimerId> look_again_;
  std::uint64_t sent_ = 0, received_ = 0, lost_ = 0;
};

Result<UniqueFd> open_tap(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ) return fail(ErrorCode::kInvalidArgument, "\"{}\" is not an interface's name", name);
  UniqueFd tap(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (tap.get() < 0) {
    Error error = error_from_errno(errno, "opening /dev/net/tun");
    error.hint = "TAP needs the host's tun module and access to its device; --network nat needs neither";
    return std::unexpected(std::move(error));
  }
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (::ioctl(tap.get(), TUNSETIFF, &request) != 0) {
    Error error = error_from_errno(errno, fmt::format("attaching to the TAP interface {}", name));
    error.hint = fmt::format("Make it with: ip tuntap add {} mode tap user $USER && ip link set {} up", name, name);
    return std::unexpected(std::move(error));
  }
  return tap;
}

}  // namespace

Result<std::unique_ptr<Backend>> create_tap(EventLoop& loop, TapOptions options, Log log) {
  if (options.descriptor >= 0) {
    const int flags = ::fcntl(options.descriptor, F_GETFL);
    if (flags < 0 || ::fcntl(options.descriptor, F_SETFL, flags | O_NONBLOCK) != 0) {
      return fail_errno(errno, fmt::format("using descriptor {} as a TAP", options.descriptor));
    }
    std::string name = options.interface_name.empty() ? fmt::format("fd {}", options.descriptor) : options.interface_name;
    return create_frame_descriptor(loop, UniqueFd(options.descriptor), std::move(name), std::move(log));
  }
  BYGONE_ASSIGN(UniqueFd tap, open_tap(options.interface_name));
  return create_frame_descriptor(loop, std::move(tap), options.interface_name, std::move(log));
}

std::unique_ptr<Backend> create_frame_descriptor(EventLoop& loop, UniqueFd descriptor, std::string name, Log log) {
  return std::make_unique<FrameDescriptor>(loop, std::move(descriptor), std::move(name), std::move(log));
}

}  // namespace bygone::network
