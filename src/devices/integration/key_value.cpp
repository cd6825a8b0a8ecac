#include "devices/integration/key_value.h"

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "devices/integration/wide_text.h"
#include "spec/vmbus/interfaces.h"

namespace bygone::devices::integration {

namespace wire = spec::vmbus;
using wire::KeyValueOperation;
using wire::KeyValuePool;

namespace {

/// What one pool may hold: a guest that enumerates without end must not fill the host.
constexpr std::size_t kMaximumItems = 1024;
constexpr std::size_t kMaximumTasks = 2048;

std::string value_text(const wire::KeyValueData& data) {
  if (data.type == wire::kKeyValueTypeU32) {
    le32 number;
    std::memcpy(&number, data.value.data(), sizeof number);
    return std::to_string(number.value());
  }
  if (data.type == wire::kKeyValueTypeU64) {
    le64 number;
    std::memcpy(&number, data.value.data(), sizeof number);
    return std::to_string(number.value());
  }
  return get_wide(data.value, data.value_size);
}

}  // namespace

KeyValueService::KeyValueService(EventLoop& loop, KeyValues host, std::chrono::milliseconds period)
    : IntegrationService({"key-value", wire::kKeyValueInterface, wire::kKeyValueInstance, wire::IntegrationMessage::kKeyValue,
                          {{1, 0}, {3, 0}, {4, 0}, {5, 0}}}),
      loop_(loop),
      host_(std::move(host)),
      period_(period) {}

KeyValueService::~KeyValueService() {
  if (timer_) loop_.cancel_timer(*timer_);
}

Result<void> KeyValueService::set(const std::string& key, const std::string& value) {
  // UTF-16 takes at most two bytes for each of UTF-8.
  if (key.empty() || key.size() > 255 || value.size() > 1023) {
    return fail(ErrorCode::kInvalidArgument, "a key has 1 to 255 bytes and a value up to 1023, not {} and {}", key.size(), value.size());
  }
  const bool full = known_.with([&](Known& known) {
    if (known.external.size() >= kMaximumItems && !known.external.contains(key)) return true;
    known.external[key] = value;
    return false;
  });
  if (full) return fail(ErrorCode::kExhausted, "at most {} values can be kept for the guest", kMaximumItems);
  loop_.post([this, key, value] { enqueue({KeyValueOperation::kSet, KeyValuePool::kExternal, 0, key, value}); });
  return {};
}

void KeyValueService::remove(const std::string& key) {
  known_.with([&](Known& known) { known.external.erase(key); });
  loop_.post([this, key] { enqueue({KeyValueOperation::kDelete, KeyValuePool::kExternal, 0, key, {}}); });
}

void KeyValueService::refresh() {
  loop_.post([this] {
    // What is under way, or waits, reads them anyway.
    if (!is_ready() || current_) return;
    if (timer_) loop_.cancel_timer(*std::exchange(timer_, std::nullopt));
    read_pools();
  });
}

KeyValues KeyValueService::values(KeyValuePool pool) const {
  if (pool == KeyValuePool::kHost) return host_;
  return known_.with([&](const Known& known) {
    switch (pool) {
      case KeyValuePool::kExternal: return known.external;
      case KeyValuePool::kGuest: return known.guest;
      default: return known.automatic;
    }
  });
}

void KeyValueService::on_ready() {
  tasks_.clear();
  current_.reset();
  for (const KeyValuePool pool : {KeyValuePool::kHost, KeyValuePool::kExternal}) {
    for (const auto& [key, value] : values(pool)) enqueue({KeyValueOperation::kSet, pool, 0, key, value});
  }
  read_pools();
}

void KeyValueService::on_gone() {
  if (timer_) loop_.cancel_timer(*std::exchange(timer_, std::nullopt));
  tasks_.clear();
  current_.reset();
  known_.with([](Known& known) {
    known.guest.clear();
    known.automatic.clear();
  });
}

void KeyValueService::read_pools() {
  for (const KeyValuePool pool : {KeyValuePool::kAutomatic, KeyValuePool::kGuest}) {
    enqueue({KeyValueOperation::kEnumerate, pool, 0, {}, {}});
  }
  timer_ = loop_.add_timer(std::chrono::steady_clock::now() + period_, [this] {
    timer_.reset();
    // Not again while the guest has not answered the last round.
    if (!current_) {
      read_pools();
    } else {
      timer_ = loop_.add_timer(std::chrono::steady_clock::now() + period_, [this] { timer_.reset(), read_pools(); });
    }
  });
}

void KeyValueService::enqueue(Task task) {
  if (!is_ready() || tasks_.size() >= kMaximumTasks) return;
  tasks_.push_back(std::move(task));
  start_next();
}

void KeyValueService::start_next() {
  while (!current_ && !tasks_.empty()) {
    current_ = std::move(tasks_.front());
    tasks_.pop_front();
    collecting_.clear();
    if (!send_task(*current_)) current_.reset();
  }
}

bool KeyValueService::send_task(const Task& task) {
  const wire::KeyValueHeader header = {static_cast<std::uint8_t>(task.operation), static_cast<std::uint8_t>(task.pool), {}};
  // Every request has the size of the largest: guests answer in the same buffer.
  std::array<std::byte, sizeof(wire::KeyValueEnumerate)> message = {};
  const auto put = [&](const auto& what) { std::memcpy(message.data(), &what, sizeof what); };
  if (task.operation == KeyValueOperation::kEnumerate) {
    wire::KeyValueEnumerate item = {};
    item.header = header;
    item.index = task.index;
    put(item);
  } else if (task.operation == KeyValueOperation::kSet) {
    wire::KeyValueExchange exchange = {};
    exchange.header = header;
    exchange.data.type = wire::kKeyValueTypeString;
    exchange.data.key_size = static_cast<std::uint32_t>(put_wide(task.key, exchange.data.key));
    exchange.data.value_size = static_cast<std::uint32_t>(put_wide(task.value, exchange.data.value));
    put(exchange);
  } else {
    wire::KeyValueDelete removal = {};
    removal.header = header;
    removal.key_size = static_cast<std::uint32_t>(put_wide(task.key, removal.key));
    put(removal);
  }
  return request(message);
}

Result<void> KeyValueService::on_response(std::uint32_t status, std::span<const std::byte> body) {
  if (!current_) return {};
  if (current_->operation == KeyValueOperation::kEnumerate) {
    if (status == wire::kIntegrationOk && current_->index < kMaximumItems) {
      BYGONE_CHECK(on_item(body));
      ++current_->index;
      if (send_task(*current_)) return {};
    }
    if (status != wire::kIntegrationFail) {
      known_.with([this](Known& known) {
        (current_->pool == KeyValuePool::kGuest ? known.guest : known.automatic) = std::move(collecting_);
      });
    }
  }
  current_.reset();
  start_next();
  return {};
}

Result<void> KeyValueService::on_item(std::span<const std::byte> body) {
  wire::KeyValueEnumerate item;
  if (body.size() < sizeof item) return fail(ErrorCode::kCorrupt, "key-value: an item of {} bytes", body.size());
  std::memcpy(&item, body.data(), sizeof item);
  const std::string key = get_wide(item.data.key, item.data.key_size);
  if (!key.empty()) collecting_[key] = value_text(item.data);
  return {};
}

Result<nlohmann::json> KeyValueService::save_state() {
  BYGONE_ASSIGN(nlohmann::json state, IntegrationService::save_state());
  state["external"] = values(KeyValuePool::kExternal);
  state["guest"] = values(KeyValuePool::kGuest);
  state["automatic"] = values(KeyValuePool::kAutomatic);
  return state;
}

Result<void> KeyValueService::restore_state(const nlohmann::json& state) {
  Known known;
  try {
    known.external = state.at("external").get<KeyValues>();
    known.guest = state.at("guest").get<KeyValues>();
    known.automatic = state.at("automatic").get<KeyValues>();
  } catch (const nlohmann::json::exception& error) {
    return fail(ErrorCode::kCorrupt, "the saved state of the key-value service: {}", error.what());
  }
  BYGONE_CHECK(IntegrationService::restore_state(state));
  known_.with([&](Known& current) { current = std::move(known); });
  return {};
}

nlohmann::json KeyValueService::inspect() const {
  auto result = IntegrationService::inspect();
  result["host"] = host_;
  result["external"] = values(KeyValuePool::kExternal);
  result["guest"] = values(KeyValuePool::kGuest);
  result["automatic"] = values(KeyValuePool::kAutomatic);
  return result;
}

}  // namespace bygone::devices::integration
