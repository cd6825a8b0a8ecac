// Senders on threads of their own against one processor that accepts: no vector that was sent last may stay unseen.
#include "chipset/local_apic/local_apic.h"

#include <gtest/gtest.h>

#include <thread>

#include "support/timer_service.h"

namespace bygone::chipset {
namespace {

using cpu::VpIndex;

class CountingHost final : public cpu::LocalApicHost {
 public:
  void notify(VpIndex) override { notified.store(true); }
  void deliver_nmi(VpIndex) override {}
  void deliver_init(VpIndex) override {}
  void deliver_start_up(VpIndex, std::uint8_t) override {}
  [[nodiscard]] std::uint64_t guest_tsc(VpIndex) const override { return 0; }
  [[nodiscard]] std::uint64_t guest_tsc_frequency() const override { return 1'000'000'000; }
  void level_eoi(std::uint8_t) override {}
  std::atomic<bool> notified = false;
};

TEST(LocalApicStress, processor_that_looks_only_when_told_misses_nothing) {
  constexpr int kSenders = 2;
  constexpr std::uint32_t kRounds = 10'000;
  ThreadTimerService timers;
  CountingHost host;
  LocalApicModelSet set(host, timers, 1);
  LocalApicModel& apic = set.at({0});
  apic.write_register(0xF0, 0x1FF);

  std::array<std::atomic<std::uint32_t>, kSenders> sent = {};
  std::array<std::uint32_t, kSenders> seen = {};
  std::atomic<int> finished = 0;
  std::vector<std::thread> senders;
  senders.reserve(kSenders);
  for (int s = 0; s < kSenders; ++s) {
    senders.emplace_back([&, s] {
      for (std::uint32_t i = 1; i <= kRounds; ++i) {
        sent[static_cast<std::size_t>(s)] = i;
        set.request({.vector = static_cast<std::uint8_t>(0x40 + s * 0x20), .destination = 0});
      }
      ++finished;
    });
  }
  for (;;) {
    const bool all_sent = finished == kSenders;
    if (!host.notified.exchange(false)) {
      if (all_sent) break;
      std::this_thread::yield();
      continue;
    }
    while (const auto vector = apic.acknowledge()) {
      const auto sender = static_cast<std::size_t>((*vector - 0x40) / 0x20);
      ASSERT_LT(sender, seen.size());
      seen[sender] = sent[sender];
      apic.write_register(0xB0, 0);
    }
  }
  for (std::thread& sender : senders) sender.join();
  for (const std::uint32_t last : seen) EXPECT_EQ(last, kRounds);
}

}  // namespace
}  // namespace bygone::chipset
