// Parts of the hypervisor interface (TLFS) that an engine may be able to serve itself, close to the guest, so that the guest
// need not be left for them. The hypervisor in src/hyperv implements all of them; it hands over those that the machine wants
// and the engine has, and keeps telling the engine what the guest configured. What is not handed over works as before.
//
// The hypervisor stays the owner of the configuration: registers that place pages or route interrupts come to it, and it
// repeats them to the engine. Only what is asked often (time, timers' counts, the processor's index) is answered inside.
//
// Threading: FacilitySet is a value; HypervisorFacilities as each call says.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/state.h"
#include "support/result.h"

namespace bygone {
class EventLoop;
}

namespace bygone::cpu {

enum class Facility : std::uint8_t {
  kSynic,          ///< raises synthetic interrupts by source; sources that end their interrupts themselves work
  kReferenceTime,  ///< answers the reference counter, writes the reference TSC page
  kTimers,         ///< keeps the synthetic timers; needs kSynic and kReferenceTime
  kVpIndex,        ///< answers the processor's index
  kHypercalls,     ///< flushes TLBs and sends IPIs by hypercall; messages and events leave the guest as ever; needs kSynic
  kEventSignals,   ///< takes the event hypercalls of connections with a doorbell; needs kHypercalls
  kApicRegisters,  ///< answers the APIC's registers (EOI, ICR, TPR) and lets guests end interrupts in their assist page
};

class FacilitySet {
 public:
  constexpr FacilitySet() = default;
  [[nodiscard]] static FacilitySet all();
  /// "all", "none", or names with commas, such as "synic,reference-time,timers". Errors: kNotFound with the names there are.
  [[nodiscard]] static Result<FacilitySet> parse(std::string_view text);

  [[nodiscard]] constexpr bool has(Facility facility) const { return (bits_ >> static_cast<unsigned>(facility) & 1U) != 0; }
  [[nodiscard]] constexpr bool empty() const { return bits_ == 0; }
  constexpr FacilitySet& add(Facility facility) {
    bits_ |= 1U << static_cast<unsigned>(facility);
    return *this;
  }
  constexpr FacilitySet& remove(Facility facility) {
    bits_ &= ~(1U << static_cast<unsigned>(facility));
    return *this;
  }
  [[nodiscard]] constexpr FacilitySet operator&(FacilitySet other) const {
    FacilitySet both;
    both.bits_ = bits_ & other.bits_;
    return both;
  }
  /// Without those that lack another that they need.
  [[nodiscard]] FacilitySet consistent() const;
  [[nodiscard]] std::vector<std::string_view> names() const;
  /// The names with commas, or "none".
  [[nodiscard]] std::string text() const;
  friend constexpr bool operator==(FacilitySet, FacilitySet) = default;

 private:
  std::uint32_t bits_ = 0;
};

/// A partition's handed-over facilities. Register numbers and values are those of the TLFS.
class HypervisorFacilities {
 public:
  virtual ~HypervisorFacilities() = default;
  [[nodiscard]] virtual FacilitySet active() const = 0;

  /// The guest configured this register, or a restored machine has it so. Any thread: a processor that runs stops for it. Errors: kUnsupported (the engine refuses the value).
  [[nodiscard]] virtual Result<void> set_register(VpIndex vp, std::uint32_t index, std::uint64_t value) = 0;
  /// What the engine holds; for registers that the guest reaches inside. Threading: as set_register().
  [[nodiscard]] virtual Result<std::uint64_t> get_register(VpIndex vp, std::uint32_t index) = 0;

  /// kSynic: raises what the source's register says. Any thread.
  virtual void raise(VpIndex vp, std::uint8_t source) = 0;
  /// kTimers in message mode write into the guest's message page on their own. While an Exclusion for a processor lives, that
  /// processor runs no guest code and its timers write nothing. Any thread; short.
  virtual void hold(VpIndex vp) = 0;
  virtual void release(VpIndex vp) = 0;

  /// kReferenceTime: the counter now, in 100 ns. Any thread.
  [[nodiscard]] virtual std::uint64_t reference_time() const = 0;
  /// Goes on from `time`. While no guest code runs.
  [[nodiscard]] virtual Result<void> set_reference_time(std::uint64_t time) = 0;

  /// kEventSignals: calls `handler` soon, on `loop` (null: on a thread of the engine's), when the guest signals flag 0 of this
  /// connection. Signals that come together may be one call. disconnect returns only when no handler is running. Any thread but a
  /// handler's.
  [[nodiscard]] virtual Result<void> connect_event(std::uint32_t connection_id, std::function<void()> handler, EventLoop* loop) = 0;
  virtual void disconnect_event(std::uint32_t connection_id) = 0;
};

/// Holds a processor for as long as it lives; null facilities: does nothing.
class Exclusion {
 public:
  Exclusion(HypervisorFacilities* facilities, VpIndex vp) : facilities_(facilities), vp_(vp) {
    if (facilities_ != nullptr) facilities_->hold(vp_);
  }
  ~Exclusion() {
    if (facilities_ != nullptr) facilities_->release(vp_);
  }
  Exclusion(const Exclusion&) = delete;
  Exclusion& operator=(const Exclusion&) = delete;

 private:
  HypervisorFacilities* facilities_;
  VpIndex vp_;
};

}  // namespace bygone::cpu
