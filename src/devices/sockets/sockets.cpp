#include "devices/sockets/sockets.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "devices/sockets/address.h"
#include "devices/sockets/unix_socket.h"
#include "spec/hvsocket/hvsocket.h"
#include "vmbus/server.h"

namespace bygone::devices::sockets {

using nlohmann::json;

namespace {

constexpr int kStateVersion = 1;

/// A line to a program that waits for one; if its socket does not take so little, it is not reading.
void tell(int socket, const std::string& line) {
  [[maybe_unused]] const ssize_t ignored = ::send(socket, line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

Sockets::Sockets(SocketsOptions options, EventLoop& loop, SocketBus bus, Log log)
    : options_(std::move(options)), loop_(loop), bus_(std::move(bus)), log_(std::move(log)) {}

Sockets::~Sockets() {
  for (const auto& listener : listeners_) {
    loop_.unwatch(listener->socket.get());
    std::error_code ignored;
    std::filesystem::remove(listener->path, ignored);
  }
}

Result<std::unique_ptr<Sockets>> Sockets::create(SocketsOptions options, EventLoop& loop, SocketBus bus, Log log) {
  std::error_code error;
  if (std::filesystem::create_directories(options.directory, error)) ::chmod(options.directory.c_str(), 0700);
  if (error) return fail_errno(error.value(), "making the directory of the machine's sockets, " + options.directory.string());
  const std::vector<std::uint32_t> ports = options.ports;
  std::unique_ptr<Sockets> sockets(new Sockets(std::move(options), loop, std::move(bus), std::move(log)));
  BYGONE_CHECK(sockets->listen("connect", std::nullopt));
  for (const std::uint32_t port : ports) {
    BYGONE_CHECK(sockets->listen("guest-" + std::to_string(port), spec::hvsocket::service_of_port(port)));
  }
  return sockets;
}

Result<void> Sockets::listen(const std::string& name, std::optional<Guid> service) {
  auto listener = std::make_unique<Listener>();
  listener->path = options_.directory / name;
  listener->service = service;
  BYGONE_ASSIGN(listener->socket, listen_at(listener->path));
  Listener& kept = *listeners_.emplace_back(std::move(listener));
  return loop_.watch(kept.socket.get(), EPOLLIN, [this, &kept](std::uint32_t) { accept_from(kept); });
}

void Sockets::accept_from(Listener& listener) {
  for (;;) {
    UniqueFd socket(::accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && complaints_.allow()) log_.warning("accepting on {}: {}", listener.path.string(), std::strerror(errno));
      return;
    }
    if (!has_room()) {
      ++statistics_.refused;
      if (complaints_.allow()) log_.warning("the guest has {} connections, which is all that it may have", kMaximumConnections);
      if (!listener.service) tell(socket.get(), "ERROR there are too many connections\n");
    } else if (listener.service) {
      start_to_guest(std::move(socket), *listener.service, {});
    } else {
      greet(std::move(socket));
    }
  }
}

void Sockets::greet(UniqueFd socket) {
  const std::uint64_t number = next_number_++;
  greetings_[number] = std::make_unique<Greeting>(std::move(socket), loop_,
                                                  [this, number](Result<Greeting::Wish> wish) { greeted(number, std::move(wish)); });
}

void Sockets::greeted(std::uint64_t number, Result<Greeting::Wish> wish) {
  UniqueFd socket = greetings_.at(number)->take_socket();
  loop_.post([this, number] { greetings_.erase(number); });
  if (wish) return start_to_guest(std::move(socket), wish->service, wish->name);
  tell(socket.get(), "ERROR " + wish.error().message + "\n");
}

void Sockets::start_to_guest(UniqueFd socket, const Guid& service, std::string greet_as) {
  const bool greets = !greet_as.empty();
  const int raw = socket.get();
  ConnectionOptions options;
  options.direction = Direction::kToGuest;
  options.service = service;
  options.instance = Guid::random();
  // The program learns of a refusal before its socket closes.
  const auto refuse = [&](const std::string& why) {
    ++statistics_.refused;
    if (greets) tell(raw, "ERROR " + why + "\n");
  };
  if (!bus_.is_ready()) return refuse("the guest has no sockets (yet)");
  options.socket = std::move(socket);
  if (auto started = start(std::move(options), std::move(greet_as)); !started) {
    ++statistics_.refused;
    log_.warning("connecting to the guest's {}: {}", service_text(service), started.error().text());
    return;
  }
  ++statistics_.to_guest;
}

void Sockets::connect_from_guest(const Guid& endpoint, const Guid& service) {
  loop_.post([this, endpoint, service] { start_to_host(endpoint, service); });
}

void Sockets::start_to_host(const Guid& endpoint, const Guid& service) {
  const auto connect = [&]() -> Result<void> {
    if (!has_room()) return fail(ErrorCode::kExhausted, "there are {} connections", kMaximumConnections);
    auto socket = connect_to(options_.directory / ("host-" + service_text(service)));
    if (!socket && socket.error().code == ErrorCode::kNotFound) {
      if (auto by_guid = connect_to(options_.directory / ("host-" + service.text()))) socket = std::move(by_guid);
    }
    if (!socket) return std::unexpected(std::move(socket).error());
    ConnectionOptions options;
    options.direction = Direction::kToHost;
    options.service = service;
    options.instance = endpoint;
    options.socket = std::move(*socket);
    return start(std::move(options), {});
  };
  if (auto connected = connect(); !connected) {
    ++statistics_.refused;
    log_.debug("the guest is refused the host's {}: {}", service_text(service), connected.error().text());
    bus_.refuse(endpoint, service);
    return;
  }
  ++statistics_.to_host;
}

Result<void> Sockets::start(ConnectionOptions options, std::string greet_as) {
  const std::uint64_t number = options.number = next_number_++;
  options.open_limit = options_.open_limit;
  Connection::Events events;
  events.opened = [this, number] { on_opened(number); };
  events.leave = [this, number] { on_leave(number); };
  events.over = [this, number] { loop_.post([this, number] { live_.erase(number); }); };
  Live& live = live_[number];
  live.greet_as = std::move(greet_as);
  live.connection = std::make_unique<Connection>(std::move(options), loop_, std::move(events));
  if (auto added = bus_.add(*live.connection); !added) {
    live_.erase(number);
    return added;
  }
  return {};
}

void Sockets::on_opened(std::uint64_t number) {
  Live& live = live_.at(number);
  const std::string name = std::exchange(live.greet_as, {});
  if (!name.empty()) tell(live.connection->socket(), "OK " + name + "\n");
}

void Sockets::on_leave(std::uint64_t number) {
  Live& live = live_.at(number);
  if (!live.connection->was_opened()) {
    ++statistics_.not_taken;
    if (!live.greet_as.empty()) tell(live.connection->socket(), "ERROR nothing in the guest listens on " + live.greet_as + "\n");
  }
  bus_.remove(*live.connection, [this, number] {
    loop_.post([this, number] {
      if (const auto found = live_.find(number); found != live_.end()) found->second.connection->left();
    });
  });
}

json Sockets::save() {
  json state = {{"version", kStateVersion}, {"connections", json::array()}};
  vmbus::run_on(loop_, [&] {
    state["next_number"] = next_number_;
    for (const auto& [number, live] : live_) {
      const vmbus::Offer& offer = live.connection->offer();
      state["connections"].push_back({{"number", number},
                                      {"to_guest", live.connection->direction() == Direction::kToGuest},
                                      {"service", offer.interface_type.text()},
                                      {"instance", offer.instance.text()}});
    }
  });
  return state;
}

Result<void> Sockets::restore(const json& state) {
  std::vector<ConnectionOptions> lost;
  std::uint64_t next_number = 1;
  try {
    if (state.at("version").get<int>() != kStateVersion) return fail(ErrorCode::kUnsupported, "saved sockets of an unknown version");
    next_number = state.at("next_number").get<std::uint64_t>();
    for (const json& item : state.at("connections")) {
      ConnectionOptions options;
      options.number = item.at("number").get<std::uint64_t>();
      options.direction = item.at("to_guest").get<bool>() ? Direction::kToGuest : Direction::kToHost;
      BYGONE_ASSIGN(options.service, Guid::parse(item.at("service").get<std::string>()));
      BYGONE_ASSIGN(options.instance, Guid::parse(item.at("instance").get<std::string>()));
      if (options.number >= next_number) return fail(ErrorCode::kCorrupt, "saved sockets: connection {} is to come", options.number);
      lost.push_back(std::move(options));
    }
  } catch (const json::exception& error) {
    return fail(ErrorCode::kCorrupt, "saved sockets: {}", error.what());
  }
  if (lost.size() > kMaximumConnections) return fail(ErrorCode::kCorrupt, "saved sockets: {} connections", lost.size());
  Result<void> outcome;
  vmbus::run_on(loop_, [&] {
    for (ConnectionOptions& options : lost) {
      next_number_ = options.number;
      if (outcome && live_.contains(options.number)) outcome = fail(ErrorCode::kCorrupt, "saved sockets: two connections {}", options.number);
      if (outcome) outcome = start(std::move(options), {});
    }
    next_number_ = next_number;
  });
  return outcome;
}

json Sockets::inspect() {
  json tree;
  vmbus::run_on(loop_, [&] {
    tree = {{"directory", options_.directory.string()}, {"connections", json::array()}, {"being_greeted", greetings_.size()},
            {"connected_to_guest", statistics_.to_guest}, {"connected_to_host", statistics_.to_host},
            {"refused", statistics_.refused}, {"not_taken", statistics_.not_taken}};
    for (const auto& [number, live] : live_) tree["connections"].push_back(live.connection->inspect());
  });
  return tree;
}

}  // namespace bygone::devices::sockets
