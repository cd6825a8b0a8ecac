// Dispatch of the guest's hypercalls (TLFS 3.7-3.9): the control word is checked, input is copied in once from memory or
// registers, the copy is checked, and the call is made.
//
// Threading: from any vCPU's thread; stateless but for counters.
#pragma once

#include <atomic>
#include <functional>

#include "cpu/exit.h"
#include "cpu/partition.h"
#include "hyperv/synic.h"
#include "spec/tlfs/hypercall.h"
#include "support/log.h"

namespace bygone::hyperv {

class Hypercalls {
 public:
  struct Options {
    std::uint32_t vp_count = 1;
    bool xmm_input = false;
  };
  /// `read_register` answers HvCallGetVpRegisters; nullopt: no such register.
  using ReadRegister = std::function<std::optional<std::uint64_t>(cpu::VpIndex, spec::tlfs::RegisterName)>;
  Hypercalls(memory::GuestMemory& memory, cpu::Partition& partition, Synic& synic, Options options, ReadRegister read_register,
             Log log);

  /// Answers into `call`.
  void handle(cpu::VpIndex vp, cpu::HypercallExit& call);
  [[nodiscard]] nlohmann::json inspect() const;

 private:
  struct Call;
  struct Description;
  using VpSet = std::uint64_t;  // a bit a processor

  [[nodiscard]] spec::tlfs::HvStatus dispatch(Call& call);
  [[nodiscard]] spec::tlfs::HvStatus check(const Call& call, const Description& description) const;
  [[nodiscard]] spec::tlfs::HvStatus read_input(Call& call, std::size_t offset, std::span<std::byte> into) const;
  template <typename T>
  [[nodiscard]] spec::tlfs::HvStatus read_object(Call& call, T& into) const {
    return read_input(call, 0, writable_bytes_of(into));
  }
  [[nodiscard]] spec::tlfs::HvStatus read_vp_set(Call& call, std::size_t offset, const spec::tlfs::VpSetHeader& header, VpSet& set) const;

  spec::tlfs::HvStatus flush(Call& call);
  spec::tlfs::HvStatus flush_ex(Call& call);
  spec::tlfs::HvStatus send_ipi(Call& call);
  spec::tlfs::HvStatus send_ipi_ex(Call& call);
  spec::tlfs::HvStatus notify_long_spin(Call& call);
  spec::tlfs::HvStatus post_message(Call& call);
  spec::tlfs::HvStatus signal_event(Call& call);
  spec::tlfs::HvStatus get_registers(Call& call);
  spec::tlfs::HvStatus set_registers(Call& call);

  void flush_processors(VpSet set);
  [[nodiscard]] spec::tlfs::HvStatus interrupt_processors(std::uint32_t vector, VpSet set);
  [[nodiscard]] VpSet all_processors() const;

  static const Description kTable[];
  memory::GuestMemory& memory_;
  cpu::Partition& partition_;
  Synic& synic_;
  Options options_;
  ReadRegister read_register_;
  Log log_;
  RateLimit unknown_limit_;
  std::array<std::atomic<std::uint64_t>, 16> counts_ = {};
  std::atomic<std::uint64_t> refused_ = 0;
};

}  // namespace bygone::hyperv
