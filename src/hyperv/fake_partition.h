// A partition for tests: notes what is asked of it; its TSC follows a clock at 2.5 GHz.
// Threading: one thread.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

#include "cpu/partition.h"
#include "support/clock.h"

namespace bygone::hyperv {

class FakePartition final : public cpu::Partition {
 public:
  explicit FakePartition(const Clock& clock) : clock_(clock) {}
  [[nodiscard]] cpu::Vcpu& vcpu(cpu::VpIndex) override { std::abort(); }
  void request_interrupt(const cpu::InterruptRequest& request) override {
    events += fmt::format("ipi{}:{:x} ", request.destination, request.vector);
  }
  void request_synic_interrupt(cpu::VpIndex vp, std::uint8_t vector, bool auto_eoi) override {
    events += fmt::format("int{}:{:x}{} ", vp.value, vector, auto_eoi ? "a" : "");
  }
  [[nodiscard]] bool supports_auto_eoi() const override { return has_auto_eoi; }
  [[nodiscard]] std::uint64_t tsc_frequency() const override { return 2'500'000'000; }
  [[nodiscard]] std::uint64_t apic_timer_frequency() const override { return cpu::kLocalApicTimerFrequency; }
  [[nodiscard]] std::uint64_t guest_tsc() const override { return tsc_base + static_cast<std::uint64_t>(clock_.now().count()) * 5 / 2; }
  [[nodiscard]] std::vector<std::byte> hypercall_code() const override {
    return {std::byte{0x0F}, std::byte{0x01}, std::byte{0xC1}, std::byte{0xC3}};
  }
  [[nodiscard]] Result<void> start_dirty_log() override { return {}; }
  void stop_dirty_log() override {}
  [[nodiscard]] Result<void> take_dirty_pages(memory::PageSet&) override { return {}; }
  void flush_tlbs(std::span<const cpu::VpIndex> vps) override {
    events += "flush:";
    for (const cpu::VpIndex vp : vps) events += fmt::format("{}", vp.value);
    events += " ";
  }
  [[nodiscard]] cpu::HypervisorFacilities* facilities() override { return engine; }
  [[nodiscard]] std::string inspect() const override { return "{}"; }

  std::string take() { return std::exchange(events, {}); }
  std::string events;
  bool has_auto_eoi = true;
  cpu::HypervisorFacilities* engine = nullptr;
  std::uint64_t tsc_base = 0;

 private:
  const Clock& clock_;
};

}  // namespace bygone::hyperv
