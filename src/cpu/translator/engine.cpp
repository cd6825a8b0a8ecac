#include "cpu/translator/engine.h"

#include <x86intrin.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "cpu/speed_probe.h"
#include "cpu/translator/cpuid_model.h"
#include "cpu/translator/partition.h"

namespace bygone::cpu::translator {
namespace {

struct Instant {
  std::chrono::steady_clock::time_point time;
  std::uint64_t tsc = 0;
};

/// The clock and the TSC as close together as a few tries bring them.
Instant read_both() {
  Instant best;
  std::uint64_t best_width = ~std::uint64_t{0};
  for (int i = 0; i < 8; ++i) {
    const std::uint64_t before = __rdtsc();
    const auto time = std::chrono::steady_clock::now();
    const std::uint64_t after = __rdtsc();
    if (after - before < best_width) {
      best_width = after - before;
      best = {time, before + (after - before) / 2};
    }
  }
  return best;
}

std::uint64_t measure_tsc_frequency() {
  const Instant first = read_both();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const Instant second = read_both();
  const double seconds = std::chrono::duration<double>(second.time - first.time).count();
  const double hertz = static_cast<double>(second.tsc - first.tsc) / seconds;
  // Clock rates are whole multiples of 10 kHz on every processor that says so; the measurement is good to about as much.
  return static_cast<std::uint64_t>(std::llround(hertz / 10'000)) * 10'000;
}

class SoftwareEngine final : public Engine {
 public:
  explicit SoftwareEngine(const EngineOptions& options) : options_(options) {}
  [[nodiscard]] std::string_view name() const override { return "software"; }

  [[nodiscard]] EngineStatus probe() override {
    const auto speed = measure();
    if (!speed) return {.is_usable = false, .million_instructions_per_second = 0, .reason = speed.error().message, .hint = speed.error().hint};
    EngineStatus status;
    status.is_usable = true;
    status.million_instructions_per_second = speed->million_instructions_per_second;
    status.reason = fmt::format("the software processor runs on every x86-64 host, here at {:.0f} million instructions a second",
                                speed->million_instructions_per_second);
    return status;
  }

  [[nodiscard]] Result<CpuidTable> supported_cpuid() override { return host_model(); }

  [[nodiscard]] Result<std::unique_ptr<Partition>> create_partition(PartitionOptions options) override {
    if (options.memory == nullptr) return fail(ErrorCode::kInvalidArgument, "a partition needs guest memory");
    if (options.vcpu_count == 0 || options.vcpu_count > 64) {
      return fail(ErrorCode::kInvalidArgument, "a partition has 1 to 64 processors, not {}", options.vcpu_count);
    }
    std::unique_ptr<Lockstep> lockstep;
    if (options_.lockstep_instructions != 0) {
      if (options.vcpu_count != 1) return fail(ErrorCode::kInvalidArgument, "lockstep takes one processor, not {}", options.vcpu_count);
      hide_random_numbers(options.cpuid);
      BYGONE_ASSIGN(lockstep, Lockstep::create(*options.memory, options.cpuid, options_.lockstep_instructions, options.log));
    }
    if (tsc_frequency_ == 0) tsc_frequency_ = measure_tsc_frequency();
    try {
      return SoftwarePartition::create(std::move(options), tsc_frequency_, options_.tiers, std::move(lockstep));
    } catch (const std::bad_alloc&) {
      return fail(ErrorCode::kExhausted, "the host has no memory for the software processor's tables");
    }
  }

 private:
  Result<Speed> measure() {
    constexpr std::chrono::milliseconds kTime(50);
    memory::GuestMemory memory;
    BYGONE_CHECK(prepare_probe_memory(memory));
    PartitionOptions options;
    options.memory = &memory;
    options.code_cache_bytes = 4 << 20;
    BYGONE_ASSIGN(options.cpuid, supported_cpuid());
    BYGONE_ASSIGN(const auto partition, create_partition(std::move(options)));
    // On a thread of its own: one that has run translated code takes no signals any more, and the caller may be who a person stops.
    Result<Speed> speed = Speed{};
    std::thread([&] { speed = measure_speed(memory, partition->vcpu({0}), ProbeLoop::kVector, 0, ProbeClock::now() + kTime); }).join();
    return speed;
  }

  EngineOptions options_;
  std::uint64_t tsc_frequency_ = 0;
};

}  // namespace

std::unique_ptr<Engine> create_engine(const EngineOptions& options) { return std::make_unique<SoftwareEngine>(options); }

}  // namespace bygone::cpu::translator
