// One software processor: the block, the interpreter (tier 0) and everything architectural around instructions.
//
//   run loop → run_until_exit(): attention? → interrupt delivery → tier 1 or step()
//   step(): fetch → decode (cached) → handler → rip moves on; a guest fault or an exit leaves by a C++ exception that step()
//   catches, with the block as it was before the instruction (string instructions: as after the last whole element).
//
// An access that only the machine can answer (MMIO, ports) ends the instruction with an exit; its answer is recorded and the
// instruction runs again from the start, reading its answers from the record, until it completes.
//
// Threading: the vCPU's thread, except where said.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "cpu/cpuid.h"
#include "cpu/exit.h"
#include "cpu/local_apic.h"
#include "cpu/time_stamps.h"
#include "cpu/translator/code_pages.h"
#include "cpu/translator/decode_cache.h"
#include "cpu/translator/decoded.h"
#include "cpu/translator/mmu.h"
#include "cpu/translator/physical_memory.h"
#include "cpu/translator/registers.h"
#include "cpu/translator/state.h"
#include "cpu/translator/thunks.h"
#include "cpu/translator/tier1.h"

namespace bygone::cpu::translator {

/// Thrown inside the interpreter only: block.fault is to be delivered.
struct GuestFault {};
/// Thrown inside the interpreter only: Core::exit() is to be answered by the machine first.
struct ExitPending {};

enum class StepResult : std::uint8_t {
  kDone,  ///< an instruction retired, or its fault was delivered
  kExit,  ///< Core::exit() holds why
};

/// What processors of a partition share.
struct Shared {
  const PhysicalMemory* physical = nullptr;
  CodePages* code_pages = nullptr;
  const CpuidTable* cpuid = nullptr;
  LocalApicSet* apics = nullptr;
  std::uint64_t tsc_frequency = 0;
  DirtyPages* dirty_pages = nullptr;  ///< may be null
  TimeStampOffsets* time_stamps = nullptr;  ///< of the restores; may be null
};

class Witness;

class Core {
 public:
  Core(VpIndex index, const Shared& shared, std::unique_ptr<VcpuBlock> block);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // ---- for the engine's run loop (core_run.cpp) ----
  void run_until_exit();
  /// Runs one instruction in the interpreter.
  StepResult step();
  /// Takes the machine's answer to the last exit. run_until_exit() does it itself.
  void complete_exit();
  [[nodiscard]] bool has_pending_exit() const { return exit_pending_; }
  [[nodiscard]] Exit& exit() { return exit_; }
  /// Completes the last exit and the instruction that it came from; false when that asks for another exit.
  [[nodiscard]] bool finish_exit();
  /// Drops a pending exit: its instruction has not happened.
  void abandon_exit() {
    exit_pending_ = false;
    commit_accesses();
  }
  /// INIT and start-up messages that have come: they take effect before the next instruction, or before the state is read.
  void serve_start_signals();
  void set_start_up_vector(std::uint8_t vector) { block_->start_up_vector = vector; }
  void set_tier1(std::unique_ptr<Tier1> tier1);
  [[nodiscard]] Tier1* tier1() { return tier1_.get(); }
  /// Somebody who looks on from now on; outlives the core's running. Its tier runs one block at a time.
  void set_witness(Witness& witness) { witness_ = &witness; }
  /// ZydisMnemonic of what the interpreter ran last, kept for a witness.
  [[nodiscard]] std::uint16_t last_mnemonic() const { return last_mnemonic_; }
  /// Sets an attention bit and wakes a halted processor. Threading: any thread.
  void attract(std::uint32_t attention);
  void reset(bool is_init);
  /// Delivers block.fault, or what comes of it (#DF, triple fault). For tier 1's faults too.
  void deliver_fault();
  void set_breakpoints(std::unordered_set<std::uint64_t> addresses, bool single_step);
  void level_eoi(std::uint8_t vector);

  VcpuBlock& block() { return *block_; }
  [[nodiscard]] VpIndex index() const { return index_; }
  [[nodiscard]] LocalApic* apic() { return apic_; }
  [[nodiscard]] const Shared& shared() const { return shared_; }
  [[nodiscard]] std::uint64_t guest_tsc() const;
  [[nodiscard]] Thunks& thunks() { return thunks_; }
  /// Host time-stamp cycles spent waiting in a halt.
  [[nodiscard]] std::uint64_t halted_cycles() const { return halted_cycles_; }

  // ---- state that instruction handlers use ----
  [[nodiscard]] std::uint64_t next_rip() const { return next_rip_; }
  void set_next_rip(std::uint64_t rip) { next_rip_ = rip; }

  [[nodiscard]] bool in_long_mode() const { return (block_->efer & efer::kLma) != 0; }
  [[nodiscard]] bool is_64() const { return (block_->mode & kModeCodeWidthMask) == kModeCode64; }
  [[nodiscard]] bool is_protected() const { return (block_->cr0 & cr0::kPe) != 0; }
  [[nodiscard]] bool is_virtual_8086() const { return (block_->rflags & rflags::kVm) != 0; }
  [[nodiscard]] bool is_real() const { return !is_protected(); }
  [[nodiscard]] std::uint64_t& gpr(unsigned number) { return block_->gpr[number]; }
  [[nodiscard]] std::uint64_t& gpr(Gpr which) { return block_->gpr[static_cast<std::size_t>(which)]; }
  [[nodiscard]] Segment& segment(SegmentName which) { return block_->segments[static_cast<std::size_t>(which)]; }

  /// Register `number` (| kHighByte) of `size` bytes.
  [[nodiscard]] std::uint64_t read_register(std::uint8_t number, std::uint8_t size) const {
    const std::uint64_t value = block_->gpr[number & 15U];
    switch (size) {
      case 1: return (number & kHighByte) != 0 ? (value >> 8) & 0xFF : value & 0xFF;
      case 2: return value & 0xFFFF;
      case 4: return value & 0xFFFF'FFFF;
      default: return value;
    }
  }
  void write_register(std::uint8_t number, std::uint8_t size, std::uint64_t value) {
    std::uint64_t& place = block_->gpr[number & 15U];
    switch (size) {
      case 1:
        place = (number & kHighByte) != 0 ? (place & ~std::uint64_t{0xFF00}) | ((value & 0xFF) << 8)
                                          : (place & ~std::uint64_t{0xFF}) | (value & 0xFF);
        break;
      case 2: place = (place & ~std::uint64_t{0xFFFF}) | (value & 0xFFFF); break;
      case 4: place = value & 0xFFFF'FFFF; break;
      default: place = value; break;
    }
  }

  // ---- faults ----
  [[noreturn]] void raise(std::uint8_t vector);
  [[noreturn]] void raise(std::uint8_t vector, std::uint32_t error_code);
  [[noreturn]] void raise_gp(std::uint32_t error_code = 0) { raise(vector::kGp, error_code); }
  [[noreturn]] void raise_ud() { raise(vector::kUd); }
  /// Leaves the instruction with exit(), to be run again once it is answered.
  [[noreturn]] void leave() { throw ExitPending{}; }

  // ---- memory (core_memory.cpp) ----
  /// The memory operand's offset in its segment.
  [[nodiscard]] std::uint64_t effective_offset(const Decoded& decoded) const {
    std::uint64_t offset = static_cast<std::uint64_t>(decoded.displacement);
    if (decoded.base < 16) {
      offset += block_->gpr[decoded.base];
    } else if (decoded.base == kBaseRip) {
      offset += next_rip_;
    }
    if (decoded.index != kNoRegister) offset += block_->gpr[decoded.index] * decoded.scale;
    if (decoded.address_size == 4) return offset & 0xFFFF'FFFF;
    if (decoded.address_size == 2) return offset & 0xFFFF;
    return offset;
  }
  /// Segment base, limit and rights applied.
  [[nodiscard]] std::uint64_t linear_address(unsigned segment, std::uint64_t offset, std::uint32_t size, Access access) {
    if (is_64()) {
      if (segment >= 4) return offset + block_->segments[segment].base;
      if (segment == 2 && static_cast<std::uint64_t>((static_cast<std::int64_t>(offset) >> 47) + 1) > 1) raise(vector::kSs, 0);
      return offset;
    }
    if ((block_->mode & kModeFlat) != 0 && segment < 4 && (segment != 1 || access == Access::kRead)) {
      return offset & 0xFFFF'FFFF;
    }
    return checked_linear(segment, offset, size, access);
  }
  [[nodiscard]] std::uint64_t memory_operand(const Decoded& decoded, std::uint32_t size, Access access) {
    return linear_address(decoded.segment, effective_offset(decoded), size, access);
  }

  template <typename T>
  [[nodiscard]] T read(std::uint64_t linear) {
    return read_in<T>(linear, block_->tlb_context);
  }
  template <typename T>
  void write(std::uint64_t linear, T value) {
    write_in<T>(linear, value, block_->tlb_context);
  }
  /// Implicit supervisor accesses: descriptor tables, task state, page-independent of CPL.
  template <typename T>
  [[nodiscard]] T read_system(std::uint64_t linear) {
    return read_in<T>(linear, kTlbSupervisor);
  }
  template <typename T>
  void write_system(std::uint64_t linear, T value) {
    write_in<T>(linear, value, kTlbSupervisor);
  }
  template <typename T>
  [[nodiscard]] T read_in(std::uint64_t linear, std::uint32_t context) {
    const TlbEntry& entry = block_->tlb.contexts[context].entries[tlb_index(linear)];
    if (linear - entry.read_tag <= 4096 - sizeof(T)) [[likely]] {
      T value;
      std::memcpy(&value, entry.host + (linear - entry.read_tag), sizeof value);
      return value;
    }
    T value = {};
    read_bytes(linear, &value, sizeof value, context);
    return value;
  }
  template <typename T>
  void write_in(std::uint64_t linear, T value, std::uint32_t context) {
    const TlbEntry& entry = block_->tlb.contexts[context].entries[tlb_index(linear)];
    if (linear - entry.write_tag <= 4096 - sizeof(T)) [[likely]] {
      std::memcpy(entry.host + (linear - entry.write_tag), &value, sizeof value);
      return;
    }
    write_bytes(linear, &value, sizeof value, context);
  }
  /// `size` 1, 2, 4 or 8.
  [[nodiscard]] std::uint64_t read_sized(std::uint64_t linear, std::uint8_t size) {
    switch (size) {
      case 1: return read<std::uint8_t>(linear);
      case 2: return read<std::uint16_t>(linear);
      case 4: return read<std::uint32_t>(linear);
      default: return read<std::uint64_t>(linear);
    }
  }
  void write_sized(std::uint64_t linear, std::uint64_t value, std::uint8_t size) {
    switch (size) {
      case 1: write(linear, static_cast<std::uint8_t>(value)); break;
      case 2: write(linear, static_cast<std::uint16_t>(value)); break;
      case 4: write(linear, static_cast<std::uint32_t>(value)); break;
      default: write(linear, value); break;
    }
  }
  /// Any length up to two pages; faults before anything is transferred.
  void read_bytes(std::uint64_t linear, void* into, std::uint32_t size, std::uint32_t context);
  void write_bytes(std::uint64_t linear, const void* from, std::uint32_t size, std::uint32_t context);
  void read_bytes(std::uint64_t linear, void* into, std::uint32_t size) { read_bytes(linear, into, size, block_->tlb_context); }
  void write_bytes(std::uint64_t linear, const void* from, std::uint32_t size) {
    write_bytes(linear, from, size, block_->tlb_context);
  }
  /// Faults if a write of [linear, linear + size) would.
  void probe_write(std::uint64_t linear, std::uint32_t size, std::uint32_t context);
  /// The host address of [linear, linear + size) when it lies in one page of RAM without cached code (for writes); null: go by
  /// read_bytes and write_bytes. Faults like the access.
  [[nodiscard]] std::uint8_t* host_pointer(std::uint64_t linear, std::uint32_t size, Access access);

  /// Runs a native instruction in place on RAM that holds cached code; false when the operand is not that.
  [[nodiscard]] bool run_on_code_page(std::uint64_t linear, std::uint32_t size, const Decoded& decoded);

  /// An interpreter's private buffer for native instructions whose operand is not plainly in RAM.
  alignas(64) std::array<std::uint8_t, 1024> scratch = {};

  // ---- ports (core_memory.cpp) ----
  [[nodiscard]] std::uint32_t port_read(std::uint16_t port, std::uint8_t size);
  void port_write(std::uint16_t port, std::uint8_t size, std::uint32_t value);
  /// #GP unless IOPL or the task's bitmap allow it.
  void check_port(std::uint16_t port, std::uint8_t size);
  /// Forgets recorded answers: an element of a string instruction is complete.
  void commit_accesses() { answers_count_ = answers_used_ = 0; }

  // ---- stack ----
  [[nodiscard]] std::uint64_t stack_mask() const {
    if (is_64()) return ~std::uint64_t{0};
    return (block_->mode & kModeStack32) != 0 ? 0xFFFF'FFFF : 0xFFFF;
  }
  void set_stack_pointer(std::uint64_t value) {
    const std::uint64_t mask = stack_mask();
    std::uint64_t& rsp = block_->gpr[4];
    rsp = mask == 0xFFFF ? (rsp & ~mask) | (value & mask) : value & mask;
  }
  void push(std::uint64_t value, std::uint8_t size);
  /// Does not move the stack pointer: the value `depth` bytes above it.
  [[nodiscard]] std::uint64_t peek(std::uint64_t depth, std::uint8_t size);
  [[nodiscard]] std::uint64_t pop(std::uint8_t size);

  // ---- flags ----
  void set_flags(std::uint64_t mask, std::uint64_t value) { block_->rflags = (block_->rflags & ~mask) | (value & mask); }
  [[nodiscard]] bool condition(std::uint8_t code) const;
  /// Writes RFLAGS under `mask` and recomputes what depends on TF, AC and VM.
  void write_rflags(std::uint64_t value, std::uint64_t mask);

  // ---- control transfer, segments, exceptions (core_segments.cpp, core_exceptions.cpp) ----
  void jump_near(std::uint64_t target, std::uint8_t operand_size);
  struct Descriptor {
    std::uint64_t base = 0;
    std::uint32_t limit = 0;
    std::uint32_t attributes = 0;  ///< as in Segment
    std::uint64_t table_address = 0;
    std::uint64_t raw = 0;         ///< low eight bytes
    std::uint32_t high = 0;        ///< base 63-32 of 16-byte system descriptors
    [[nodiscard]] unsigned type() const { return attributes & 0xF; }
    [[nodiscard]] bool is_system() const { return (attributes & 0x10) == 0; }
    [[nodiscard]] unsigned dpl() const { return (attributes >> 5) & 3; }
    [[nodiscard]] bool present() const { return (attributes & kSegmentPresent) != 0; }
    [[nodiscard]] bool is_code() const { return (attributes & 0x18) == 0x18; }
    [[nodiscard]] bool conforming() const { return (attributes & 4) != 0; }
    [[nodiscard]] bool writable_data() const { return (attributes & 0x1A) == 0x12; }
  };
  /// Reads a descriptor; #GP(selector) or `vector` when it is outside of its table.
  [[nodiscard]] Descriptor read_descriptor(std::uint16_t selector, std::uint8_t vector = vector::kGp);
  [[nodiscard]] bool try_read_descriptor(std::uint16_t selector, Descriptor& descriptor);
  void load_segment(SegmentName which, std::uint16_t selector);
  void load_stack_segment(std::uint16_t selector, unsigned cpl, std::uint8_t vector);
  void load_code_segment(std::uint16_t selector, const Descriptor& descriptor, unsigned cpl);
  void load_task(std::uint16_t selector);
  void load_local_descriptor_table(std::uint16_t selector);
  void mark_accessed(const Descriptor& descriptor);
  void far_jump(std::uint16_t selector, std::uint64_t offset, std::uint8_t operand_size, bool is_call);
  void far_return(std::uint8_t operand_size, std::uint16_t release);
  void interrupt_return(std::uint8_t operand_size);
  enum class TaskSwitch : std::uint8_t { kJump, kCall, kReturn, kEvent };
  /// To the task that `selector` names; the old one goes on at `rip` some day (core_tasks.cpp).
  void switch_task(std::uint16_t selector, TaskSwitch kind, std::uint64_t rip, std::optional<std::uint32_t> error_code, std::uint32_t external);
  void set_cpl(unsigned cpl);

  enum class EventKind : std::uint8_t { kExternal, kException, kSoftware, kNmi };
  /// Delivers through the IDT or IVT. Throws GuestFault when delivery itself faults.
  void deliver_event(EventKind kind, std::uint8_t vector, bool has_error_code, std::uint32_t error_code, std::uint64_t return_rip);
  void software_interrupt(std::uint8_t vector, bool is_int_n);
  /// The same, and what comes of a fault in it.
  void take_event(EventKind kind, std::uint8_t vector);

  // ---- system registers (core_system.cpp, core_msr.cpp) ----
  void write_cr0(std::uint64_t value);
  void write_cr3(std::uint64_t value);
  void write_cr4(std::uint64_t value);
  [[nodiscard]] std::uint64_t read_msr(std::uint32_t index);
  void write_msr(std::uint32_t index, std::uint64_t value);
  /// The engine's own registers, without exits; false: not one of them. `host` writes skip guest checks.
  [[nodiscard]] bool get_own_msr(std::uint32_t index, std::uint64_t& value);
  [[nodiscard]] bool set_own_msr(std::uint32_t index, std::uint64_t value);
  [[nodiscard]] CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf);
  void halt();
  void hypercall();

  /// Makes the fetch look at page, version and mode again.
  void forget_fetch() { fetch_host_ = nullptr; }

 private:
  friend struct CoreTestAccess;
  struct Answer {
    std::uint64_t value = 0;
  };
  [[nodiscard]] const Decoded& fetch();
  [[nodiscard]] const Decoded& fetch_slow(std::uint64_t linear);
  [[nodiscard]] std::uint64_t checked_linear(unsigned segment, std::uint64_t offset, std::uint32_t size, Access access);
  [[nodiscard]] std::uint64_t mmio_read(std::uint64_t physical, std::uint32_t size);
  void mmio_write(std::uint64_t physical, std::uint64_t value, std::uint32_t size);
  void copy_in(const MmuResult& place, std::uint8_t* into, std::uint32_t size);
  void copy_out(const MmuResult& place, const std::uint8_t* from, std::uint32_t size);
  void watch(std::uint64_t linear, std::uint32_t size, Access access);
  [[nodiscard]] MmuResult look(std::uint64_t linear, Access access, std::uint32_t context);
  /// True when the loop must return with exit().
  bool serve_attention();
  enum class Until : std::uint8_t { kCount, kTransfer };
  /// At most `count` instructions; fewer when somebody wants the processor, it halts, faults or leaves.
  void interpret(std::uint32_t count, Until until);
  void execute_one();
  void deliver_interrupts();
  void run_tier();
  void run_before_witness();
  void interpret_one();
  void wait_while_halted();
  void before_slow_instruction();
  void after_slow_instruction(bool trap_flag_before);
  void deliver_event_long(EventKind kind, std::uint8_t vector, bool has_error_code, std::uint32_t error_code, std::uint64_t rip);
  void deliver_event_protected(EventKind kind, std::uint8_t vector, bool has_error_code, std::uint32_t error_code,
                               std::uint64_t rip);
  void deliver_event_real(std::uint8_t vector, std::uint64_t rip);
  void interrupt_return_long(std::uint8_t operand_size);
  void interrupt_return_protected(std::uint8_t operand_size);
  void task_stack(unsigned cpl, std::uint16_t& selector, std::uint64_t& pointer);
  void shut_down();
  [[nodiscard]] std::uint64_t read_task_field(std::uint64_t at, std::uint8_t size);
  void write_task_field(std::uint64_t at, std::uint8_t size, std::uint64_t value);
  void set_task_busy(const Descriptor& descriptor, bool busy);
  void save_task(std::uint64_t rip, std::uint64_t flags);
  [[nodiscard]] Descriptor read_task(std::uint16_t selector, TaskSwitch kind, std::uint32_t external);
  void load_task_segments(std::uint16_t ldt, const std::array<std::uint16_t, 6>& selectors);
  void return_from_task();
  void enter_task_gate(const Descriptor& gate, std::uint16_t selector, TaskSwitch kind);

  VpIndex index_;
  Shared shared_;
  std::unique_ptr<VcpuBlock> block_;
  LocalApic* apic_ = nullptr;
  std::unique_ptr<Tier1> tier1_;
  Witness* witness_ = nullptr;
  Thunks thunks_;
  DecodeCache decode_cache_;

  std::uint64_t next_rip_ = 0;
  // Where fetch() found its last page.
  const std::uint8_t* fetch_host_ = nullptr;  ///< host page
  std::uint64_t fetch_ram_page_ = 0;
  const std::atomic<std::uint32_t>* fetch_version_ = nullptr;
  std::uint32_t fetch_reading_ = 0;
  std::uint16_t last_mnemonic_ = 0;
  Decoded uncached_;

  Exit exit_;
  std::array<Answer, 16> answers_ = {};
  std::uint32_t answers_count_ = 0;
  std::uint32_t answers_used_ = 0;
  std::array<std::byte, 8> port_data_ = {};

  std::uint64_t halted_cycles_ = 0;
  std::unordered_set<std::uint64_t> breakpoints_;
  std::uint64_t watch_hits_ = 0;  ///< DR6 bits of data breakpoints that the present instruction touched
  bool exit_pending_ = false;
  std::atomic<bool> sleeping_ = false;
  bool single_step_ = false;
  bool skip_breakpoint_ = false;

  std::mutex wake_mutex_;
  std::condition_variable wake_;
  std::mutex eoi_mutex_;
  std::vector<std::uint8_t> eoi_vectors_;
};

/// Told of everything that a core does, to compare it with what should be done (lockstep.h). On the vCPU's thread.
class Witness {
 public:
  virtual ~Witness() = default;
  /// The machine let the processor go on; it may have changed registers.
  virtual void entered(Core& core) = 0;
  /// A translation was left; `whole`: it ran to an exit of its own, at least one instruction.
  virtual void ran_block(Core& core, bool whole) = 0;
  /// The instruction at rip is about to fault; interpreted() follows.
  virtual void will_fault(Core& core) = 0;
  /// One instruction was interpreted, its fault delivered; `was_answered`: by the machine.
  virtual void interpreted(Core& core, bool was_answered) = 0;
  /// Before and after an interrupt.
  virtual void will_deliver(Core& core) = 0;
  virtual void deliver(Core& core, Core::EventKind kind, std::uint8_t vector) = 0;
  /// The machine refused what an instruction asked for: block.fault is about to be delivered.
  virtual void exit_faulted(Core& core) = 0;
  /// What is wrong; empty: nothing.
  [[nodiscard]] virtual const std::string& divergence() const = 0;
};

}  // namespace bygone::cpu::translator
