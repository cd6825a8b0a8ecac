#include "cpu/translator/code_pages.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <thread>

namespace bygone::cpu::translator {
namespace {

// A processor that comes back to guest code and stays there, as one does that waits for a lock: each wish that others have meanwhile must be
// answered at its polls, also one that comes while an earlier one is being answered.
TEST(CodePages, a_processor_that_stays_in_guest_code_answers_every_request) {
  constexpr int kRounds = 4000;
  CodePages pages(16);
  const auto target = std::make_unique<VcpuBlock>();
  std::atomic<bool> ends = false;
  std::atomic<std::uint64_t> answered = 0;
  std::thread asker([&] {
    while (!ends.load()) {
      pages.request_flush(nullptr, *target, kAttentionFlushWrites);
      answered.fetch_add(1);
    }
  });
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    target->in_guest.store(1);
    CodePages::serve_requests(*target);
    const std::uint64_t before = answered.load();
    const auto limit = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (answered.load() < before + 2 && !HasFailure()) {
      if (target->attention.load(std::memory_order_relaxed) != 0) CodePages::serve_requests(*target);
      if (std::chrono::steady_clock::now() > limit) ADD_FAILURE() << "a request of round " << round << " is never answered";
      std::this_thread::yield();
    }
    target->in_guest.store(0);
    if (round % 8 == 0) std::this_thread::yield();
  }
  ends.store(true);
  asker.join();
}

}  // namespace
}  // namespace bygone::cpu::translator
