#include "machine/gdb/stub.h"

#include <fmt/format.h>

#include "machine/gdb/registers.h"

namespace bygone::machine::gdb {
namespace {

constexpr int kSignalInterrupt = 2, kSignalTrap = 5;
constexpr std::string_view kOk = "OK", kBadArgument = "E16", kNotMapped = "E0e", kNoRoom = "E1c";  // errno values in hex
constexpr std::size_t kMaximumTransfer = PacketReader::kMaximumPacket / 2 - 16;

bool takes_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

struct Range {
  std::uint64_t address = 0;
  std::uint64_t length = 0;
};

/// "ADDRESS,LENGTH"
std::optional<Range> parse_range(std::string_view text) {
  const std::size_t comma = text.find(',');
  if (comma == std::string_view::npos) return std::nullopt;
  const auto address = parse_hex(text.substr(0, comma)), length = parse_hex(text.substr(comma + 1));
  if (!address || !length) return std::nullopt;
  return Range{*address, *length};
}

}  // namespace

void Stub::connected() {
  target_.stop();
  is_running_ = is_done_ = false;
  acknowledges_ = true;
  signal_ = kSignalTrap;
  stopped_at_ = current_ = {};
  states_.clear();
}

void Stub::disconnected() {
  breakpoints_.clear();
  if (!is_running_) {
    (void)target_.set_breakpoints({});
    if (!is_done_) target_.go_on();
    is_running_ = true;
    return;
  }
  target_.stop();
  (void)target_.set_breakpoints({});
  target_.go_on();
}

void Stub::send(std::string_view payload, std::string& out) {
  last_sent_ = make_packet(payload);
  out += last_sent_;
}

void Stub::receive(std::string_view bytes, std::string& out) {
  for (const PacketReader::Event& event : reader_.feed(bytes)) {
    using Kind = PacketReader::Event::Kind;
    switch (event.kind) {
      case Kind::kResend: out += last_sent_; break;
      case Kind::kBadChecksum:
        if (acknowledges_) out += '-';
        break;
      case Kind::kInterrupt:
        if (!is_running_) break;
        target_.stop();
        is_running_ = false;
        signal_ = kSignalInterrupt;
        states_.clear();
        current_ = stopped_at_;
        send(stop_reply(), out);
        break;
      case Kind::kPacket:
        if (acknowledges_) out += '+';
        if (!is_running_) handle(event.payload, out);
        break;
    }
  }
}

void Stub::stopped(cpu::VpIndex vp, std::string& out) {
  if (!is_running_) return;
  is_running_ = false;
  signal_ = kSignalTrap;
  stopped_at_ = current_ = vp;
  states_.clear();
  send(stop_reply(), out);
}

std::string Stub::stop_reply() const { return fmt::format("T{:02x}thread:{:x};", signal_, stopped_at_.value + 1); }

void Stub::handle(std::string_view packet, std::string& out) {
  const char command = packet.empty() ? '\0' : packet[0];
  const std::string_view rest = packet.empty() ? packet : packet.substr(1);
  switch (command) {
    case '?': return send(stop_reply(), out);
    case 'g': return send(registers(), out);
    case 'G': return send(set_registers(rest), out);
    case 'p': return send(one_register(rest), out);
    case 'P': return send(set_one_register(rest), out);
    case 'm': return send(memory(rest), out);
    case 'M':
    case 'X': return send(set_memory(packet), out);
    case 'Z':
    case 'z': return send(breakpoint(packet), out);
    case 'H': return send(select_thread(rest), out);
    case 'T': return send(parse_thread(rest) ? kOk : kBadArgument, out);
    case 'c': return go_on();
    case 's': return step(current_);
    case 'v':
      if (packet == "vCont?") return send("vCont;c;C;s;S", out);
      if (packet.starts_with("vCont;") && resume(packet.substr(5))) return;
      return send(packet.starts_with("vCont") ? kBadArgument : "", out);
    case 'D':
      send(kOk, out);
      breakpoints_.clear();
      (void)target_.set_breakpoints({});
      is_done_ = true;
      go_on();
      return;
    case 'k':
      is_done_ = true;
      target_.kill();
      return;
    case 'Q':
      if (packet == "QStartNoAckMode") {
        acknowledges_ = false;
        return send(kOk, out);
      }
      return send("", out);
    case 'q': return send(query(packet).value_or(""), out);
    default: return send("", out);  // not known here
  }
}

std::optional<std::string> Stub::query(std::string_view packet) {
  if (packet.starts_with("qSupported")) {
    return fmt::format("PacketSize={:x};qXfer:features:read+;QStartNoAckMode+;vContSupported+;hwbreak+", PacketReader::kMaximumPacket);
  }
  if (takes_prefix(packet, "qXfer:features:read:")) return describe_target(packet);
  if (packet == "qC") return fmt::format("QC{:x}", current_.value + 1);
  if (packet.starts_with("qAttached")) return "1";
  if (packet == "qsThreadInfo") return "l";
  if (packet == "qfThreadInfo") {
    std::string list = "m";
    for (std::uint32_t i = 0; i < target_.processor_count(); ++i) list += fmt::format("{}{:x}", i == 0 ? "" : ",", i + 1);
    return list;
  }
  if (takes_prefix(packet, "qThreadExtraInfo,")) {
    const auto vp = parse_thread(packet);
    if (!vp) return std::string(kBadArgument);
    const auto state = target_.read_state(*vp);
    const bool runs = state && state->events.activity == cpu::ActivityState::kRunning;
    const bool halts = state && state->events.activity == cpu::ActivityState::kHalted;
    return to_hex(fmt::format("processor {}, {}", vp->value, runs ? "running" : halts ? "halted" : "not started"));
  }
  return std::nullopt;
}

std::string Stub::describe_target(std::string_view annex_and_range) const {
  if (!takes_prefix(annex_and_range, "target.xml:")) return "E00";
  const auto range = parse_range(annex_and_range);
  const std::string& text = target_description();
  if (!range || range->address > text.size()) return std::string(kBadArgument);
  const std::string piece = text.substr(range->address, std::min<std::uint64_t>(range->length, kMaximumTransfer));
  return (range->address + piece.size() < text.size() ? "m" : "l") + piece;
}

Result<cpu::VcpuState*> Stub::state() {
  const auto known = states_.find(current_.value);
  if (known != states_.end()) return &known->second;
  BYGONE_ASSIGN(cpu::VcpuState fresh, target_.read_state(current_));
  return &(states_[current_.value] = std::move(fresh));
}

std::string Stub::registers() {
  const auto known = state();
  return known ? to_hex(read_all_registers(**known)) : std::string(kBadArgument);
}

std::string Stub::set_registers(std::string_view digits) {
  const auto bytes = from_hex(digits);
  const auto known = state();
  if (!bytes || !known || !write_all_registers(**known, *bytes)) return std::string(kBadArgument);
  return std::string(target_.write_state(current_, **known) ? kOk : kBadArgument);
}

std::string Stub::one_register(std::string_view number) {
  const auto index = parse_hex(number);
  const auto known = state();
  const std::string bytes = index && known ? read_register(**known, *index) : std::string();
  return bytes.empty() ? std::string(kBadArgument) : to_hex(bytes);
}

std::string Stub::set_one_register(std::string_view assignment) {
  const std::size_t equals = assignment.find('=');
  if (equals == std::string_view::npos) return std::string(kBadArgument);
  const auto index = parse_hex(assignment.substr(0, equals));
  const auto bytes = from_hex(assignment.substr(equals + 1));
  const auto known = state();
  if (!index || !bytes || !known || !write_register(**known, *index, *bytes)) return std::string(kBadArgument);
  return std::string(target_.write_state(current_, **known) ? kOk : kBadArgument);
}

std::string Stub::memory(std::string_view text) {
  const auto range = parse_range(text);
  if (!range) return std::string(kBadArgument);
  const auto bytes = target_.read_memory(current_, range->address, std::min<std::uint64_t>(range->length, kMaximumTransfer));
  return bytes && (!bytes->empty() || range->length == 0) ? to_hex(*bytes) : std::string(kNotMapped);
}

std::string Stub::set_memory(std::string_view packet) {
  const std::size_t colon = packet.find(':');
  const auto range = parse_range(packet.substr(1, colon == std::string_view::npos ? colon : colon - 1));
  if (colon == std::string_view::npos || !range) return std::string(kBadArgument);
  const std::string_view data = packet.substr(colon + 1);
  const auto bytes = packet[0] == 'X' ? std::optional(std::string(data)) : from_hex(data);
  if (!bytes || bytes->size() != range->length) return std::string(kBadArgument);
  return std::string(target_.write_memory(current_, range->address, *bytes) ? kOk : kNotMapped);
}

std::string Stub::breakpoint(std::string_view packet) {
  if (packet.size() < 4 || packet[2] != ',') return std::string(kBadArgument);
  if (packet[1] != '0' && packet[1] != '1') return "";  // watchpoints: not here
  const auto range = parse_range(packet.substr(3, packet.find(';') - 3));
  if (!range) return std::string(kBadArgument);
  auto changed = breakpoints_;
  if (packet[0] == 'Z') {
    changed.insert(range->address);
  } else {
    changed.erase(range->address);
  }
  if (!target_.set_breakpoints(changed)) return std::string(kNoRoom);
  breakpoints_ = std::move(changed);
  return std::string(kOk);
}

std::optional<cpu::VpIndex> Stub::parse_thread(std::string_view digits) const {
  if (digits == "-1" || digits == "0") return current_;
  const auto number = parse_hex(digits);
  if (!number || *number == 0 || *number > target_.processor_count()) return std::nullopt;
  return cpu::VpIndex{static_cast<std::uint32_t>(*number - 1)};
}

std::string Stub::select_thread(std::string_view packet) {
  if (packet.empty() || (packet[0] != 'g' && packet[0] != 'c')) return "";
  const auto vp = parse_thread(packet.substr(1));
  if (!vp) return std::string(kBadArgument);
  current_ = *vp;
  return std::string(kOk);
}

bool Stub::resume(std::string_view actions) {
  // ";s:2;c": the first step that is asked for is made, alone; otherwise everything goes on.
  while (takes_prefix(actions, ";")) {
    const std::string_view action = actions.substr(0, actions.find(';'));
    actions.remove_prefix(action.size());
    if (action.empty()) return false;
    if (action[0] != 's' && action[0] != 'S') continue;
    const std::size_t colon = action.find(':');
    const auto vp = colon == std::string_view::npos ? std::optional(current_) : parse_thread(action.substr(colon + 1));
    if (!vp) return false;
    step(*vp);
    return true;
  }
  go_on();
  return true;
}

void Stub::step(cpu::VpIndex vp) {
  is_running_ = true;
  states_.clear();
  target_.step(vp);
}

void Stub::go_on() {
  is_running_ = true;
  states_.clear();
  target_.go_on();
}

}  // namespace bygone::machine::gdb
