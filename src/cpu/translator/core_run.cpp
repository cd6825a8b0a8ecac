// The run loop: attention, halts, the choice of tier, fetching and stepping.
#include <x86intrin.h>

#include <algorithm>

#include <fmt/format.h>

#include "cpu/translator/core.h"
#include "cpu/translator/decoder.h"

namespace bygone::cpu::translator {

Core::Core(VpIndex index, const Shared& shared, std::unique_ptr<VcpuBlock> block)
    : index_(index), shared_(shared), block_(std::move(block)) {
  block_->core = this;
  block_->physical = shared.physical;
  block_->code_pages = shared.code_pages;
  block_->dirty_pages = shared.dirty_pages;
  if (shared.apics != nullptr) apic_ = &shared.apics->at(index);
  reset(false);
}

Core::~Core() = default;

void Core::set_tier1(std::unique_ptr<Tier1> tier1) {
  tier1_ = std::move(tier1);
  block_->tlb_listener = tier1_.get();
}

std::uint64_t Core::guest_tsc() const { return __rdtsc() + block_->tsc_offset; }

void Core::attract(std::uint32_t attention) {
  block_->attention.fetch_or(attention);
  if (sleeping_.load()) {
    const std::scoped_lock lock(wake_mutex_);
    wake_.notify_one();
  }
}

void Core::level_eoi(std::uint8_t vector) {
  {
    const std::scoped_lock lock(eoi_mutex_);
    eoi_vectors_.push_back(vector);
  }
  attract(kAttentionKick);
}

void Core::run_until_exit() {
  block_->in_guest.store(1);
  CodePages::serve_requests(*block_);
  complete_exit();
  if (witness_ != nullptr && answers_count_ == 0) witness_->entered(*this);
  for (;;) {
    if (block_->attention.load() != 0 && serve_attention()) break;
    if (block_->activity != static_cast<std::uint8_t>(ActivityState::kRunning)) {
      block_->in_guest.store(0);
      wait_while_halted();
      block_->in_guest.store(1);
      continue;
    }
    if (witness_ == nullptr) run_tier(); else run_before_witness();
    if (exit_pending_) break;
  }
  block_->in_guest.store(0);
}

namespace {
constexpr std::uint32_t kInterpretedModes = kModeReal | kModeSlow;
}

void Core::run_tier() {
  constexpr std::uint32_t kMany = 4096;
  if (!tier1_ || (block_->mode & kInterpretedModes) != 0) {
    interpret(kMany, Until::kCount);
  } else if (answers_count_ != 0 || block_->interrupt_shadow != 0) {
    interpret(1, Until::kCount);
  } else {
    switch (tier1_->run(*block_)) {
      case Tier1Result::kAttention:
      case Tier1Result::kBlock: break;
      case Tier1Result::kFault: deliver_fault(); break;
      case Tier1Result::kInterpret: interpret(1, Until::kCount); break;
      case Tier1Result::kCold: interpret(kMany, Until::kTransfer); break;
    }
  }
}

void Core::run_before_witness() {
  if (!witness_->divergence().empty()) {
    exit_ = UnrecoverableExit{witness_->divergence()};
    exit_pending_ = true;
    return;
  }
  const bool interprets = !tier1_ || (block_->mode & kInterpretedModes) != 0 || answers_count_ != 0 || block_->interrupt_shadow != 0;
  const Tier1Result result = interprets ? Tier1Result::kInterpret : tier1_->run(*block_);
  if (!interprets) witness_->ran_block(*this, result == Tier1Result::kBlock);
  switch (result) {
    case Tier1Result::kAttention:
    case Tier1Result::kBlock: break;
    case Tier1Result::kFault:
      witness_->will_fault(*this);
      deliver_fault();
      witness_->interpreted(*this, false);
      break;
    case Tier1Result::kInterpret:
    case Tier1Result::kCold: interpret_one(); break;
  }
}

void Core::interpret_one() {
  const bool was_answered = answers_count_ != 0;
  interpret(1, Until::kCount);
  if (witness_ != nullptr && !exit_pending_) witness_->interpreted(*this, was_answered);
}

void Core::wait_while_halted() {
  const std::uint64_t start = __rdtsc();
  sleeping_.store(true);
  {
    std::unique_lock lock(wake_mutex_);
    wake_.wait(lock, [this] { return block_->attention.load() != 0; });
  }
  sleeping_.store(false);
  halted_cycles_ += __rdtsc() - start;
}

bool Core::serve_attention() {
  CodePages::serve_requests(*block_);
  const std::uint32_t bits = block_->attention.load();
  if ((bits & kAttentionShutdown) != 0) {
    exit_ = ShutdownExit{};
    return true;  // stays set until a reset
  }
  if (answers_count_ != 0) {  // an instruction is half way; finish it first
    interpret_one();
    return exit_pending_;
  }
  if ((bits & kAttentionKick) != 0) {
    block_->attention.fetch_and(~std::uint32_t{kAttentionKick});
    const std::scoped_lock lock(eoi_mutex_);
    if (!eoi_vectors_.empty()) {
      exit_ = IoApicEoiExit{eoi_vectors_.back()};
      eoi_vectors_.pop_back();
      block_->attention.fetch_or(kAttentionKick);  // a kick may have come as well: it must not get lost
    } else {
      exit_ = InterruptedExit{};
    }
    return true;
  }
  serve_start_signals();
  if ((bits & kAttentionNmi) != 0) {
    block_->attention.fetch_and(~std::uint32_t{kAttentionNmi});
    block_->pending_nmis = nmis_with_one_more(*block_);
  }
  block_->attention.fetch_and(~std::uint32_t{kAttentionInterrupt});
  deliver_interrupts();
  return false;
}

void Core::serve_start_signals() {
  const std::uint32_t bits = block_->attention.load();
  if ((bits & kAttentionInit) != 0) {
    block_->attention.fetch_and(~std::uint32_t{kAttentionInit});
    reset(true);
  }
  if ((bits & kAttentionStartUp) != 0) {
    block_->attention.fetch_and(~std::uint32_t{kAttentionStartUp});
    if (block_->activity == static_cast<std::uint8_t>(ActivityState::kWaitForSipi)) {
      Segment& code = segment(SegmentName::kCs);
      code.selector = static_cast<std::uint16_t>(block_->start_up_vector << 8);
      code.base = std::uint64_t{block_->start_up_vector} << 12;
      block_->rip = 0;
      block_->activity = static_cast<std::uint8_t>(ActivityState::kRunning);
      mmu::update_mode(*block_);
    }
  }
}

void Core::deliver_interrupts() {
  const auto activity = static_cast<ActivityState>(block_->activity);
  if (activity == ActivityState::kWaitForSipi || activity == ActivityState::kWaitForInit) return;
  if (block_->pending_nmis != 0) {
    if (block_->nmi_masked == 0 && block_->interrupt_shadow == 0) {
      --block_->pending_nmis;
      block_->activity = static_cast<std::uint8_t>(ActivityState::kRunning);
      take_event(EventKind::kNmi, vector::kNmi);
      block_->nmi_masked = 1;
    } else {
      block_->interrupt_held = 1;
    }
  }
  if (apic_ == nullptr || !apic_->pending()) return;
  if ((block_->rflags & rflags::kIf) == 0 || block_->interrupt_shadow != 0) {
    block_->interrupt_held = 1;
    return;
  }
  block_->interrupt_held = 0;
  if (const auto taken = apic_->acknowledge()) {
    block_->activity = static_cast<std::uint8_t>(ActivityState::kRunning);
    take_event(EventKind::kExternal, *taken);
    if (apic_->pending()) block_->interrupt_held = 1;
  }
}

void Core::take_event(EventKind kind, std::uint8_t vector) {
  if (witness_ != nullptr) witness_->will_deliver(*this);
  try {
    deliver_event(kind, vector, false, 0, block_->rip);
  } catch (const GuestFault&) {
    deliver_fault();
  } catch (const ExitPending&) {
    // A stack or table that is not RAM: no machine can answer in the middle of a delivery.
    shut_down();
  }
  if (witness_ != nullptr) witness_->deliver(*this, kind, vector);
}

void Core::shut_down() { block_->attention.fetch_or(kAttentionShutdown); }

StepResult Core::step() {
  exit_pending_ = false;
  interpret(1, Until::kCount);
  return exit_pending_ ? StepResult::kExit : StepResult::kDone;
}

void Core::interpret(std::uint32_t count, Until until) {
  try {
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint64_t before = block_->rip;
      execute_one();
      if (until == Until::kTransfer && block_->rip - before > 15) return;  // a jump, or a short one that is worth the same
      if (block_->attention.load(std::memory_order_relaxed) != 0) return;
      if (block_->activity != static_cast<std::uint8_t>(ActivityState::kRunning)) return;
    }
  } catch (const GuestFault&) {
    answers_count_ = 0;
    deliver_fault();
  } catch (const ExitPending&) {
    exit_pending_ = true;
  }
}

void Core::execute_one() {
  answers_used_ = 0;
  VcpuBlock& block = *block_;
  const bool slow = (block.mode & kModeSlow) != 0;
  const bool trap_flag = (block.rflags & rflags::kTf) != 0;
  if (slow) [[unlikely]] before_slow_instruction();
  const Decoded& decoded = fetch();
  next_rip_ = block.rip + decoded.length;
  if (!is_64()) next_rip_ &= 0xFFFF'FFFF;
  last_mnemonic_ = decoded.mnemonic;
  decoded.handler(*this, decoded);
  block.rip = next_rip_;
  ++block.instructions;
  answers_count_ = 0;
  if (block.interrupt_shadow != 0) [[unlikely]] block.interrupt_shadow = block.interrupt_shadow == 2 ? 1 : 0;
  if (block_->interrupt_held != 0 && block.interrupt_shadow == 0) [[unlikely]] {
    if ((block.rflags & rflags::kIf) != 0 || block.pending_nmis != 0) {
      block_->interrupt_held = 0;
      block.attention.fetch_or(kAttentionInterrupt);
    }
  }
  if (slow) [[unlikely]] after_slow_instruction(trap_flag);
}

namespace {

std::uint32_t decode_reading(std::uint32_t mode) {
  const std::uint32_t width = mode & kModeCodeWidthMask;
  return width == kModeCode16 && (mode & kModeReal) != 0 ? DecodeCache::kRealMode : width;
}

}  // namespace

const Decoded& Core::fetch() {
  const VcpuBlock& block = *block_;
  const std::uint32_t width = block.mode & kModeCodeWidthMask;
  const std::uint64_t linear =
      width == kModeCode64 ? block.rip : (block.segments[1].base + block.rip) & 0xFFFF'FFFF;
  const TlbEntry& entry = block.tlb.contexts[block.cpl == 3 ? kTlbUser : kTlbSupervisor].entries[tlb_index(linear)];
  if (linear - entry.exec_tag < 4096 && entry.host == fetch_host_ && decode_reading(block.mode) == fetch_reading_) [[likely]] {
    const std::uint64_t key = DecodeCache::key(fetch_ram_page_, static_cast<std::uint32_t>(linear & 0xFFF), fetch_reading_);
    if (const Decoded* decoded = decode_cache_.find(key, fetch_version_->load(std::memory_order_acquire))) [[likely]] return *decoded;
  }
  return fetch_slow(linear);
}

const Decoded& Core::fetch_slow(std::uint64_t linear) {
  if (thunks_.is_nearly_full()) {
    thunks_.clear();
    decode_cache_.clear();
  }
  const std::uint32_t context = block_->cpl == 3 ? kTlbUser : kTlbSupervisor;
  const MmuResult place = look(linear, Access::kExecute, context);
  if (place.status != MmuStatus::kRam) {
    exit_ = UnrecoverableExit{fmt::format("processor {} runs into address {:#x} (linear {:#x}), which is not RAM", index_.value,
                                          place.physical, linear)};
    leave();
  }
  const auto offset = static_cast<std::uint32_t>(linear & 0xFFF);
  const std::uint8_t* host_page = place.host - offset;
  const std::uint32_t width = block_->mode & kModeCodeWidthMask;
  const std::uint64_t ram_page = shared_.physical->ram_page_of(host_page);
  const std::uint32_t available = std::min<std::uint32_t>(15, 4096 - offset);
  const std::uint32_t version = shared_.code_pages->mark(*block_, ram_page, offset, offset + available - 1);

  fetch_host_ = host_page;
  fetch_reading_ = decode_reading(block_->mode);
  fetch_ram_page_ = ram_page;
  fetch_version_ = shared_.code_pages->version_address(ram_page);
  const std::uint64_t key = DecodeCache::key(ram_page, offset, fetch_reading_);
  if (const Decoded* decoded = decode_cache_.find(key, version)) return *decoded;

  std::array<std::uint8_t, 16> bytes = {};
  std::memcpy(bytes.data(), place.host, available);
  const bool real_mode = (block_->mode & kModeReal) != 0;
  Decoded decoded;
  if (decode_instruction(std::span(bytes).first(available), width, real_mode, thunks_, decoded) == DecodeStatus::kDone) {
    return decode_cache_.add(key, version, decoded);
  }
  // Across the page's end: never cached, since two pages would have to stay as they are.
  std::uint64_t next = linear + available;
  if (width != kModeCode64) next &= 0xFFFF'FFFF;
  if (available == 15) raise_gp();
  const MmuResult second = look(next, Access::kExecute, context);
  if (second.status != MmuStatus::kRam) raise_gp();
  std::memcpy(bytes.data() + available, second.host, 15 - available);
  if (decode_instruction(std::span(bytes).first(15), width, real_mode, thunks_, uncached_) != DecodeStatus::kDone) raise_gp();
  return uncached_;
}

void Core::set_breakpoints(std::unordered_set<std::uint64_t> addresses, bool single_step) {
  breakpoints_ = std::move(addresses);
  single_step_ = single_step;
  skip_breakpoint_ = true;  // the instruction we stand on was reported already
  block_->debugger = !breakpoints_.empty() || single_step_ ? 1 : 0;
  mmu::update_mode(*block_);
}

void Core::before_slow_instruction() {
  watch_hits_ = 0;
  const std::uint64_t linear = is_64() ? block_->rip : (segment(SegmentName::kCs).base + block_->rip) & 0xFFFF'FFFF;
  if (!skip_breakpoint_ && breakpoints_.contains(linear)) {
    skip_breakpoint_ = true;
    exit_ = DebugExit{block_->rip};
    leave();
  }
  skip_breakpoint_ = false;
  if ((block_->debug.dr7 & 0xFF) == 0 || (block_->rflags & rflags::kRf) != 0) return;
  for (unsigned i = 0; i < 4; ++i) {
    const bool enabled = ((block_->debug.dr7 >> (2 * i)) & 3) != 0;
    const bool executes = ((block_->debug.dr7 >> (16 + 4 * i)) & 3) == 0;
    if (enabled && executes && block_->debug.dr[i] == linear) {
      block_->debug.dr6 = (block_->debug.dr6 & ~std::uint64_t{0xF}) | (1U << i);
      raise(vector::kDb);
    }
  }
}

void Core::after_slow_instruction(bool trap_flag_before) {
  block_->rflags &= ~rflags::kRf;
  if (watch_hits_ != 0) {
    block_->debug.dr6 |= watch_hits_;
    watch_hits_ = 0;
    if (trap_flag_before) block_->debug.dr6 |= 1U << 14;
    raise(vector::kDb);
  }
  if (trap_flag_before && block_->interrupt_shadow == 0) {
    block_->debug.dr6 |= 1U << 14;
    raise(vector::kDb);
  }
  if (single_step_) {
    skip_breakpoint_ = true;
    exit_ = DebugExit{block_->rip};
    leave();
  }
}

}  // namespace bygone::cpu::translator
