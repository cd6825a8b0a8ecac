// Prints the host's TSC rate in kHz. The nested machine's kernel would otherwise calibrate the counter against an emulated timer
// while the host is busy, and be off by any factor.
#include <fmt/format.h>
#include <x86intrin.h>

#include <chrono>
#include <cstdint>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

struct Moment {
  std::uint64_t tsc;
  Clock::time_point time;
};

/// Both clocks at one moment: the closest of several pairs, so that being held up in between does not count.
Moment now() {
  Moment best = {};
  std::uint64_t closest = ~std::uint64_t{0};
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t before = __rdtsc();
    const Clock::time_point time = Clock::now();
    const std::uint64_t after = __rdtsc();
    if (after - before < closest) {
      closest = after - before;
      best = {before + (after - before) / 2, time};
    }
  }
  return best;
}

}  // namespace

int main() {
  const Moment start = now();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const Moment end = now();
  const double milliseconds = std::chrono::duration<double, std::milli>(end.time - start.time).count();
  fmt::print("{:.0f}\n", static_cast<double>(end.tsc - start.tsc) / milliseconds);
}
