#include "devices/sockets/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "devices/sockets/address.h"
#include "spec/hvsocket/hvsocket.h"
#include "spec/vmbus/ring.h"

namespace bygone::devices::sockets {

using spec::vmbus::PipeHeader;

namespace {

/// What is taken out of the ring at once for one write to the socket.
constexpr std::size_t kBatch = 65536;
/// What one turn moves in each direction before other connections have theirs.
constexpr std::size_t kTurn = 1U << 20;
/// What is still taken out of the ring of a guest that has closed the channel, and how long its reader has for it.
constexpr std::size_t kLastWords = 1U << 20;
constexpr int kLastTurns = 64;
constexpr auto kFlushLimit = std::chrono::seconds(10);

vmbus::Offer make_offer(const ConnectionOptions& options) {
  vmbus::Offer offer;
  offer.name = "socket-" + std::to_string(options.number);
  offer.interface_type = options.service;
  offer.instance = options.instance;
  offer.flags = spec::vmbus::kOfferEnumerateDeviceInterface | spec::vmbus::kOfferNamedPipeMode | spec::vmbus::kOfferSocket;
  spec::hvsocket::OfferData data = {};
  data.pipe_type = spec::vmbus::kPipeTypeByte;
  data.for_guest_accept = options.direction == Direction::kToGuest ? 1 : 0;
  data.version[0] = 1;
  std::memcpy(offer.user_data.data(), &data, sizeof data);
  return offer;
}

}  // namespace

Connection::Connection(ConnectionOptions options, EventLoop& loop, Events events)
    : options_(std::move(options)), loop_(loop), events_(std::move(events)), offer_(make_offer(options_)) {
  timer_ = loop_.add_timer(std::chrono::steady_clock::now() + options_.open_limit, [this] {
    timer_.reset();
    begin_leave();
  });
}

Connection::~Connection() {
  if (timer_) loop_.cancel_timer(*timer_);
  unwatch();
}

Result<void> Connection::open(vmbus::Channel& channel) {
  if (state_ != State::kOffered) return fail(ErrorCode::kBusy, "the connection is over");
  if (timer_) loop_.cancel_timer(*std::exchange(timer_, std::nullopt));
  channel_ = &channel;
  state_ = State::kOpen;
  was_opened_ = true;
  if (!options_.socket) {
    loop_.post([this] { begin_leave(); });
    return {};
  }
  if (events_.opened) events_.opened();
  if (state_ == State::kOpen) watch();
  pump_again();
  return {};
}

void Connection::close(vmbus::Channel& channel, Closed done) {
  if (channel_ == &channel) {
    // A guest that closes without waiting has its last words in the ring.
    for (int turn = 0; turn < kLastTurns && to_host_.size() - to_host_done_ < kLastWords && !program_gone_; ++turn) {
      channel.start_turn();
      const auto got = receive_batch(kLastWords);
      if (!got || !*got) break;
    }
    channel_ = nullptr;
  }
  done();
  begin_leave();
}

Result<void> Connection::on_signal(vmbus::Channel&) { return pump(); }

/// Moves what can be moved in both directions.
Result<void> Connection::pump() {
  if (state_ != State::kOpen || channel_ == nullptr) return {};
  BYGONE_ASSIGN(const bool more_to_host, pump_to_host());
  BYGONE_ASSIGN(const bool more_to_guest, pump_to_guest());
  finish_if_done();
  if (state_ != State::kOpen) return {};
  watch();
  if (more_to_host || more_to_guest) pump_again();
  return {};
}

void Connection::pump_again() {
  if (std::exchange(again_posted_, true)) return;
  loop_.post([this] {
    again_posted_ = false;
    on_socket(0);
  });
}

void Connection::on_socket(std::uint32_t events) {
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) program_is_gone();
  if (state_ == State::kLeaving) {
    write_to_socket();
    finish_flush();
    return;
  }
  if (state_ != State::kOpen || channel_ == nullptr) return;
  vmbus::Channel& channel = *channel_;
  if (auto pumped = pump(); !pumped) {
    channel.fail(std::move(pumped).error());
    return;
  }
  if (channel_ != nullptr) channel.flush();
}

/// True: stopped for the others' sake.
Result<bool> Connection::pump_to_host() {
  for (std::size_t moved = 0; moved < kTurn; moved += kBatch) {
    if (!write_to_socket()) return false;
    BYGONE_ASSIGN(const bool got, receive_batch(kBatch));
    if (!got) {
      write_to_socket();
      return false;
    }
  }
  return true;
}

/// Takes packets until `limit` bytes wait for the socket or the ring is empty; false when there was none.
Result<bool> Connection::receive_batch(std::size_t limit) {
  bool any = false;
  while (to_host_.size() - to_host_done_ < limit) {
    BYGONE_ASSIGN(const bool got, channel_->receive(packet_));
    if (!got) return any;
    any = true;
    BYGONE_CHECK(take_packet());
  }
  return any;
}

Result<void> Connection::take_packet() {
  if (packet_.type() == vmbus::PacketType::kCompletion) return {};
  const auto header = packet_.payload_as<PipeHeader>();
  if (packet_.type() != vmbus::PacketType::kInBand || !header || header->length > packet_.payload().size() - sizeof(PipeHeader)) {
    return fail(ErrorCode::kCorrupt, "a socket's packet of type {} and {} bytes without its data",
                static_cast<int>(packet_.type()), packet_.payload().size());
  }
  if (header->type != spec::vmbus::kPipeData && header->type != spec::vmbus::kPipePartial) {
    return fail(ErrorCode::kCorrupt, "a socket's packet of pipe type {}", header->type.value());
  }
  const auto data = packet_.payload().subspan(sizeof(PipeHeader), header->length);
  if (data.empty()) {
    guest_ended_ = true;
  } else if (guest_ended_) {
    return fail(ErrorCode::kCorrupt, "a socket's data after its end");
  } else if (!program_gone_) {
    to_host_.insert(to_host_.end(), data.begin(), data.end());
  }
  if (!packet_.wants_completion()) return {};
  BYGONE_ASSIGN(const bool sent, channel_->complete(packet_.transaction_id()));
  if (!sent) return fail(ErrorCode::kCorrupt, "the guest does not take its completions");
  return {};
}

bool Connection::write_to_socket() {
  while (to_host_done_ < to_host_.size() && !program_gone_) {
    const ssize_t sent = ::send(options_.socket.get(), to_host_.data() + to_host_done_, to_host_.size() - to_host_done_,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return false;
      program_is_gone();
      break;
    }
    to_host_done_ += static_cast<std::size_t>(sent);
    bytes_to_host_ += static_cast<std::uint64_t>(sent);
  }
  to_host_.clear();
  to_host_done_ = 0;
  if (guest_ended_ && !std::exchange(end_told_to_host_, true) && !program_gone_) ::shutdown(options_.socket.get(), SHUT_WR);
  return true;
}

Result<bool> Connection::pump_to_guest() {
  for (std::size_t moved = 0; moved < kTurn;) {
    if (to_guest_.empty() && !host_ended_) read_socket();
    if (to_guest_.empty() && !host_ended_) return false;
    if (to_guest_.empty() && end_told_to_guest_) return false;
    BYGONE_ASSIGN(const bool sent, send_to_guest(to_guest_));
    if (!sent) return false;
    if (to_guest_.empty()) {
      end_told_to_guest_ = true;
      return false;
    }
    bytes_to_guest_ += to_guest_.size();
    moved += to_guest_.size();
    to_guest_.clear();
  }
  return true;
}

Result<bool> Connection::send_to_guest(std::span<const std::byte> data) {
  PipeHeader header;
  header.type = spec::vmbus::kPipeData;
  header.length = static_cast<std::uint32_t>(data.size());
  return channel_->send({bytes_of(header), data});
}

void Connection::read_socket() {
  // A third of the ring: one packet on its way, one being read, one being written.
  const std::size_t limit = std::clamp<std::size_t>(channel_->maximum_payload() / 3, 1, spec::hvsocket::kMaximumData);
  to_guest_.resize(limit);
  ssize_t got = 0;
  do {
    got = options_.socket ? ::recv(options_.socket.get(), to_guest_.data(), limit, MSG_DONTWAIT) : 0;
  } while (got < 0 && errno == EINTR);
  to_guest_.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  if (got > 0 || (got < 0 && errno == EAGAIN)) return;
  host_ended_ = true;
  if (got < 0) program_is_gone();
}

/// Both directions of the program's socket are shut: what it has written may still be read, the rest is for nobody.
void Connection::program_is_gone() {
  if (std::exchange(program_gone_, true)) return;
  to_host_.clear();
  to_host_done_ = 0;
  unwatch();  // the hang-up would be told without end
  pump_again();
}

void Connection::watch() {
  if (program_gone_ || !options_.socket) return;
  std::uint32_t events = 0;
  if (state_ == State::kOpen && to_guest_.empty() && !host_ended_) events |= EPOLLIN;
  if (to_host_done_ < to_host_.size()) events |= EPOLLOUT;
  if (is_watching_ && events == watched_) return;
  const int fd = options_.socket.get();
  const auto watched = is_watching_ ? loop_.change_events(fd, events)
                                    : loop_.watch(fd, events, [this](std::uint32_t happened) { on_socket(happened); });
  if (!watched) {
    program_is_gone();
    return;
  }
  is_watching_ = true;
  watched_ = events;
}

void Connection::unwatch() {
  if (std::exchange(is_watching_, false)) loop_.unwatch(options_.socket.get());
}

void Connection::finish_if_done() {
  if (end_told_to_guest_ && (end_told_to_host_ || program_gone_)) begin_leave();
}

void Connection::abandon() {
  program_is_gone();
  begin_leave();
}

void Connection::begin_leave() {
  if (state_ == State::kLeaving || state_ == State::kOver) return;
  state_ = State::kLeaving;
  if (timer_) loop_.cancel_timer(*std::exchange(timer_, std::nullopt));
  events_.leave();
}

void Connection::left() {
  is_off_bus_ = true;
  guest_ended_ = true;
  timer_ = loop_.add_timer(std::chrono::steady_clock::now() + kFlushLimit, [this] {
    timer_.reset();
    program_is_gone();
    finish_flush();
  });
  write_to_socket();
  finish_flush();
}

/// Off the bus: the program may still read what came last.
void Connection::finish_flush() {
  if (!is_off_bus_ || state_ == State::kOver) return;
  if (to_host_done_ < to_host_.size() && !program_gone_) {
    watch();
    return;
  }
  state_ = State::kOver;
  unwatch();
  options_.socket.reset();
  events_.over();
}

nlohmann::json Connection::inspect() const {
  static constexpr std::array kStates = {"offered", "open", "leaving", "over"};
  return {{"from", options_.direction == Direction::kToGuest ? "host" : "guest"},
          {"service", service_text(options_.service)},
          {"state", kStates[static_cast<std::size_t>(state_)]},
          {"bytes_to_guest", bytes_to_guest_},
          {"bytes_to_host", bytes_to_host_},
          {"guest_ended", guest_ended_},
          {"host_ended", host_ended_}};
}

}  // namespace bygone::devices::sockets
