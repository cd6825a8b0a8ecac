// The message and event protocols with the guest and the host on threads of their own: nothing may be lost, doubled or
// reordered, and nobody may wait for ever.
#include "hyperv/synic.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <thread>

#include "spec/tlfs/messages.h"

namespace bygone::hyperv {
namespace {

using namespace std::chrono_literals;
using cpu::VpIndex;
using spec::tlfs::Msr;

constexpr std::uint8_t kSint = 2;
constexpr std::uint32_t kMessages = 5'000;
constexpr auto kPatience = 60s;  // a lost wake-up, not a slow host

/// Counts interrupts; the guest of this test polls.
class CountingPartition final : public cpu::Partition {
 public:
  [[nodiscard]] cpu::Vcpu& vcpu(VpIndex) override { std::abort(); }
  void request_interrupt(const cpu::InterruptRequest&) override {}
  void request_synic_interrupt(VpIndex, std::uint8_t, bool) override { interrupts.fetch_add(1); }
  [[nodiscard]] bool supports_auto_eoi() const override { return true; }
  [[nodiscard]] std::uint64_t tsc_frequency() const override { return 1'000'000'000; }
  [[nodiscard]] std::uint64_t apic_timer_frequency() const override { return 1'000'000'000; }
  [[nodiscard]] std::uint64_t guest_tsc() const override { return 0; }
  [[nodiscard]] std::vector<std::byte> hypercall_code() const override { return {}; }
  void flush_tlbs(std::span<const VpIndex>) override {}
  [[nodiscard]] Result<void> start_dirty_log() override { return {}; }
  void stop_dirty_log() override {}
  [[nodiscard]] Result<void> take_dirty_pages(memory::PageSet&) override { return {}; }
  [[nodiscard]] std::string inspect() const override { return "{}"; }
  std::atomic<std::uint64_t> interrupts = 0;
};

class SynicStressTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(memory_.add_ram({0}, 1 << 16));
    synic_ = std::make_unique<Synic>(memory_, partition_, 1);
    ASSERT_TRUE(synic_->write({0}, Msr::kMessagePage, 0x1001));
    ASSERT_TRUE(synic_->write({0}, Msr::kEventFlagsPage, 0x2001));
    ASSERT_TRUE(synic_->write({0}, static_cast<Msr>(static_cast<std::uint32_t>(Msr::kSint0) + kSint), 0xF3));
  }
  template <typename T>
  std::atomic_ref<T> guest_atomic(std::uint64_t address) {
    return std::atomic_ref(*reinterpret_cast<T*>(memory_.host_span({address}, sizeof(T)).data()));
  }
  memory::GuestMemory memory_;
  CountingPartition partition_;
  std::unique_ptr<Synic> synic_;
};

TEST_F(SynicStressTest, every_message_arrives_once_and_in_order) {
  std::mutex mutex;
  std::condition_variable freed_changed;
  bool freed = false;
  synic_->set_slot_free_handler([&](VpIndex, std::uint8_t sint) {
    EXPECT_EQ(sint, kSint);
    const std::lock_guard lock(mutex);
    freed = true;
    freed_changed.notify_one();
  });

  std::atomic<bool> give_up = false;
  std::uint32_t received = 0;
  std::thread guest([&] {
    constexpr std::uint64_t kSlot = 0x1000 + kSint * spec::tlfs::kMessageBytes;
    auto type = guest_atomic<std::uint32_t>(kSlot);
    auto flags = guest_atomic<std::uint8_t>(kSlot + spec::tlfs::kMessageFlagsOffset);
    auto payload = guest_atomic<std::uint32_t>(kSlot + sizeof(spec::tlfs::MessageHeader));
    while (received < kMessages && !give_up) {
      const std::uint32_t found = type.load(std::memory_order_acquire);
      if (found == 0) {
        std::this_thread::yield();
        continue;
      }
      EXPECT_EQ(payload.load(), received);
      EXPECT_EQ(found, received + 1);
      ++received;
      type.store(0, std::memory_order_seq_cst);
      if ((flags.load(std::memory_order_seq_cst) & spec::tlfs::kMessagePending) != 0) {
        EXPECT_TRUE(synic_->write({0}, Msr::kEndOfMessage, 0));
      }
    }
  });

  std::uint64_t waits = 0;
  for (std::uint32_t i = 0; i < kMessages && !give_up; ++i) {
    for (;;) {
      {
        const std::lock_guard lock(mutex);
        freed = false;
      }
      const PostOutcome outcome = synic_->post_message({0}, kSint, i + 1, bytes_of(i));
      if (outcome == PostOutcome::kDelivered) break;
      ASSERT_EQ(outcome, PostOutcome::kSlotBusy);
      ++waits;
      std::unique_lock lock(mutex);
      if (!freed_changed.wait_for(lock, kPatience, [&] { return freed; })) {
        ADD_FAILURE() << "nobody said that the slot is free, after message " << i;
        give_up = true;
        break;
      }
    }
  }
  guest.join();
  EXPECT_EQ(received, kMessages);
  EXPECT_EQ(partition_.interrupts, kMessages);
  EXPECT_GT(waits, 0U);  // otherwise this test has not met what it is for
}

TEST_F(SynicStressTest, every_flag_that_is_set_is_seen) {
  constexpr std::uint32_t kRounds = 20'000;
  std::atomic<std::uint64_t> sent = 0;
  std::atomic<bool> done = false;
  std::uint64_t seen = 0;
  std::thread guest([&] {
    auto word = guest_atomic<std::uint32_t>(0x2000 + kSint * spec::tlfs::kEventFlagBytes);
    for (;;) {
      const bool was_done = done;
      if (word.exchange(0) != 0) {
        seen = sent;
      } else if (was_done) {
        break;
      } else {
        std::this_thread::yield();
      }
    }
  });
  for (std::uint32_t i = 1; i <= kRounds; ++i) {
    sent = i;
    synic_->signal_event({0}, kSint, 7);
  }
  done = true;
  guest.join();
  EXPECT_EQ(seen, kRounds);  // the last signal was seen after it was sent
  EXPECT_LE(partition_.interrupts, kRounds);
}

TEST_F(SynicStressTest, disconnect_waits_for_the_handler) {
  std::atomic<bool> alive = true;
  std::atomic<bool> stop = false;
  std::atomic<int> calls = 0;
  std::thread guest([&] {
    while (!stop) (void)synic_->guest_signals(9, 0);
  });
  for (int i = 0; i < 200; ++i) {
    alive = true;
    synic_->connect_event_port(9, [&](std::uint16_t) {
      EXPECT_TRUE(alive);
      std::this_thread::yield();
      EXPECT_TRUE(alive);
      ++calls;
    }, nullptr);
    const int before = calls;
    while (calls == before) std::this_thread::yield();
    synic_->disconnect_event_port(9);
    alive = false;
  }
  stop = true;
  guest.join();
  EXPECT_GE(calls, 200);
}

}  // namespace
}  // namespace bygone::hyperv
