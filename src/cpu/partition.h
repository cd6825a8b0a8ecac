// A partition: the processors of one machine on one engine, over one guest memory.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/cpuid.h"
#include "cpu/facilities.h"
#include "cpu/interrupt.h"
#include "cpu/local_apic.h"
#include "cpu/vcpu.h"
#include "memory/guest_memory.h"
#include "memory/page_set.h"
#include "support/log.h"

namespace bygone::cpu {

/// Ports where a write of one byte need not be seen at once: nothing comes of it that the guest could notice before its next exit.
struct PostedPorts {
  std::vector<std::uint16_t> ports;
  /// Takes such a write. Any thread, one call at a time; not for long, and without waiting for a processor.
  std::function<void(PortExit&)> deliver;
};

struct PartitionOptions {
  memory::GuestMemory* memory = nullptr;  ///< all RAM is added before; outlives the partition
  std::uint32_t vcpu_count = 1;           ///< 1-64
  CpuidTable cpuid;
  LocalApicFactory local_apics;           ///< used by engines without APICs of their own
  std::uint64_t code_cache_bytes = 128ULL << 20;  ///< bound of translated code, for engines that translate
  /// An engine may gather these writes instead of returning a PortExit for each. It delivers them in the order they were made,
  /// before it returns any processor's exit that came after them, and within some 10 ms in any case.
  PostedPorts posted;
  FacilitySet facilities;                 ///< of Engine::facilities(): what the engine shall do for the hypervisor
  Log log;
};

/// Threading: every call from any thread unless it says otherwise. Destroy only when no vCPU is running.
class Partition {
 public:
  virtual ~Partition() = default;
  [[nodiscard]] virtual Vcpu& vcpu(VpIndex index) = 0;

  /// Sends an interrupt message: from the I/O APIC, an MSI, an IPI hypercall.
  virtual void request_interrupt(const InterruptRequest& request) = 0;
  /// Raises a fixed edge interrupt on one processor, as SynIC does. With `auto_eoi` the in-service bit is not set; engines
  /// that cannot do that say so by supports_auto_eoi() and the guest is told not to use it.
  virtual void request_synic_interrupt(VpIndex vp, std::uint8_t vector, bool auto_eoi) = 0;
  [[nodiscard]] virtual bool supports_auto_eoi() const = 0;

  /// The guest's TSC rate in Hz, constant for the machine's life, and the local APIC timer's bus rate in Hz.
  [[nodiscard]] virtual std::uint64_t tsc_frequency() const = 0;
  [[nodiscard]] virtual std::uint64_t apic_timer_frequency() const = 0;
  /// The guest's TSC of processor 0 now.
  [[nodiscard]] virtual std::uint64_t guest_tsc() const = 0;

  /// Guest code for the hypercall page that leaves the guest with a HypercallExit on this engine, from any CPU mode, and
  /// returns. At most 64 bytes.
  [[nodiscard]] virtual std::vector<std::byte> hypercall_code() const = 0;

  /// Drops cached translations of all processors (TLB) as a TLB-flush hypercall asks. Returns when no processor uses an old one.
  virtual void flush_tlbs(std::span<const VpIndex> vps) = 0;

  /// Notes from now on which pages are written by guest code and by the engine for it; writes by the host are known to
  /// GuestMemory's observers. Slows guests down; one log at a time. Errors: the engine's.
  [[nodiscard]] virtual Result<void> start_dirty_log() = 0;
  virtual void stop_dirty_log() = 0;
  /// Adds the pages written since the start or the last call to `pages`. Bytes read after it returns are in a page that it gave
  /// or are still as they were. The guest may run meanwhile. Not from a vCPU's thread. Errors: the engine's.
  [[nodiscard]] virtual Result<void> take_dirty_pages(memory::PageSet& pages) = 0;

  /// The facilities that were handed over; null when there are none.
  [[nodiscard]] virtual HypervisorFacilities* facilities() { return nullptr; }

  /// A tree of live numbers for `bygone inspect`: JSON text.
  [[nodiscard]] virtual std::string inspect() const = 0;
};

/// Whether an engine can serve a guest here, and why (not). One sentence for people.
struct EngineStatus {
  bool is_usable = false;
  double million_instructions_per_second = 0;  ///< of a ring-0 loop; 0 when not measured
  std::string reason;
  std::string hint;
};

class Engine {
 public:
  virtual ~Engine() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;  ///< "kvm", "software"
  [[nodiscard]] virtual EngineStatus probe() = 0;
  /// Whether Partition::flush_tlbs() works. Where it does not, guests must not be told to ask for it.
  [[nodiscard]] virtual bool can_flush_tlbs() const { return true; }
  /// Whether guests end interrupts in their APIC without leaving the guest, or as cheaply as any other way.
  [[nodiscard]] virtual bool has_cheap_apic() const { return true; }
  /// What this engine can do for the hypervisor. A partition gets what its options name of them.
  [[nodiscard]] virtual FacilitySet facilities() { return {}; }
  /// The CPUID features this engine can give a guest, before the machine's own leaves are put in.
  [[nodiscard]] virtual Result<CpuidTable> supported_cpuid() = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<Partition>> create_partition(PartitionOptions options) = 0;
};

}  // namespace bygone::cpu
