#include "hyperv/synic.h"

#include <algorithm>
#include <cstring>

#include "spec/tlfs/messages.h"

namespace bygone::hyperv {

using cpu::VpIndex;
using spec::tlfs::HvStatus;
using spec::tlfs::Msr;

namespace {

namespace tlfs = spec::tlfs;
constexpr std::uint32_t kSavedVersion = 1;
constexpr std::uint64_t kSintWritable = tlfs::kSintVectorMask | tlfs::kSintMasked | tlfs::kSintAutoEoi | tlfs::kSintPolling;

std::atomic_ref<std::uint32_t> message_type_of(std::span<std::byte> slot) {
  return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(slot.data() + tlfs::kMessageTypeOffset));
}

}  // namespace

struct Synic::Vp {
  explicit Vp(memory::GuestMemory& memory) : message_page(memory), event_page(memory) { sources.fill(tlfs::kSintMasked); }

  mutable std::mutex mutex;
  std::uint64_t control = tlfs::kSynicEnabled;  // on from the start: firmware never writes it
  std::uint64_t message_register = 0, event_register = 0;
  OverlayPage message_page, event_page;
  std::array<std::uint64_t, tlfs::kSintCount> sources = {};
  std::uint16_t busy = 0;  // a bit a source: somebody waits for its slot
  bool is_shared = false;  // the engine's timers write messages too
  std::uint64_t messages = 0, events = 0, interrupts = 0;
};

struct Synic::EventPort {
  EventHandler handler;
  std::atomic<std::uint32_t> running = 0;
};

struct Synic::Restored {
  Restored(OverlayPage message, OverlayPage event) : message_page(std::move(message)), event_page(std::move(event)) {}
  std::uint64_t control = 0, message_register = 0, event_register = 0;
  OverlayPage message_page, event_page;
  std::array<std::uint64_t, tlfs::kSintCount> sources = {};
  std::uint16_t busy = 0;
};

Synic::Synic(memory::GuestMemory& memory, cpu::Partition& partition, std::uint32_t vp_count, cpu::HypervisorFacilities* engine)
    : memory_(memory), partition_(partition), engine_(engine) {
  for (std::uint32_t i = 0; i < vp_count; ++i) vps_.push_back(std::make_unique<Vp>(memory));
}

Synic::~Synic() = default;

// ---- host to guest ----

Synic::Interrupt Synic::interrupt_of(const Vp& vp, std::uint8_t sint) {
  const std::uint64_t source = vp.sources[sint];
  if ((source & (tlfs::kSintMasked | tlfs::kSintPolling)) != 0) return {};
  return {true, static_cast<std::uint8_t>(source & tlfs::kSintVectorMask), (source & tlfs::kSintAutoEoi) != 0, sint};
}

void Synic::raise(VpIndex vp, const Interrupt& interrupt) {
  if (!interrupt.wanted) return;
  if (engine_ != nullptr) return engine_->raise(vp, interrupt.source);
  partition_.request_synic_interrupt(vp, interrupt.vector, interrupt.auto_eoi && partition_.supports_auto_eoi());
}

void Synic::share_messages(VpIndex index, bool is_shared) {
  Vp& vp = *vps_[index.value];
  const std::lock_guard lock(vp.mutex);  // whoever is writing a message finishes; who comes later sees it
  vp.is_shared = is_shared;
}

PostOutcome Synic::post_message(VpIndex index, std::uint8_t sint, std::uint32_t message_type, std::span<const std::byte> payload) {
  if (index.value >= vps_.size() || sint >= tlfs::kSintCount || payload.size() > kMaximumMessagePayload || message_type == 0) {
    return PostOutcome::kNotEnabled;
  }
  Vp& vp = *vps_[index.value];
  Interrupt interrupt;
  std::unique_lock lock(vp.mutex);
  PostOutcome outcome;
  if (!vp.is_shared) {
    outcome = write_message(vp, sint, message_type, payload, interrupt);
  } else {
    lock.unlock();  // the processor may want it on its way out of the guest
    const cpu::Exclusion exclusion(engine_, index);
    lock.lock();
    outcome = write_message(vp, sint, message_type, payload, interrupt);
    lock.unlock();
  }
  if (lock.owns_lock()) lock.unlock();
  raise(index, interrupt);
  return outcome;
}

/// With the processor's lock held.
PostOutcome Synic::write_message(Vp& vp, std::uint8_t sint, std::uint32_t message_type, std::span<const std::byte> payload,
                                 Interrupt& interrupt) {
  const std::uint64_t source = vp.sources[sint];
  const bool is_silent = (source & tlfs::kSintMasked) != 0 && (source & tlfs::kSintPolling) == 0;
  if ((vp.control & tlfs::kSynicEnabled) == 0 || !vp.message_page.is_placed() || is_silent) return PostOutcome::kNotEnabled;
  const std::size_t offset = sint * tlfs::kMessageBytes;
  const std::span<std::byte> slot = vp.message_page.bytes().subspan(offset, tlfs::kMessageBytes);
  auto type = message_type_of(slot);
  if (type.load(std::memory_order_acquire) != 0) {
    // The guest frees the slot first and looks at the flag then; so it is set first and the slot looked at again.
    std::atomic_ref flags(*reinterpret_cast<std::uint8_t*>(slot.data() + tlfs::kMessageFlagsOffset));
    flags.fetch_or(tlfs::kMessagePending, std::memory_order_seq_cst);
    if (type.load(std::memory_order_seq_cst) != 0) {
      vp.busy = static_cast<std::uint16_t>(vp.busy | 1U << sint);
      vp.message_page.wrote(offset, tlfs::kMessageBytes);
      return PostOutcome::kSlotBusy;
    }
  }
  tlfs::MessageHeader header = {};
  header.payload_bytes = static_cast<std::uint8_t>(payload.size());
  const std::span<const std::byte> head = bytes_of(header).subspan(sizeof(std::uint32_t));
  std::ranges::copy(head, slot.begin() + sizeof(std::uint32_t));
  std::ranges::copy(payload, slot.begin() + sizeof(tlfs::MessageHeader));
  type.store(message_type, std::memory_order_release);
  vp.message_page.wrote(offset, tlfs::kMessageBytes);
  ++vp.messages;
  interrupt = interrupt_of(vp, sint);
  vp.interrupts += interrupt.wanted;
  return PostOutcome::kDelivered;
}

void Synic::signal_event(VpIndex index, std::uint8_t sint, std::uint16_t flag) {
  if (index.value >= vps_.size() || sint >= tlfs::kSintCount || flag >= tlfs::kEventFlagCount) return;
  Vp& vp = *vps_[index.value];
  Interrupt interrupt;
  {
    const std::lock_guard lock(vp.mutex);
    if ((vp.control & tlfs::kSynicEnabled) == 0 || !vp.event_page.is_placed()) return;
    const std::size_t offset = std::size_t{sint} * tlfs::kEventFlagBytes + std::size_t{flag} / 32 * 4;
    std::atomic_ref word(*reinterpret_cast<std::uint32_t*>(vp.event_page.bytes().data() + offset));
    const std::uint32_t bit = 1U << (flag % 32);
    if ((word.fetch_or(bit, std::memory_order_acq_rel) & bit) != 0) return;
    vp.event_page.wrote(offset, 4);
    ++vp.events;
    interrupt = interrupt_of(vp, sint);
    vp.interrupts += interrupt.wanted;
  }
  raise(index, interrupt);
}

void Synic::end_of_message(VpIndex index) {
  Vp& vp = *vps_[index.value];
  std::uint16_t freed = 0;
  {
    const std::lock_guard lock(vp.mutex);
    freed = std::exchange(vp.busy, std::uint16_t{0});
  }
  if (freed == 0) return;
  if (timer_retry_) timer_retry_(index);
  std::shared_ptr<std::function<void(VpIndex, std::uint8_t)>> handler;
  {
    const std::shared_lock lock(ports_mutex_);
    handler = slot_free_handler_;
  }
  if (!handler || !*handler) return;
  for (std::uint8_t sint = 0; sint < tlfs::kSintCount; ++sint) {
    if ((freed >> sint & 1U) != 0) (*handler)(index, sint);
  }
}

// ---- guest to host ----

void Synic::set_slot_free_handler(std::function<void(VpIndex vp, std::uint8_t sint)> handler) {
  const std::unique_lock lock(ports_mutex_);
  slot_free_handler_ = std::make_shared<std::function<void(VpIndex, std::uint8_t)>>(std::move(handler));
}

void Synic::connect_message_port(std::uint32_t connection_id, MessageHandler handler) {
  const std::unique_lock lock(ports_mutex_);
  message_ports_[connection_id] = std::make_shared<MessageHandler>(std::move(handler));
}

void Synic::disconnect_message_port(std::uint32_t connection_id) {
  const std::unique_lock lock(ports_mutex_);
  message_ports_.erase(connection_id);
}

void Synic::connect_event_port(std::uint32_t connection_id, EventHandler handler, EventLoop* loop) {
  auto port = std::make_shared<EventPort>();
  port->handler = std::move(handler);
  {
    const std::unique_lock lock(ports_mutex_);
    event_ports_[connection_id] = port;
  }
  if (engine_ == nullptr || !engine_->active().has(cpu::Facility::kEventSignals)) return;
  // What the engine does not take still comes by hypercall.
  (void)engine_->connect_event(connection_id, [port] { port->handler(0); }, loop);
}

void Synic::disconnect_event_port(std::uint32_t connection_id) {
  if (engine_ != nullptr && engine_->active().has(cpu::Facility::kEventSignals)) engine_->disconnect_event(connection_id);
  std::shared_ptr<EventPort> port;
  {
    const std::unique_lock lock(ports_mutex_);
    const auto found = event_ports_.find(connection_id);
    if (found == event_ports_.end()) return;
    port = std::move(found->second);
    event_ports_.erase(found);
  }
  while (const std::uint32_t running = port->running.load(std::memory_order_acquire)) port->running.wait(running);
}

HvStatus Synic::guest_posts(VpIndex vp, std::uint32_t connection_id, std::uint32_t message_type, std::span<const std::byte> payload) {
  std::shared_ptr<MessageHandler> handler;
  {
    const std::shared_lock lock(ports_mutex_);
    const auto found = message_ports_.find(connection_id);
    if (found == message_ports_.end()) return HvStatus::kInvalidConnectionId;
    handler = found->second;
  }
  return static_cast<HvStatus>((*handler)(vp, message_type, payload));
}

HvStatus Synic::guest_signals(std::uint32_t connection_id, std::uint16_t flag) {
  std::shared_ptr<EventPort> port;
  {
    const std::shared_lock lock(ports_mutex_);
    const auto found = event_ports_.find(connection_id);
    if (found == event_ports_.end()) return HvStatus::kInvalidConnectionId;
    port = found->second;
    port->running.fetch_add(1, std::memory_order_acquire);  // under the lock, so that disconnect sees it
  }
  port->handler(flag);
  port->running.fetch_sub(1, std::memory_order_release);
  port->running.notify_all();
  return HvStatus::kSuccess;
}

// ---- registers ----

std::optional<std::uint64_t> Synic::read(VpIndex index, Msr msr) {
  Vp& vp = *vps_[index.value];
  const std::lock_guard lock(vp.mutex);
  switch (msr) {
    case Msr::kSynicControl: return vp.control;
    case Msr::kSynicVersion: return tlfs::kSynicVersion1;
    case Msr::kEventFlagsPage: return vp.event_register;
    case Msr::kMessagePage: return vp.message_register;
    case Msr::kEndOfMessage: return 0;
    default: break;
  }
  if (msr < Msr::kSint0 || msr > Msr::kSint15) return std::nullopt;
  return vp.sources[static_cast<std::uint32_t>(msr) - static_cast<std::uint32_t>(Msr::kSint0)];
}

bool Synic::write_page(OverlayPage& page, std::uint64_t& reg, std::uint64_t value) {
  if ((value & tlfs::kPageEnabled) != 0) {
    if (!page.place(value >> tlfs::kPageNumberShift)) return false;
  } else {
    page.remove();
  }
  reg = value;
  return true;
}

bool Synic::write(VpIndex index, Msr msr, std::uint64_t value) {
  if (msr == Msr::kEndOfMessage) {
    end_of_message(index);
    return true;
  }
  Vp& vp = *vps_[index.value];
  const std::lock_guard lock(vp.mutex);
  switch (msr) {
    case Msr::kSynicControl: vp.control = value & tlfs::kSynicEnabled; return true;
    case Msr::kEventFlagsPage: return write_page(vp.event_page, vp.event_register, value);
    case Msr::kMessagePage: return write_page(vp.message_page, vp.message_register, value);
    default: break;
  }
  if (msr < Msr::kSint0 || msr > Msr::kSint15) return false;
  if ((value & tlfs::kSintMasked) == 0 && (value & tlfs::kSintVectorMask) < tlfs::kFirstSintVector) return false;
  vp.sources[static_cast<std::uint32_t>(msr) - static_cast<std::uint32_t>(Msr::kSint0)] = value & kSintWritable;
  return true;
}

// ---- state ----

void Synic::reset() {
  for (const auto& vp : vps_) {
    const std::lock_guard lock(vp->mutex);
    vp->control = tlfs::kSynicEnabled;
    vp->message_register = vp->event_register = 0;
    vp->message_page.reset();
    vp->event_page.reset();
    vp->sources.fill(tlfs::kSintMasked);
    vp->busy = 0;
  }
}

nlohmann::json Synic::save(VpIndex index) const {
  const Vp& vp = *vps_[index.value];
  const std::lock_guard lock(vp.mutex);
  return {{"version", kSavedVersion},
          {"control", vp.control},
          {"message_register", vp.message_register},
          {"event_register", vp.event_register},
          {"message_page", vp.message_page.save()},
          {"event_page", vp.event_page.save()},
          {"sources", vp.sources},
          {"busy", vp.busy}};
}

Result<std::shared_ptr<Synic::Restored>> Synic::prepare_restore(const nlohmann::json& state) {
  SavedFields fields(state, "a synthetic interrupt controller", kSavedVersion);
  const nlohmann::json* message = fields.nested("message_page");
  const nlohmann::json* event = fields.nested("event_page");
  if (message == nullptr || event == nullptr) return std::unexpected(fields.finish().error());
  BYGONE_ASSIGN(OverlayPage message_page, OverlayPage::restore(memory_, *message));
  BYGONE_ASSIGN(OverlayPage event_page, OverlayPage::restore(memory_, *event));
  auto restored = std::make_shared<Restored>(std::move(message_page), std::move(event_page));
  fields.read("control", restored->control);
  fields.read("message_register", restored->message_register);
  fields.read("event_register", restored->event_register);
  fields.read("sources", restored->sources);
  fields.read("busy", restored->busy);
  for (const std::uint64_t source : restored->sources) {
    const bool valid = (source & ~kSintWritable) == 0 &&
                       ((source & tlfs::kSintMasked) != 0 || (source & tlfs::kSintVectorMask) >= tlfs::kFirstSintVector);
    fields.require(valid, "an interrupt source is not valid");
  }
  BYGONE_CHECK(fields.finish());
  return restored;
}

void Synic::commit(VpIndex index, Restored& restored) {
  Vp& vp = *vps_[index.value];
  const std::lock_guard lock(vp.mutex);
  vp.control = restored.control & tlfs::kSynicEnabled;
  vp.message_register = restored.message_register;
  vp.event_register = restored.event_register;
  vp.message_page = std::move(restored.message_page);
  vp.event_page = std::move(restored.event_page);
  vp.sources = restored.sources;
  vp.busy = restored.busy;
}

nlohmann::json Synic::inspect(VpIndex index) const {
  const Vp& vp = *vps_[index.value];
  const std::lock_guard lock(vp.mutex);
  nlohmann::json sources = nlohmann::json::object();
  for (std::size_t i = 0; i < vp.sources.size(); ++i) {
    if ((vp.sources[i] & tlfs::kSintMasked) == 0) sources[std::to_string(i)] = vp.sources[i] & tlfs::kSintVectorMask;
  }
  return {{"enabled", (vp.control & tlfs::kSynicEnabled) != 0},
          {"message_page", vp.message_register},
          {"event_page", vp.event_register},
          {"vectors", sources},
          {"waiting", vp.busy},
          {"messages", vp.messages},
          {"events", vp.events},
          {"interrupts", vp.interrupts}};
}

}  // namespace bygone::hyperv
