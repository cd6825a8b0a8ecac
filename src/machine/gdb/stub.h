// What a debugger may ask and what it is told: GDB's remote protocol over an abstract machine ("Debugging with GDB", appendix E).
// Processors are threads, numbered from 1. All stop together. No I/O here: the server (server.h) moves the bytes.
// Threading: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "cpu/state.h"
#include "machine/gdb/packet.h"
#include "support/result.h"

namespace bygone::machine::gdb {

/// The machine as the stub needs it. State and memory are asked for only while it is stopped.
class Target {
 public:
  virtual ~Target() = default;
  [[nodiscard]] virtual std::uint32_t processor_count() const = 0;
  /// Returns when no processor runs.
  virtual void stop() = 0;
  /// All processors go on; or only one, by one instruction.
  virtual void go_on() = 0;
  virtual void step(cpu::VpIndex vp) = 0;
  [[nodiscard]] virtual Result<cpu::VcpuState> read_state(cpu::VpIndex vp) = 0;
  [[nodiscard]] virtual Result<void> write_state(cpu::VpIndex vp, const cpu::VcpuState& state) = 0;
  /// By the guest's virtual addresses, as `vp` sees them. Errors: kNotFound (not mapped).
  [[nodiscard]] virtual Result<std::string> read_memory(cpu::VpIndex vp, std::uint64_t address, std::size_t length) = 0;
  [[nodiscard]] virtual Result<void> write_memory(cpu::VpIndex vp, std::uint64_t address, std::string_view bytes) = 0;
  /// Errors: kExhausted (the engine takes no more).
  [[nodiscard]] virtual Result<void> set_breakpoints(const std::set<std::uint64_t>& addresses) = 0;
  /// The guest is to end, at once.
  virtual void kill() = 0;
};

class Stub {
 public:
  explicit Stub(Target& target) : target_(target) {}

  /// A debugger has connected: the machine stops.
  void connected();
  /// It has gone: its breakpoints go and the machine runs.
  void disconnected();
  /// Bytes from the debugger; what is to be sent back is appended to `out`.
  void receive(std::string_view bytes, std::string& out);
  /// The processor hit a breakpoint or ended its step; all stand.
  void stopped(cpu::VpIndex vp, std::string& out);
  [[nodiscard]] bool is_running() const { return is_running_; }
  /// The debugger has said goodbye.
  [[nodiscard]] bool is_done() const { return is_done_; }

 private:
  void handle(std::string_view packet, std::string& out);
  void send(std::string_view payload, std::string& out);
  [[nodiscard]] std::optional<std::string> query(std::string_view packet);
  [[nodiscard]] std::string describe_target(std::string_view annex_and_range) const;
  [[nodiscard]] std::string registers();
  [[nodiscard]] std::string set_registers(std::string_view digits);
  [[nodiscard]] std::string one_register(std::string_view number);
  [[nodiscard]] std::string set_one_register(std::string_view assignment);
  [[nodiscard]] std::string memory(std::string_view range);
  [[nodiscard]] std::string set_memory(std::string_view packet);
  [[nodiscard]] std::string breakpoint(std::string_view packet);
  [[nodiscard]] std::string select_thread(std::string_view packet);
  [[nodiscard]] std::string stop_reply() const;
  /// True: the machine goes on, and the answer comes when it stops.
  [[nodiscard]] bool resume(std::string_view actions);
  void step(cpu::VpIndex vp);
  void go_on();
  [[nodiscard]] std::optional<cpu::VpIndex> parse_thread(std::string_view digits) const;
  [[nodiscard]] Result<cpu::VcpuState*> state();

  Target& target_;
  PacketReader reader_;
  std::string last_sent_;
  bool is_running_ = false;
  bool is_done_ = false;
  bool acknowledges_ = true;
  int signal_ = 5;              // of the last stop: SIGTRAP, or SIGINT on request
  cpu::VpIndex stopped_at_;     // whose event it was
  cpu::VpIndex current_;        // whom registers and memory are asked of
  std::map<std::uint32_t, cpu::VcpuState> states_;  // read since the last stop
  std::set<std::uint64_t> breakpoints_;
};

}  // namespace bygone::machine::gdb
