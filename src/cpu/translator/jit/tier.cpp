#include "cpu/translator/jit/tier.h"

#include <asm/prctl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include <cstring>

#include "cpu/translator/jit/assembler_words.h"
#include "cpu/translator/jit/emitter.h"
#include "cpu/translator/physical_memory.h"

namespace bygone::cpu::translator::jit {

Result<std::unique_ptr<Tier>> Tier::create(VcpuBlock& block, const TierOptions& options) {
  BYGONE_ASSIGN(auto cache, Cache::create(block.tlb, options.code_cache_bytes, options.first_bytes));
  if (options.one_block) cache->leave_unlinked();
  cache->set_slot_patience(options.slot_patience);
  return std::unique_ptr<Tier>(new Tier(block, std::move(cache), options));
}

Tier::Tier(VcpuBlock& block, std::unique_ptr<Cache> cache, const TierOptions& options)
    : cache_(std::move(cache)), options_(options), fault_guard_(block, *cache_) {}

Tier::~Tier() = default;

bool Tier::is_hot(std::uint64_t address) {
  std::uint8_t& visits = visits_[(address ^ address >> 15) % visits_.size()];
  if (visits >= options_.threshold) return true;
  ++visits;
  return false;
}

Tier1Result Tier::run(VcpuBlock& block) {
  if (code_changed_.load(std::memory_order_relaxed) && code_changed_.exchange(false)) cache_->forget_all();
  own_word(block, Word::kCache) = reinterpret_cast<std::uint64_t>(cache_.get());
  own_word(block, Word::kBounce) = reinterpret_cast<std::uint64_t>(bounce_.data());
  for (;;) {  // the mode may have changed on the way
    if (block.attention.load(std::memory_order_relaxed) != 0) return Tier1Result::kAttention;
    if (!can_translate(block)) return Tier1Result::kInterpret;
    ModeKey mode = mode_key_of(block);
    if (options_.one_block) mode.value |= ModeKey::kTimeStampRefused;
    own_word(block, Word::kMode) = mode.value;
    cache_->use_mode(mode);
    const Block* target = cache_->find(block, block.rip, mode);
    if (target == nullptr) {
      if (!is_hot(block.rip)) {
        ++interpreted_;
        return Tier1Result::kCold;
      }
      const std::uint64_t start = __rdtsc();
      target = translate(block, block.rip, mode);
      translation_cycles_ += __rdtsc() - start;
    }
    if (target == nullptr || target->interpret) {
      ++interpreted_;
      return Tier1Result::kInterpret;
    }
    enter(block, *target);
    switch (static_cast<LeaveReason>(own_word(block, Word::kReason))) {
      case LeaveReason::kInterpret: ++interpreted_; return Tier1Result::kInterpret;
      case LeaveReason::kAttention: return Tier1Result::kAttention;
      case LeaveReason::kFault: return Tier1Result::kFault;
      case LeaveReason::kLookup:
        if (options_.one_block) return Tier1Result::kBlock;
        break;
    }
  }
}

namespace {

/// Accesses of whatever size whose offsets are below it fit the segment and are allowed.
std::uint64_t offset_bound(const Segment& segment) {
  constexpr std::uint32_t kCode = 8, kExpandsDown = 4, kWritable = 2;
  constexpr std::uint32_t kLargest = 64;
  const std::uint32_t type = segment.attributes & (kCode | kExpandsDown | kWritable);
  if ((segment.attributes & kSegmentUnusable) != 0 || (segment.attributes & kSegmentPresent) == 0 || type != kWritable) return 0;
  if (segment.limit == 0xFFFF'FFFF) return std::uint64_t{1} << 32;  // what goes beyond begins again
  return segment.limit < kLargest ? 0 : segment.limit - kLargest + 2;
}

}  // namespace

void Tier::enter(VcpuBlock& block, const Block& target) {
  ++entries_;
  own_word(block, Word::kFsBound) = offset_bound(block.segments[static_cast<std::size_t>(SegmentName::kFs)]);
  own_word(block, Word::kGsBound) = offset_bound(block.segments[static_cast<std::size_t>(SegmentName::kGs)]);
  // Arithmetic flags: AH as LAHF leaves it, AL = OF.
  own_word(block, Word::kFlags) = (block.rflags & 0xFF) << 8 | (block.rflags >> 11 & 1);
  own_word(block, Word::kVectorsHome) = 1;
  if (!can_write_gs_base()) ::syscall(SYS_arch_prctl, ARCH_SET_GS, &block);
  const auto function = std::bit_cast<void (*)(VcpuBlock*, const void*)>(cache_->pc(cache_->thunks().enter));
  fault_guard_.arm();
  const std::uint64_t start = __rdtsc();
  if (start - patience_renewed_ > kSlotPeriod) {
    patience_renewed_ = start;
    cache_->renew_slot_patience();
  }
  function(&block, cache_->pc(target.entry));
  translated_cycles_ += __rdtsc() - start;
  fault_guard_.disarm();
  ++leaves_[own_word(block, Word::kReason) % kLeaveReasons];
  const std::uint64_t flags = own_word(block, Word::kFlags);
  block.rflags = (block.rflags & ~std::uint64_t{kArithmeticFlags}) | (flags >> 8 & kArithmeticFlags & 0xFF) | (flags & 1) << 11;
}

const Block* Tier::translate(VcpuBlock& block, std::uint64_t address, ModeKey mode) {
  const MmuResult place = mmu::lookup(block, address, Access::kExecute, mode.exec_context());
  if (place.status != MmuStatus::kRam) return nullptr;
  if (!cache_->has_room()) make_room(block);
  if (!translate_into_cache(block, address, mode, place.host - (address & 0xFFF))) return nullptr;
  return cache_->find(block, address, mode);
}

void Tier::make_room(VcpuBlock& block) {
  for (const Block& kept : cache_->make_room(block, true)) {
    if (!cache_->has_room()) break;
    if (translate_into_cache(block, kept.address, kept.mode, kept.host_page)) ++cache_->statistics().kept_blocks;
  }
  // Code in use that fills a whole area is too much to be kept: the block at hand needs room.
  if (!cache_->has_room()) static_cast<void>(cache_->make_room(block, false));
}

bool Tier::translate_into_cache(VcpuBlock& block, std::uint64_t address, ModeKey mode, const std::uint8_t* host_page) {
  ++translated_;
  Block made;
  made.address = address;
  made.host_page = host_page;
  made.ram_page = static_cast<std::uint32_t>(block.physical->ram_page_of(made.host_page));
  made.mode = mode;
  CodeReader reader(block, made.host_page, made.ram_page);
  tracer_.trace(reader, address, mode, trace_);
  std::array<std::uint8_t, 16> bytes = {};
  if (trace_.count == 0 && trace_.is_cut) {
    std::size_t length = 0;
    if (!read_across_pages(block, reader, made, bytes, length)) return false;
    tracer_.trace_one(std::span(bytes).first(length), address, mode, trace_);
  }
  // Kernels' loops are mostly short visits to pages that are always others: there the TLB is better.
  trace_.has_loop_slots = options_.mixes_slots ? translated_ % 2 == 0 : trace_.loops && mode.is_user();
  made.version = reader.version();
  if (reader.changed()) return false;
  trace_.address = address;
  std::uint32_t end = 0;
  const Cache::Filled before = cache_->filled();
  try {
    end = Emitter(*cache_, trace_).emit(made);
  } catch (const Xbyak::Error&) {  // an operand that the assembler does not take: the interpreter's
    cache_->go_back(before);
    trace_.count = 0;
    end = Emitter(*cache_, trace_).emit(made);
  }
  cache_->finish_block(made, end);
  return true;
}

bool Tier::read_across_pages(VcpuBlock& block, CodeReader& reader, Block& made, std::array<std::uint8_t, 16>& bytes,
                             std::size_t& length) {
  const auto first = reader.read(static_cast<std::uint32_t>(made.address & 0xFFF), 15);
  const std::uint64_t next = (made.address & ~std::uint64_t{0xFFF}) + 4096;
  const MmuResult second = mmu::lookup(block, made.mode.is_64() ? next : next & 0xFFFF'FFFF, Access::kExecute, made.mode.exec_context());
  if (second.status != MmuStatus::kRam) return false;
  made.crosses = true;
  made.second_host_page = second.host;
  made.second_ram_page = static_cast<std::uint32_t>(block.physical->ram_page_of(second.host));
  CodeReader rest(block, made.second_host_page, made.second_ram_page);
  const auto last = rest.read(0, 15);
  made.second_version = rest.version();
  std::memcpy(bytes.data(), first.data(), first.size());
  length = 15;
  std::memcpy(bytes.data() + first.size(), last.data(), length - first.size());
  return !rest.changed();
}

std::string Tier::inspect() const {
  const CacheStatistics& numbers = cache_->statistics();
  const auto left = [this](LeaveReason reason) { return leaves_[static_cast<std::size_t>(reason)]; };
  return fmt::format(
      R"("blocks":{},"code_bytes":{},"code_bytes_open":{},"code_cache_bytes":{},"cache_evictions":{},"blocks_evicted":{},"blocks_kept":{},"blocks_returned":{},"entries":{},"lookups":{},"links":{},)"
      R"("tlb_misses":{},"page_slots_given_up":{},"page_crossing_loads":{},"table_flushes":{},"interpreted":{},)"
      R"("left_for":{{"interpreter":{},"attention":{},"fault":{},"lookup":{}}},)"
      R"("cycles_in_translations":{},"cycles_translating":{})",
      numbers.blocks, cache_->code_used(), cache_->open_bytes(), cache_->code().size(), numbers.evictions,
      numbers.evicted_blocks, numbers.kept_blocks, numbers.returned_blocks, entries_, numbers.lookups, numbers.links,
      numbers.fills, numbers.given_up_slots, numbers.bounced, numbers.table_flushes, interpreted_, left(LeaveReason::kInterpret), left(LeaveReason::kAttention),
      left(LeaveReason::kFault), left(LeaveReason::kLookup), translated_cycles_, translation_cycles_);
}

void Tier::code_overwritten(std::uint64_t /*ram_page*/) { code_changed_.store(true); }

}  // namespace bygone::cpu::translator::jit
