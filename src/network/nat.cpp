#include "network/nat.h"

#include <arpa/inet.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <sys/epoll.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "network/offload.h"

namespace bygone::network {
namespace {

using Clock = std::chrono::steady_clock;

// RFC 1918 and fec0::/64, as users of QEMU's and VirtualBox's NAT know them.
constexpr const char* kNetwork = "10.0.2.0";
constexpr const char* kMask = "255.255.255.0";
constexpr const char* kRouter = "10.0.2.2";
constexpr const char* kNameServer = "10.0.2.3";
constexpr const char* kFirstGuest = "10.0.2.15";
constexpr const char* kPrefix6 = "fec0::";
constexpr std::uint8_t kPrefixBits6 = 64;
constexpr const char* kRouter6 = "fec0::2";
constexpr const char* kNameServer6 = "fec0::3";

constexpr std::size_t kRouterMtu = 65520;  // the most that libslirp takes

struct SlirpDeleter {
  void operator()(Slirp* slirp) const { slirp_cleanup(slirp); }
};

in_addr address4(const char* text) {
  in_addr address{};
  inet_pton(AF_INET, text, &address);
  return address;
}
in6_addr address6(const char* text) {
  in6_addr address{};
  inet_pton(AF_INET6, text, &address);
  return address;
}

class Nat final : public Backend {
 public:
  Nat(EventLoop& loop, NatOptions options, Log log) : loop_(loop), options_(std::move(options)), log_(std::move(log)) {}
  ~Nat() override {
    slirp_.reset();
    for (const auto& [fd, watched] : watched_) loop_.unwatch(fd);
    if (alarm_) loop_.cancel_timer(*alarm_);
  }

  [[nodiscard]] Result<void> create_router();
  [[nodiscard]] Result<void> add_forward(const PortForward& forward);

  // Backend
  Result<void> start(FrameSink& sink) override {
    sink_ = &sink;
    sink.set_link(true);
    watch_sockets();
    return {};
  }
  void send(std::span<const std::byte> frame) override {
    ++sent_;
    frame = with_large_segments(frame);
    slirp_input(slirp_.get(), reinterpret_cast<const std::uint8_t*>(frame.data()), static_cast<int>(frame.size()));
  }
  void finish_burst() override { watch_sockets(); }
  bool takes_large_segments() const override { return true; }
  void set_guest_limits(std::uint32_t mtu, bool takes_large_segments) override {
    mtu_ = mtu;
    guest_takes_large_segments_ = takes_large_segments;
  }
  nlohmann::json inspect() const override;

 private:
  struct Timer {
    SlirpTimerCb callback;
    void* argument;
    Nat* nat;
    std::optional<EventLoop::TimerId> armed;
  };
  struct Watched {
    std::uint32_t wanted = 0;  ///< by libslirp, as of the last time that it was asked
    std::uint64_t round = 0;
  };

  [[nodiscard]] const SlirpCb& callbacks();
  void serve();
  void watch_sockets();
  void watch(int fd, std::uint32_t events);
  void socket_is_ready(int fd, std::uint32_t happened);
  void forget(int fd);
  void set_alarm(std::uint32_t milliseconds);
  ssize_t receive(std::span<const std::byte> frame);
  bool deliver_large(std::span<const std::byte> frame);
  [[nodiscard]] std::span<const std::byte> with_large_segments(std::span<const std::byte> frame);

  EventLoop& loop_;
  NatOptions options_;
  Log log_;
  std::unique_ptr<Slirp, SlirpDeleter> slirp_;
  FrameSink* sink_ = nullptr;
  std::vector<pollfd> polled_, spare_polled_;
  bool serve_posted_ = false;
  std::unordered_map<int, Watched> watched_;
  std::uint64_t round_ = 0;
  std::optional<EventLoop::TimerId> alarm_;
  Clock::time_point alarm_time_;
  std::uint32_t mtu_ = 1500;
  bool guest_takes_large_segments_ = false;
  std::vector<std::byte> scratch_;
  std::uint64_t sent_ = 0, received_ = 0, lost_ = 0, complaints_ = 0;
};

const SlirpCb& Nat::callbacks() {
  static const SlirpCb kCallbacks = [] {
    SlirpCb callbacks{};
    callbacks.send_packet = [](const void* bytes, std::size_t length, void* self) {
      return static_cast<Nat*>(self)->receive({static_cast<const std::byte*>(bytes), length});
    };
    callbacks.guest_error = [](const char* text, void* self) {
      auto* nat = static_cast<Nat*>(self);
      if (nat->complaints_++ == 0) nat->log_.info("the guest's network traffic: {}; further ones are only counted", text);
    };
    callbacks.clock_get_ns = [](void*) -> std::int64_t {
      return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
    };
    callbacks.timer_new = [](SlirpTimerCb callback, void* argument, void* self) -> void* {
      return new Timer{callback, argument, static_cast<Nat*>(self), {}};
    };
    callbacks.timer_free = [](void* timer, void* self) {
      auto* owned = static_cast<Timer*>(timer);
      if (owned->armed) static_cast<Nat*>(self)->loop_.cancel_timer(*owned->armed);
      delete owned;
    };
    callbacks.timer_mod = [](void* timer, std::int64_t milliseconds, void* self) {
      auto* owned = static_cast<Timer*>(timer);
      EventLoop& loop = static_cast<Nat*>(self)->loop_;
      if (owned->armed) loop.cancel_timer(*owned->armed);
      owned->armed = loop.add_timer(Clock::time_point(std::chrono::milliseconds(milliseconds)), [owned] {
        owned->armed.reset();
        Nat* nat = owned->nat;
        owned->callback(owned->argument);
        nat->sink_->finish_delivery();
      });
    };
    callbacks.register_poll_fd = [](int, void*) {};
    callbacks.unregister_poll_fd = [](int fd, void* self) { static_cast<Nat*>(self)->forget(fd); };
    callbacks.notify = [](void*) {};  // for other threads' input; there is none
    return callbacks;
  }();
  return kCallbacks;
}

Result<void> Nat::create_router() {
  SlirpConfig config{};
  config.version = 1;
  config.in_enabled = true;
  config.vnetwork = address4(kNetwork);
  config.vnetmask = address4(kMask);
  config.vhost = address4(kRouter);
  config.vdhcp_start = address4(kFirstGuest);
  config.vnameserver = address4(kNameServer);
  config.in6_enabled = true;
  config.vprefix_addr6 = address6(kPrefix6);
  config.vprefix_len = kPrefixBits6;
  config.vhost6 = address6(kRouter6);
  config.vnameserver6 = address6(kNameServer6);
  config.if_mtu = config.if_mru = kRouterMtu;  // the guest's own is smaller; what is larger than that is cut on its way
  config.vhostname = options_.guest_name.empty() ? nullptr : options_.guest_name.c_str();
  slirp_.reset(slirp_new(&config, &callbacks(), this));
  if (!slirp_) return fail(ErrorCode::kInternal, "libslirp {} refuses the NAT network's settings", slirp_version_string());
  for (const PortForward& forward : options_.forwards) BYGONE_CHECK(add_forward(forward));
  return {};
}

Result<void> Nat::add_forward(const PortForward& forward) {
  in_addr host{};
  if (inet_pton(AF_INET, forward.host_address.c_str(), &host) != 1) {
    return fail(ErrorCode::kInvalidArgument, "\"{}\" is not an IPv4 address to listen on", forward.host_address);
  }
  errno = 0;
  if (slirp_add_hostfwd(slirp_.get(), forward.is_udp ? 1 : 0, host, forward.host_port, in_addr{}, forward.guest_port) != 0) {
    Error error = error_from_errno(errno == 0 ? EADDRINUSE : errno,
                                   fmt::format("forwarding {} port {} of {} to the guest", forward.is_udp ? "UDP" : "TCP",
                                               forward.host_port, forward.host_address));
    error.hint = "Choose another host port; those below 1024 need rights";
    return std::unexpected(std::move(error));
  }
  return {};
}

ssize_t Nat::receive(std::span<const std::byte> frame) {
  ++received_;
  const bool is_large = frame.size() > sizeof(spec::internet::EthernetHeader) + mtu_;
  if (sink_ == nullptr || !(is_large ? deliver_large(frame) : sink_->deliver(frame, {.checksums_are_valid = true}))) ++lost_;
  return static_cast<ssize_t>(frame.size());  // a lost frame is sent again by TCP
}

/// A frame that is larger than the guest's wire: TCP as segments in one, which the adapter hands over whole or cuts; datagrams in
/// fragments.
bool Nat::deliver_large(std::span<const std::byte> frame) {
  const FrameLayout layout = find_headers(frame);
  const std::size_t header_bytes = layout.payload_offset - layout.ip_offset;
  if (layout.transport == FrameLayout::Transport::kTcp && mtu_ > header_bytes) {
    const auto segment_bytes = static_cast<std::uint16_t>(mtu_ - header_bytes);
    return sink_->deliver(frame, {.checksums_are_valid = true, .segment_bytes = segment_bytes});
  }
  bool all = true;
  const bool cut = cut_fragments(frame, mtu_, scratch_, [&](std::span<const std::byte> fragment) { all = sink_->deliver(fragment, {}) && all; });
  return cut && all;
}

/// A guest that takes large segments says with its SYN what its wire carries. There is no wire: the router may make segments as
/// large as it likes, which saves both sides most of their work. Only the wire's own size is replaced: a smaller one has a reason.
std::span<const std::byte> Nat::with_large_segments(std::span<const std::byte> frame) {
  constexpr std::size_t kLongestSyn = 200;
  if (!guest_takes_large_segments_ || frame.size() > kLongestSyn) return frame;
  scratch_.assign(frame.begin(), frame.end());
  const bool is_v6 = find_headers(frame).ip == FrameLayout::Ip::kV6;
  const std::size_t headers = (is_v6 ? sizeof(spec::internet::Ipv6Header) : sizeof(spec::internet::Ipv4Header)) + sizeof(spec::internet::TcpHeader);
  const bool replaced = mtu_ > headers && replace_maximum_segment(scratch_, static_cast<std::uint16_t>(mtu_ - headers), 0x7FFF);
  return replaced ? std::span<const std::byte>(scratch_) : frame;
}

/// Some socket is ready or a time-out is due.
void Nat::serve() {
  const int ready = ::poll(polled_.data(), polled_.size(), 0);
  slirp_pollfds_poll(slirp_.get(), ready < 0 ? 1 : 0,
                     [](int index, void* self) {
                       const auto& polled = static_cast<Nat*>(self)->polled_;
                       if (index < 0 || static_cast<std::size_t>(index) >= polled.size()) return 0;
                       const int happened = polled[static_cast<std::size_t>(index)].revents;
                       return ((happened & POLLIN) != 0 ? SLIRP_POLL_IN : 0) | ((happened & POLLOUT) != 0 ? SLIRP_POLL_OUT : 0) |
                              ((happened & POLLPRI) != 0 ? SLIRP_POLL_PRI : 0) | ((happened & POLLERR) != 0 ? SLIRP_POLL_ERR : 0) |
                              ((happened & POLLHUP) != 0 ? SLIRP_POLL_HUP : 0);
                     },
                     this);
  sink_->finish_delivery();
  std::vector<pollfd> before = std::exchange(polled_, std::move(spare_polled_));
  watch_sockets();
  // libslirp takes what it likes: of what it still wants there may be more, of which the loop does not tell.
  const bool has_more = std::ranges::any_of(before, [this](const pollfd& entry) {
    const auto watched = watched_.find(entry.fd);
    return watched != watched_.end() && watched->second.round == round_ &&
           (static_cast<std::uint32_t>(entry.revents) & watched->second.wanted) != 0;
  });
  spare_polled_ = std::move(before);
  if (!has_more || std::exchange(serve_posted_, true)) return;
  loop_.post([this] {
    serve_posted_ = false;
    serve();
  });
}

/// Asks libslirp what it waits for, and tells the loop the difference.
void Nat::watch_sockets() {
  std::uint32_t timeout = UINT32_MAX;
  polled_.clear();
  slirp_pollfds_fill(slirp_.get(), &timeout,
                     [](int fd, int events, void* self) {
                       auto& polled = static_cast<Nat*>(self)->polled_;
                       const int wanted = ((events & SLIRP_POLL_IN) != 0 ? POLLIN : 0) | ((events & SLIRP_POLL_OUT) != 0 ? POLLOUT : 0) |
                                          ((events & SLIRP_POLL_PRI) != 0 ? POLLPRI : 0);
                       polled.push_back({fd, static_cast<short>(wanted), 0});
                       return static_cast<int>(polled.size() - 1);
                     },
                     this);
  ++round_;
  for (const pollfd& entry : polled_) watch(entry.fd, static_cast<std::uint32_t>(entry.events));
  set_alarm(timeout);
}

/// The loop is told once of each socket, and again when libslirp wants more of it than before. It tells of what comes new only
/// (EPOLLET): sockets that libslirp does not want to hear of for a while, which is part of every stream, then cost no system calls.
void Nat::watch(int fd, std::uint32_t events) {
  static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLPRI == POLLPRI);
  constexpr std::uint32_t kEvents = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLET;
  const auto [entry, is_new] = watched_.try_emplace(fd);
  const bool wants_more = (events & ~entry->second.wanted) != 0 || entry->second.round + 1 != round_;
  entry->second = {events, round_};
  if (!is_new) {
    // Tells also of what is there already; a socket that was closed behind our back is not known to the loop any more.
    if (!wants_more || loop_.change_events(fd, kEvents)) return;
    loop_.unwatch(fd);
  }
  if (auto watched = loop_.watch(fd, kEvents, [this, fd](std::uint32_t happened) { socket_is_ready(fd, happened); }); !watched) {
    log_.warning("a NAT socket cannot be watched: {}", watched.error().text());
    watched_.erase(fd);
  }
}

void Nat::socket_is_ready(int fd, std::uint32_t happened) {
  const auto entry = watched_.find(fd);
  if (entry == watched_.end() || entry->second.round != round_) return;
  if ((happened & (entry->second.wanted | EPOLLERR | EPOLLHUP)) != 0) serve();
}

void Nat::forget(int fd) {
  if (watched_.erase(fd) != 0) loop_.unwatch(fd);
}

void Nat::set_alarm(std::uint32_t milliseconds) {
  if (milliseconds == UINT32_MAX) return;  // one that is still set only looks in vain
  const auto when = Clock::now() + std::chrono::milliseconds(milliseconds);
  if (alarm_ && alarm_time_ <= when) return;
  if (alarm_) loop_.cancel_timer(*alarm_);
  alarm_time_ = when;
  alarm_ = loop_.add_timer(when, [this] {
    alarm_.reset();
    serve();
  });
}

nlohmann::json Nat::inspect() const {
  nlohmann::json forwards = nlohmann::json::array();
  for (const PortForward& forward : options_.forwards) {
    forwards.push_back(fmt::format("{}:{}:{}:{}", forward.is_udp ? "udp" : "tcp", forward.host_address, forward.host_port,
                                   forward.guest_port));
  }
  return {{"kind", "nat"},     {"forwards", forwards}, {"sockets", watched_.size()}, {"sent", sent_},
          {"received", received_}, {"lost", lost_},    {"guest_errors", complaints_}};
}

}  // namespace

Result<std::unique_ptr<Backend>> create_nat(EventLoop& loop, NatOptions options, Log log) {
  auto nat = std::make_unique<Nat>(loop, std::move(options), std::move(log));
  BYGONE_CHECK(nat->create_router());
  return nat;
}

}  // namespace bygone::network
