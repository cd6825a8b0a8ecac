// Interpreter and translator in lockstep: a second processor over a copy of the guest's RAM interprets what the first one has
// just run as a translation, block by block, and their whole states are compared. At the end the two RAMs are.
//
//   first:  translation of one block → left? → …       second:  step, step, … until it stands where the first one does
//   instructions that the first interprets are interpreted by the second; what they learn from outside (time, ports, registers
//   of the machine) is copied; interrupts are delivered to both; what the host writes into RAM goes into both.
//
// Arithmetic flags are not compared where a translation leaves: those that nobody reads are not kept. One that is read and
// wrong shows in what is made of it. The page tables' accessed bits may differ, as the two TLBs forget at different times.
//
// Threading: the vCPU's thread; host_wrote() from any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "cpu/translator/code_pages.h"
#include "cpu/translator/core.h"
#include "cpu/translator/physical_memory.h"
#include "memory/guest_memory.h"
#include "support/log.h"
#include "support/result.h"

namespace bygone::cpu::translator {

class Lockstep final : public Witness {
 public:
  /// `wanted`: after so many instructions RAM is compared and the log says how it went; it goes on after that.
  [[nodiscard]] static Result<std::unique_ptr<Lockstep>> create(memory::GuestMemory& memory, const CpuidTable& cpuid, std::uint64_t wanted,
                                                                const Log& log);

  void entered(Core& core) override;
  void ran_block(Core& core, bool whole) override;
  void will_fault(Core& core) override;
  void interpreted(Core& core, bool was_answered) override;
  void will_deliver(Core& core) override;
  void deliver(Core& core, Core::EventKind kind, std::uint8_t vector) override;
  void exit_faulted(Core& core) override;
  [[nodiscard]] const std::string& divergence() const override { return divergence_; }

  /// The host wrote into the guest's RAM.
  void host_wrote(memory::Gpa address, std::uint64_t length);

 private:
  Lockstep(memory::GuestMemory& memory, const CpuidTable& cpuid, std::uint64_t wanted, const Log& log);
  void copy_processor(Core& core);
  void copy_memory();
  /// Steps the second processor until it stands where `core` does.
  void follow(Core& core, unsigned least_steps);
  [[nodiscard]] bool finish_string(const VcpuBlock& first);
  void compare(Core& core, const char* after);
  void compare_memory();
  void differ(Core& core, const std::string& how);
  void note(char what, Core& core);

  memory::GuestMemory& memory_;
  memory::GuestMemory copy_;
  std::unique_ptr<PhysicalMemory> physical_;
  std::unique_ptr<CodePages> pages_;
  CpuidTable cpuid_;
  std::unique_ptr<Core> second_;
  Log log_;
  std::uint64_t wanted_ = 0;
  bool has_memory_ = false;
  bool is_done_ = false;
  std::uint64_t start_ = 0;                        ///< rip that the present translation began at
  std::uint64_t blocks_ = 0, instructions_ = 0, events_ = 0, copied_ = 0, raced_ = 0;
  std::atomic<std::uint64_t> host_writes_ = 0;
  std::uint64_t host_writes_seen_ = 0;
  std::string divergence_;
  /// What came last: b a whole translation, p a part of one, i an instruction interpreted, e an event; and the flags of both afterwards.
  struct Note {
    char what = ' ';
    std::uint64_t start = 0, first_flags = 0, second_flags = 0;
  };
  std::array<Note, 24> history_ = {};
  std::uint64_t noted_ = 0;
};

}  // namespace bygone::cpu::translator
