// Runs one test guest on one engine: loads the image, enters it as its header asks, a thread a processor, ends in time.
// Threading: run_guest() from any thread; it returns when all its threads have ended.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "cpu/partition.h"
#include "support/result.h"

namespace bygone::guest_tests {

struct GuestOutcome {
  bool has_passed = false;
  std::string text;    ///< what the guest printed
  std::string reason;  ///< why it did not pass
  std::uint32_t moves = 0;  ///< how often it changed engines
  bool names_registers = false;                    ///< the image's source says what `registers` shall be
  std::map<std::string, std::uint64_t> registers;  ///< of the first processor, by their names in lower case, where the run ended
  std::chrono::milliseconds slowest_stop{0};  ///< of all its processors, for a move
};

struct RunOptions {
  std::chrono::seconds limit{60};
  bool is_emulated_processor = false;  ///< what KVM runs on is an emulator with defects that the guests know
  /// The guest is moved between the engine and this one, back and forth, while it runs; null: it stays.
  cpu::Engine* other_engine = nullptr;
  cpu::FacilitySet facilities;  ///< what the engine does for the hypervisor, where it can
  cpu::LocalApicFactory local_apics;
  Log log;
};

/// Errors: the image is none, or the engine refuses the machine.
[[nodiscard]] Result<GuestOutcome> run_guest(cpu::Engine& engine, const std::vector<std::byte>& image,
                                             const RunOptions& options);

}  // namespace bygone::guest_tests
