// The machine as a debugger sees it.
// Threading: the debug server's thread; the machine's control lock keeps it apart from the machine's own lifecycle calls.
#include <algorithm>

#include "machine/gen2/parts.h"

namespace bygone::machine::gen2 {

class Machine::Parts::DebugTarget final : public gdb::Target {
 public:
  explicit DebugTarget(Parts& parts) : parts_(parts) {}

  [[nodiscard]] std::uint32_t processor_count() const override { return parts_.options.processors; }

  void stop() override {
    const std::lock_guard lock(parts_.control_mutex);
    parts_.runner->pause();
    parts_.stop_time();
    if (stepping_) (void)arm(*std::exchange(stepping_, std::nullopt), false);
  }

  void go_on() override {
    const std::lock_guard lock(parts_.control_mutex);
    if (parts_.has_ended()) return;
    parts_.start_time();
    parts_.runner->resume();
  }

  void step(cpu::VpIndex vp) override {
    const std::lock_guard lock(parts_.control_mutex);
    if (parts_.has_ended() || !arm(vp, true)) return;
    stepping_ = vp;
    parts_.start_time();
    parts_.runner->resume_only(vp);
  }

  [[nodiscard]] Result<cpu::VcpuState> read_state(cpu::VpIndex vp) override { return parts_.partition->vcpu(vp).save_state(); }

  [[nodiscard]] Result<void> write_state(cpu::VpIndex vp, const cpu::VcpuState& state) override {
    cpu::Vcpu& vcpu = parts_.partition->vcpu(vp);
    BYGONE_ASSIGN(cpu::VcpuState now, vcpu.save_state());
    const auto same_base = [](const cpu::Segment& a, const cpu::Segment& b) { return a.base == b.base; };
    const bool is_more = now.extended.xsave != state.extended.xsave || !std::ranges::equal(now.system.segments, state.system.segments, same_base);
    if (!is_more) return vcpu.set_general_registers(state.general);
    now.general = state.general;
    now.extended = state.extended;
    now.system.segments = state.system.segments;
    // The bases of FS and GS stand among the model-specific registers too.
    constexpr std::uint32_t kFsBase = 0xC0000100, kGsBase = 0xC0000101;
    for (cpu::MsrValue& msr : now.msrs) {
      if (msr.index == kFsBase) msr.value = state.system.segments[static_cast<std::size_t>(cpu::SegmentName::kFs)].base;
      if (msr.index == kGsBase) msr.value = state.system.segments[static_cast<std::size_t>(cpu::SegmentName::kGs)].base;
    }
    return vcpu.restore_state(now);
  }

  [[nodiscard]] Result<std::string> read_memory(cpu::VpIndex vp, std::uint64_t address, std::size_t length) override {
    std::string bytes;
    while (bytes.size() < length) {
      const auto piece = find(vp, address + bytes.size(), length - bytes.size());
      if (!piece) break;
      std::string part(piece->second, '\0');
      if (!parts_.memory.read(piece->first, std::as_writable_bytes(std::span(part)))) break;
      bytes += part;
    }
    if (bytes.empty() && length != 0) return fail(ErrorCode::kNotFound, "there is no memory at {:#x}", address);
    return bytes;
  }

  [[nodiscard]] Result<void> write_memory(cpu::VpIndex vp, std::uint64_t address, std::string_view bytes) override {
    while (!bytes.empty()) {
      const auto piece = find(vp, address, bytes.size());
      if (!piece) return fail(ErrorCode::kNotFound, "there is no memory at {:#x}", address);
      BYGONE_CHECK(parts_.memory.write(piece->first, std::as_bytes(std::span(bytes.substr(0, piece->second)))));
      bytes.remove_prefix(piece->second);
      address += piece->second;
    }
    return {};
  }

  [[nodiscard]] Result<void> set_breakpoints(const std::set<std::uint64_t>& addresses) override {
    const std::vector<std::uint64_t> before = std::exchange(breakpoints_, {addresses.begin(), addresses.end()});
    for (std::uint32_t i = 0; i < processor_count(); ++i) {
      if (auto armed = arm({i}, false); !armed) {
        breakpoints_ = before;
        for (std::uint32_t undone = 0; undone < i; ++undone) (void)arm({undone}, false);
        return armed;
      }
    }
    return {};
  }

  void kill() override { parts_.end({MachineEnd::Reason::kStopped, {}}); }

 private:
  [[nodiscard]] Result<void> arm(cpu::VpIndex vp, bool single_step) { return parts_.partition->vcpu(vp).set_breakpoints(breakpoints_, single_step); }

  /// Where the bytes from `linear` on are, and how many of them lie in that page.
  [[nodiscard]] std::optional<std::pair<memory::Gpa, std::size_t>> find(cpu::VpIndex vp, std::uint64_t linear, std::size_t length) {
    const auto physical = parts_.partition->vcpu(vp).translate(linear);
    if (!physical || !*physical) return std::nullopt;
    return std::pair{**physical, std::min<std::size_t>(length, memory::kPageSize - linear % memory::kPageSize)};
  }

  Parts& parts_;
  std::vector<std::uint64_t> breakpoints_;
  std::optional<cpu::VpIndex> stepping_;
};

Result<void> Machine::Parts::create_debugger() {
  debug_target = std::make_unique<DebugTarget>(*this);
  BYGONE_ASSIGN(debugger, gdb::Server::create(options.debugger, *debug_target, log.part("gdb")));
  log.info("waiting for a debugger at {}", debugger->address());
  return {};
}

}  // namespace bygone::machine::gen2
