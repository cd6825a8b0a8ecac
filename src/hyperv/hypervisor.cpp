#include "hyperv/hypervisor.h"

#include <algorithm>

#include "spec/tlfs/messages.h"
#include "spec/x86/local_apic.h"

namespace bygone::hyperv {

using cpu::VpIndex;
using spec::tlfs::Msr;

namespace {

namespace tlfs = spec::tlfs;
constexpr std::uint32_t kSavedVersion = 1;
constexpr std::uint32_t kMaximumVps = 64;
constexpr std::uint64_t kCrashMessageLimit = memory::kPageSize;
constexpr std::byte kBreakpoint{0xCC};

constexpr bool is_between(Msr msr, Msr first, Msr last) { return msr >= first && msr <= last; }

std::string printable(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    const char c = static_cast<char>(byte);
    if (c == '\0') break;
    text += (c >= ' ' && c < 0x7F) || c == '\n' || c == '\t' ? c : '?';
  }
  return text;
}

}  // namespace

Result<std::unique_ptr<Hypervisor>> Hypervisor::create(HypervisorOptions options) {
  if (options.memory == nullptr || options.partition == nullptr || options.timers == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "the hypervisor needs memory, a partition and timers");
  }
  if (options.vp_count == 0 || options.vp_count > kMaximumVps) {
    return fail(ErrorCode::kInvalidArgument, "{} processors: there can be 1 to {}", options.vp_count, kMaximumVps);
  }
  if (!options.local_apic && engine_for(*options.partition, cpu::Facility::kApicRegisters) == nullptr) {
    options.features.remove(Feature::kApicRegisters);
  }
  if (options.partition->hypercall_code().size() > memory::kPageSize) {
    return fail(ErrorCode::kInternal, "the engine's hypercall code is larger than a page");
  }
  return std::unique_ptr<Hypervisor>(new Hypervisor(std::move(options)));
}

Hypervisor::Hypervisor(HypervisorOptions options)
    : options_(std::move(options)), memory_(*options_.memory), partition_(*options_.partition),
      facilities_(partition_.facilities() != nullptr ? partition_.facilities()->active() : cpu::FacilitySet()),
      time_(partition_, options_.timers->clock(), options_.tsc_is_stable, engine_for(partition_, cpu::Facility::kReferenceTime)),
      synic_(memory_, partition_, options_.vp_count, engine_for(partition_, cpu::Facility::kSynic)),
      hypercalls_(memory_, partition_, synic_, {options_.vp_count, options_.features.has(Feature::kXmmHypercalls)},
                  [this](VpIndex vp, tlfs::RegisterName name) -> std::optional<std::uint64_t> {
                    switch (name) {
                      case tlfs::RegisterName::kHypercall: return read(vp, static_cast<std::uint32_t>(Msr::kHypercall));
                      case tlfs::RegisterName::kGuestOsId: return read(vp, static_cast<std::uint32_t>(Msr::kGuestOsId));
                      case tlfs::RegisterName::kVpIndex: return vp.value;
                      case tlfs::RegisterName::kReferenceTime: return time_.now();
                      case tlfs::RegisterName::kReferenceTsc: return read(vp, static_cast<std::uint32_t>(Msr::kReferenceTsc));
                    }
                    return std::nullopt;
                  },
                  options_.log),
      hypercall_page_(memory_), reference_tsc_page_(memory_) {
  std::vector<std::byte> code = partition_.hypercall_code();
  code.resize(memory::kPageSize, kBreakpoint);
  hypercall_page_.set_content(code);
  for (std::uint32_t i = 0; i < options_.vp_count; ++i) {
    auto vp = std::make_unique<Vp>(memory_);
    vp->timers = std::make_unique<SyntheticTimers>(VpIndex{i}, synic_, partition_, time_, *options_.timers, has(Feature::kDirectTimers),
                                                   engine_for(partition_, cpu::Facility::kTimers));
    vps_.push_back(std::move(vp));
  }
  synic_.set_timer_retry([this](VpIndex vp) { vps_[vp.value]->timers->retry(); });
  repeat_all();
}

cpu::HypervisorFacilities* Hypervisor::engine_for(cpu::Partition& partition, cpu::Facility facility) {
  cpu::HypervisorFacilities* const engine = partition.facilities();
  return engine != nullptr && engine->active().has(facility) ? engine : nullptr;
}

// ---- what the engine has to know ----

bool Hypervisor::is_repeated(Msr msr) const {
  using cpu::Facility;
  if (is_between(msr, Msr::kSint0, Msr::kSint15)) return facilities_.has(Facility::kSynic);
  switch (msr) {
    case Msr::kGuestOsId:
    case Msr::kHypercall: return facilities_.has(Facility::kHypercalls);
    case Msr::kReferenceTsc: return facilities_.has(Facility::kReferenceTime);
    case Msr::kVpAssistPage: return facilities_.has(Facility::kApicRegisters) && has(Feature::kApicRegisters);
    case Msr::kSynicControl:
    case Msr::kEventFlagsPage:
    case Msr::kMessagePage: return facilities_.has(Facility::kSynic);
    default: return false;
  }
}

/// What the register is now, which need not be what was written.
void Hypervisor::repeat(VpIndex vp, std::uint32_t index) {
  const auto value = read(vp, index);
  if (!value) return;
  if (auto told = partition_.facilities()->set_register(vp, index, *value); !told) {
    options_.log.error("processor {}: {}", vp.value, told.error().text());
  }
}

void Hypervisor::repeat_all() {
  if (facilities_.empty()) return;
  for (std::uint32_t vp = 0; vp < vps_.size(); ++vp) {
    for (std::uint32_t index = tlfs::kFirstMsr; index <= tlfs::kLastMsr; ++index) {
      if (is_repeated(static_cast<Msr>(index))) repeat(VpIndex{vp}, index);
    }
  }
}

// ---- exits ----

bool Hypervisor::read_msr(VpIndex vp, cpu::MsrExit& exit) {
  if (exit.index < tlfs::kFirstMsr || exit.index > tlfs::kLastMsr || vp.value >= vps_.size()) return false;
  const auto value = read(vp, exit.index);
  exit.value = value.value_or(0);
  exit.fault = !value;
  if (exit.fault && unknown_limit_.allow()) options_.log.debug("the guest read register {:#x}, which does not exist here", exit.index);
  return true;
}

bool Hypervisor::write_msr(VpIndex vp, cpu::MsrExit& exit) {
  if (exit.index < tlfs::kFirstMsr || exit.index > tlfs::kLastMsr || vp.value >= vps_.size()) return false;
  exit.fault = !write(vp, exit.index, exit.value);
  if (exit.fault && unknown_limit_.allow()) {
    options_.log.debug("the guest wrote {:#x} into register {:#x}, which does not take that", exit.value, exit.index);
  }
  return true;
}

void Hypervisor::handle_hypercall(VpIndex vp, cpu::HypercallExit& exit) {
  if (vp.value >= vps_.size() || !hypercalls_enabled_.load(std::memory_order_acquire)) {
    exit.fault = true;
    return;
  }
  hypercalls_.handle(vp, exit);
}

// ---- registers ----

std::optional<std::uint64_t> Hypervisor::read(VpIndex vp, std::uint32_t index) {
  const auto msr = static_cast<Msr>(index);
  if (is_between(msr, Msr::kTimer0Configuration, Msr::kTimer3Count)) {
    const std::uint32_t offset = index - static_cast<std::uint32_t>(Msr::kTimer0Configuration);
    const SyntheticTimers& timers = *vps_[vp.value]->timers;
    return offset % 2 == 0 ? timers.read_configuration(offset / 2) : timers.read_count(offset / 2);
  }
  if (is_between(msr, Msr::kSynicControl, Msr::kSint15)) return synic_.read(vp, msr);
  if (is_between(msr, Msr::kEoi, Msr::kTpr)) return read_apic(vp, msr);
  if (msr == Msr::kReferenceTime) return time_.now();
  if (msr == Msr::kVpIndex) return vp.value;
  const std::lock_guard lock(mutex_);
  if (is_between(msr, Msr::kCrashParameter0, Msr::kCrashParameter4) && has(Feature::kCrashReport)) {
    return crash_parameters_[index - static_cast<std::uint32_t>(Msr::kCrashParameter0)];
  }
  switch (msr) {
    case Msr::kGuestOsId: return guest_os_id_;
    case Msr::kHypercall: return hypercall_register_;
    case Msr::kReset: return has(Feature::kReset) ? std::optional<std::uint64_t>(0) : std::nullopt;
    case Msr::kReferenceTsc: return has(Feature::kReferenceTsc) ? std::optional(reference_tsc_register_) : std::nullopt;
    case Msr::kTscFrequency: return has(Feature::kFrequencies) ? std::optional(partition_.tsc_frequency()) : std::nullopt;
    case Msr::kApicFrequency: return has(Feature::kFrequencies) ? std::optional(partition_.apic_timer_frequency()) : std::nullopt;
    case Msr::kVpAssistPage: return vps_[vp.value]->assist_register;
    case Msr::kCrashControl:
      return has(Feature::kCrashReport) ? std::optional(tlfs::kCrashNotify | tlfs::kCrashMessage) : std::nullopt;
    case Msr::kTscInvariantControl: return has(Feature::kTscInvariant) ? std::optional(tsc_invariant_control_) : std::nullopt;
    default: return std::nullopt;
  }
}

bool Hypervisor::write(VpIndex vp, std::uint32_t index, std::uint64_t value) {
  if (!write_own(vp, index, value)) return false;
  const auto msr = static_cast<Msr>(index);
  if (msr == Msr::kEndOfMessage) vps_[vp.value]->timers->end_of_message();
  if (is_repeated(msr)) repeat(vp, index);
  return true;
}

bool Hypervisor::write_own(VpIndex vp, std::uint32_t index, std::uint64_t value) {
  const auto msr = static_cast<Msr>(index);
  if (is_between(msr, Msr::kTimer0Configuration, Msr::kTimer3Count)) {
    const std::uint32_t offset = index - static_cast<std::uint32_t>(Msr::kTimer0Configuration);
    SyntheticTimers& timers = *vps_[vp.value]->timers;
    if (offset % 2 == 0) return timers.write_configuration(offset / 2, value);
    timers.write_count(offset / 2, value);
    return true;
  }
  if (is_between(msr, Msr::kSynicControl, Msr::kSint15)) return synic_.write(vp, msr, value);
  if (is_between(msr, Msr::kEoi, Msr::kTpr)) return write_apic(vp, msr, value);
  if (msr == Msr::kReset && has(Feature::kReset)) {
    if ((value & 1) != 0 && options_.reset) options_.reset();
    return true;
  }
  if (msr == Msr::kCrashControl && has(Feature::kCrashReport)) {
    report_crash(vp, value);
    return true;
  }
  const std::lock_guard lock(mutex_);
  if (is_between(msr, Msr::kCrashParameter0, Msr::kCrashParameter4) && has(Feature::kCrashReport)) {
    crash_parameters_[index - static_cast<std::uint32_t>(Msr::kCrashParameter0)] = value;
    return true;
  }
  switch (msr) {
    case Msr::kGuestOsId: write_guest_os_id(value); return true;
    case Msr::kHypercall: return write_hypercall_page(value);
    case Msr::kReferenceTsc: return has(Feature::kReferenceTsc) && write_reference_tsc(value);
    case Msr::kVpAssistPage: return write_assist_page(vp, value);
    case Msr::kTscInvariantControl:
      if (!has(Feature::kTscInvariant) || value > 1) return false;
      tsc_invariant_control_ = value;
      return true;
    default: return false;
  }
}

void Hypervisor::write_guest_os_id(std::uint64_t value) {
  guest_os_id_ = value;
  if (value != 0) return;
  // A guest without a name has no hypercalls (3.13).
  hypercalls_enabled_ = false;
  hypercall_register_ &= ~tlfs::kPageEnabled;
  hypercall_page_.remove();
}

bool Hypervisor::write_hypercall_page(std::uint64_t value) {
  if ((hypercall_register_ & tlfs::kHypercallLocked) != 0) return false;
  if (guest_os_id_ == 0) value &= ~tlfs::kPageEnabled;
  if ((value & tlfs::kPageEnabled) != 0) {
    if (!hypercall_page_.place(value >> tlfs::kPageNumberShift)) return false;
  } else {
    hypercall_page_.remove();
  }
  hypercall_register_ = value;
  hypercalls_enabled_ = (value & tlfs::kPageEnabled) != 0;
  return true;
}

bool Hypervisor::write_reference_tsc(std::uint64_t value) {
  if ((value & tlfs::kPageEnabled) != 0) {
    if (!reference_tsc_page_.place(value >> tlfs::kPageNumberShift)) return false;
    fill_reference_tsc_page();
  } else {
    reference_tsc_page_.remove();
  }
  reference_tsc_register_ = value;
  return true;
}

/// With the lock held. A guest that reads meanwhile sees sequence 0 and takes the register instead.
void Hypervisor::fill_reference_tsc_page() {
  if (!reference_tsc_page_.is_placed() || facilities_.has(cpu::Facility::kReferenceTime)) return;
  const std::span<std::byte> page = reference_tsc_page_.bytes();
  std::atomic_ref sequence(*reinterpret_cast<std::uint32_t*>(page.data()));
  sequence.store(0, std::memory_order_seq_cst);
  if (time_.is_from_tsc()) {
    tlfs::ReferenceTscPage content = {};
    content.scale = time_.scale();
    content.offset = time_.offset();
    std::ranges::copy(bytes_of(content).subspan(sizeof(le64)), page.begin() + sizeof(le64));
    // 0 means invalid and all-ones meant so in older versions of the interface.
    ++reference_tsc_sequence_;
    if (reference_tsc_sequence_ == 0 || reference_tsc_sequence_ == 0xFFFFFFFF) reference_tsc_sequence_ = 1;
    sequence.store(reference_tsc_sequence_, std::memory_order_seq_cst);
  }
  reference_tsc_page_.wrote(0, sizeof(tlfs::ReferenceTscPage));
}

bool Hypervisor::write_assist_page(VpIndex index, std::uint64_t value) {
  Vp& vp = *vps_[index.value];
  if ((value & tlfs::kPageEnabled) != 0) {
    if (!vp.assist_page.place(value >> tlfs::kPageNumberShift)) return false;
  } else {
    vp.assist_page.remove();
  }
  vp.assist_register = value;
  return true;
}

std::optional<std::uint64_t> Hypervisor::read_apic(VpIndex vp, Msr msr) {
  if (!has(Feature::kApicRegisters) || !options_.local_apic) return std::nullopt;
  cpu::LocalApic& apic = *options_.local_apic(vp);
  switch (msr) {
    case Msr::kTpr: return apic.read_cr8() << 4;
    case Msr::kIcr: {
      using spec::x86::ApicRegister;
      if (!apic.mmio_base()) return apic.read_msr(0x830);
      const std::uint64_t high = apic.read_register(static_cast<std::uint32_t>(ApicRegister::kInterruptCommandHigh));
      return high << 32 | apic.read_register(static_cast<std::uint32_t>(ApicRegister::kInterruptCommandLow));
    }
    default: return std::nullopt;  // EOI is write-only
  }
}

bool Hypervisor::write_apic(VpIndex vp, Msr msr, std::uint64_t value) {
  using spec::x86::ApicRegister;
  if (!has(Feature::kApicRegisters) || !options_.local_apic) return false;
  cpu::LocalApic& apic = *options_.local_apic(vp);
  const auto write_register = [&](ApicRegister which, std::uint32_t part) { apic.write_register(static_cast<std::uint32_t>(which), part); };
  const bool is_x2apic = !apic.mmio_base();
  switch (msr) {
    case Msr::kEoi:
      if (is_x2apic) return apic.write_msr(0x80B, 0);
      write_register(ApicRegister::kEoi, 0);
      return true;
    case Msr::kIcr:
      if (is_x2apic) return apic.write_msr(0x830, value);
      write_register(ApicRegister::kInterruptCommandHigh, static_cast<std::uint32_t>(value >> 32));
      write_register(ApicRegister::kInterruptCommandLow, static_cast<std::uint32_t>(value));
      return true;
    case Msr::kTpr:
      if (value > 0xFF) return false;
      if (is_x2apic) return apic.write_msr(0x808, value);
      write_register(ApicRegister::kTaskPriority, static_cast<std::uint32_t>(value));
      return true;
    default: return false;
  }
}

void Hypervisor::report_crash(VpIndex vp, std::uint64_t control) {
  if ((control & tlfs::kCrashNotify) == 0) return;
  CrashReport report;
  report.vp = vp;
  {
    const std::lock_guard lock(mutex_);
    report.parameters = crash_parameters_;
    ++crashes_;
  }
  if ((control & tlfs::kCrashMessage) != 0) {
    // Parameters 3 and 4 are then the address and length of a text.
    std::vector<std::byte> text(std::min(report.parameters[4], kCrashMessageLimit));
    if (memory_.read({report.parameters[3]}, text)) report.message = printable(text);
  }
  if (options_.crashed) options_.crashed(report);
}

// ---- lifecycle ----

void Hypervisor::pause() { time_.pause(); }

void Hypervisor::resume() {
  if (auto went_on = time_.resume(); !went_on) options_.log.error("reference time: {}", went_on.error().text());
  {
    const std::lock_guard lock(mutex_);
    fill_reference_tsc_page();
  }
  // The engine, too, has to compute its page anew.
  const auto reference_tsc = static_cast<std::uint32_t>(Msr::kReferenceTsc);
  if (is_repeated(Msr::kReferenceTsc) && has(Feature::kReferenceTsc)) repeat(VpIndex{0}, reference_tsc);
  for (const auto& vp : vps_) vp->timers->rearm();
}

void Hypervisor::reset() {
  for (const auto& vp : vps_) vp->timers->reset();
  synic_.reset();
  std::unique_lock lock(mutex_);
  guest_os_id_ = hypercall_register_ = reference_tsc_register_ = tsc_invariant_control_ = 0;
  hypercalls_enabled_ = false;
  hypercall_page_.reset();
  std::vector<std::byte> code = partition_.hypercall_code();
  code.resize(memory::kPageSize, kBreakpoint);
  hypercall_page_.set_content(code);
  reference_tsc_page_.reset();
  crash_parameters_ = {};
  for (const auto& vp : vps_) {
    vp->assist_register = 0;
    vp->assist_page.reset();
  }
  lock.unlock();
  repeat_all();
}

nlohmann::json Hypervisor::save() const {
  nlohmann::json vps = nlohmann::json::array();
  const std::lock_guard lock(mutex_);
  for (std::uint32_t i = 0; i < vps_.size(); ++i) {
    vps.push_back({{"synic", synic_.save(VpIndex{i})},
                   {"timers", vps_[i]->timers->save()},
                   {"assist_register", vps_[i]->assist_register},
                   {"assist_page", vps_[i]->assist_page.save()}});
  }
  return {{"version", kSavedVersion},
          {"reference_time", time_.now()},
          {"guest_os_id", guest_os_id_},
          {"hypercall_register", hypercall_register_},
          {"hypercall_page", hypercall_page_.save()},
          {"reference_tsc_register", reference_tsc_register_},
          {"reference_tsc_page", reference_tsc_page_.save()},
          {"reference_tsc_sequence", reference_tsc_sequence_},
          {"tsc_invariant_control", tsc_invariant_control_},
          {"crash_parameters", crash_parameters_},
          {"vps", std::move(vps)}};
}

Result<void> Hypervisor::restore(const nlohmann::json& state) {
  SavedFields fields(state, "the hypervisor", kSavedVersion);
  std::uint64_t reference_time = 0, guest_os_id = 0, hypercall_register = 0, tsc_register = 0, invariant = 0;
  std::uint32_t sequence = 0;
  std::array<std::uint64_t, tlfs::kCrashParameterCount> crash = {};
  fields.read("reference_time", reference_time);
  fields.read("guest_os_id", guest_os_id);
  fields.read("hypercall_register", hypercall_register);
  fields.read("reference_tsc_register", tsc_register);
  fields.read("reference_tsc_sequence", sequence);
  fields.read("tsc_invariant_control", invariant);
  fields.read("crash_parameters", crash);
  const nlohmann::json* hypercall_state = fields.nested("hypercall_page");
  const nlohmann::json* tsc_state = fields.nested("reference_tsc_page");
  const nlohmann::json* vp_states = fields.nested("vps");
  fields.require(vp_states != nullptr && vp_states->is_array() && vp_states->size() == vps_.size(),
                 "it is of another number of processors");
  BYGONE_CHECK(fields.finish());
  BYGONE_ASSIGN(OverlayPage hypercall_page, OverlayPage::restore(memory_, *hypercall_state));
  BYGONE_ASSIGN(OverlayPage tsc_page, OverlayPage::restore(memory_, *tsc_state));

  struct RestoredVp {
    std::shared_ptr<Synic::Restored> synic;
    SyntheticTimers::SavedTimers timers;
    std::uint64_t assist_register = 0;
    OverlayPage assist_page;
  };
  std::vector<RestoredVp> restored;
  for (const nlohmann::json& vp_state : *vp_states) {
    for (const char* name : {"synic", "timers", "assist_register", "assist_page"}) {
      if (!vp_state.is_object() || !vp_state.contains(name)) {
        return fail(ErrorCode::kCorrupt, "saved state of the hypervisor: a processor has no {}", name);
      }
    }
    if (!vp_state["assist_register"].is_number_unsigned()) {
      return fail(ErrorCode::kCorrupt, "saved state of the hypervisor: assist_register is not a number");
    }
    BYGONE_ASSIGN(auto synic, synic_.prepare_restore(vp_state["synic"]));
    BYGONE_ASSIGN(auto timers, SyntheticTimers::parse(vp_state["timers"]));
    BYGONE_ASSIGN(auto page, OverlayPage::restore(memory_, vp_state["assist_page"]));
    restored.push_back({std::move(synic), timers, vp_state["assist_register"].get<std::uint64_t>(), std::move(page)});
  }

  // Everything is valid: from here on nothing fails but the engine.
  BYGONE_CHECK(time_.set(reference_time));
  for (std::uint32_t i = 0; i < vps_.size(); ++i) {
    synic_.commit(VpIndex{i}, *restored[i].synic);
    vps_[i]->timers->restore(restored[i].timers);
  }
  std::unique_lock lock(mutex_);
  for (std::uint32_t i = 0; i < vps_.size(); ++i) {
    vps_[i]->assist_register = restored[i].assist_register;
    vps_[i]->assist_page = std::move(restored[i].assist_page);
  }
  guest_os_id_ = guest_os_id;
  hypercall_register_ = hypercall_register;
  hypercalls_enabled_ = guest_os_id != 0 && (hypercall_register & tlfs::kPageEnabled) != 0;
  hypercall_page_ = std::move(hypercall_page);
  // The engine may be another than the one that saved: its way out of the guest replaces the old one's.
  std::vector<std::byte> code = partition_.hypercall_code();
  code.resize(memory::kPageSize, kBreakpoint);
  hypercall_page_.set_content(code);
  reference_tsc_register_ = tsc_register;
  reference_tsc_page_ = std::move(tsc_page);
  reference_tsc_sequence_ = sequence;
  fill_reference_tsc_page();
  tsc_invariant_control_ = invariant;
  crash_parameters_ = crash;
  lock.unlock();
  repeat_all();
  return {};
}

nlohmann::json Hypervisor::inspect() const {
  nlohmann::json vps = nlohmann::json::array();
  for (std::uint32_t i = 0; i < vps_.size(); ++i) {
    vps.push_back({{"synic", synic_.inspect(VpIndex{i})}, {"timers", vps_[i]->timers->inspect()}});
  }
  const std::lock_guard lock(mutex_);
  return {{"guest_os_id", fmt::format("{:#x}", guest_os_id_)},
          {"enlightenments", options_.features.names()},
          {"done_by_engine", facilities_.names()},
          {"hypercall_page", fmt::format("{:#x}", hypercall_register_)},
          {"reference_time", time_.now()},
          {"reference_tsc_page", fmt::format("{:#x}", reference_tsc_register_)},
          {"crashes", crashes_},
          {"hypercalls", hypercalls_.inspect()},
          {"vps", std::move(vps)}};
}

}  // namespace bygone::hyperv
