// What the hypervisor and the chipset add to an exit, once the engine has left the guest: the work of one register access, one
// hypercall, one interrupt. The yardstick printed first is one system call of this host (getppid), the least that handing the
// same exit to another process would cost.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include "chipset/function_line.h"
#include "chipset/local_apic/local_apic.h"
#include "chipset/power_management.h"
#include "chipset/serial.h"
#include "hyperv/hypervisor.h"
#include "support/timer_service.h"

namespace {

using namespace bygone;
using spec::tlfs::Msr;

class BenchPartition final : public cpu::Partition {
 public:
  [[nodiscard]] cpu::Vcpu& vcpu(cpu::VpIndex) override { std::abort(); }
  void request_interrupt(const cpu::InterruptRequest&) override {}
  void request_synic_interrupt(cpu::VpIndex, std::uint8_t, bool) override {}
  [[nodiscard]] bool supports_auto_eoi() const override { return true; }
  [[nodiscard]] std::uint64_t tsc_frequency() const override { return 2'000'000'000; }
  [[nodiscard]] std::uint64_t apic_timer_frequency() const override { return cpu::kLocalApicTimerFrequency; }
  [[nodiscard]] std::uint64_t guest_tsc() const override { return __builtin_ia32_rdtsc(); }
  [[nodiscard]] std::vector<std::byte> hypercall_code() const override { return {std::byte{0xC3}}; }
  [[nodiscard]] Result<void> start_dirty_log() override { return {}; }
  void stop_dirty_log() override {}
  [[nodiscard]] Result<void> take_dirty_pages(memory::PageSet&) override { return {}; }
  void flush_tlbs(std::span<const cpu::VpIndex>) override {}
  [[nodiscard]] std::string inspect() const override { return "{}"; }
};

struct Machine {
  Machine() {
    if (!memory.add_ram({0}, 1 << 20)) std::abort();
    hyperv::HypervisorOptions options;
    options.memory = &memory;
    options.partition = &partition;
    options.timers = &timers;
    options.vp_count = 2;
    options.features = *hyperv::FeatureSet::profile("linux");
    hypervisor = std::move(*hyperv::Hypervisor::create(std::move(options)));
    write(Msr::kGuestOsId, 1);
    write(Msr::kHypercall, 0x1001);
    write(Msr::kMessagePage, 0x2001);
    write(Msr::kEventFlagsPage, 0x3001);
    write(static_cast<Msr>(0x40000092), 0xF3);
  }
  void write(Msr msr, std::uint64_t value) {
    cpu::MsrExit exit{.index = static_cast<std::uint32_t>(msr), .is_write = true, .value = value};
    (void)hypervisor->write_msr({0}, exit);
  }
  std::uint64_t read(Msr msr) {
    cpu::MsrExit exit{.index = static_cast<std::uint32_t>(msr)};
    (void)hypervisor->read_msr({0}, exit);
    return exit.value;
  }
  memory::GuestMemory memory;
  BenchPartition partition;
  ThreadTimerService timers;
  std::unique_ptr<hyperv::Hypervisor> hypervisor;
};

void system_call(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(::getppid());
}
BENCHMARK(system_call);

void read_reference_time(benchmark::State& state) {
  Machine machine;
  for (auto _ : state) benchmark::DoNotOptimize(machine.read(Msr::kReferenceTime));
}
BENCHMARK(read_reference_time);

void rearm_direct_timer(benchmark::State& state) {
  Machine machine;
  machine.write(Msr::kTimer0Configuration, 1 << 12 | 0xEC << 4 | 1 << 3);
  for (auto _ : state) machine.write(static_cast<Msr>(0x400000B1), machine.read(Msr::kReferenceTime) + 40'000);
}
BENCHMARK(rearm_direct_timer);

void signal_event_hypercall(benchmark::State& state) {
  Machine machine;
  std::uint64_t signals = 0;
  machine.hypervisor->synic().connect_event_port(0x2001, [&](std::uint16_t) { ++signals; }, nullptr);
  for (auto _ : state) {
    cpu::HypercallExit exit;
    exit.control = 0x1005D;
    exit.input = 0x2001;
    machine.hypervisor->handle_hypercall({0}, exit);
  }
  benchmark::DoNotOptimize(signals);
}
BENCHMARK(signal_event_hypercall);

void signal_event_to_guest(benchmark::State& state) {
  Machine machine;
  const std::uint32_t clear = 0;
  for (auto _ : state) {
    machine.hypervisor->synic().signal_event({0}, 2, 5);
    (void)machine.memory.write_object({0x3000 + 2 * 256}, clear);
  }
}
BENCHMARK(signal_event_to_guest);

void post_message_to_guest(benchmark::State& state) {
  Machine machine;
  const std::array<std::byte, 64> payload = {};
  const std::uint32_t free_slot = 0;
  for (auto _ : state) {
    (void)machine.hypervisor->synic().post_message({0}, 2, 1, payload);
    (void)machine.memory.write_object({0x2000 + 2 * 256}, free_slot);
  }
}
BENCHMARK(post_message_to_guest);

class BenchHost final : public cpu::LocalApicHost {
 public:
  void notify(cpu::VpIndex) override {}
  void deliver_nmi(cpu::VpIndex) override {}
  void deliver_init(cpu::VpIndex) override {}
  void deliver_start_up(cpu::VpIndex, std::uint8_t) override {}
  [[nodiscard]] std::uint64_t guest_tsc(cpu::VpIndex) const override { return __builtin_ia32_rdtsc(); }
  [[nodiscard]] std::uint64_t guest_tsc_frequency() const override { return 2'000'000'000; }
  void level_eoi(std::uint8_t) override {}
};

void local_apic_interrupt(benchmark::State& state) {
  BenchHost host;
  ThreadTimerService timers;
  chipset::LocalApicModelSet set(host, timers, 2);
  chipset::LocalApicModel& apic = set.at({1});
  apic.write_register(0xF0, 0x1FF);
  for (auto _ : state) {
    set.request({.vector = 0x40, .destination = 1});
    benchmark::DoNotOptimize(apic.acknowledge());
    apic.write_register(0xB0, 0);
  }
}
BENCHMARK(local_apic_interrupt);

void local_apic_poll(benchmark::State& state) {
  BenchHost host;
  ThreadTimerService timers;
  chipset::LocalApicModelSet set(host, timers, 1);
  for (auto _ : state) benchmark::DoNotOptimize(set.at({0}).pending());
}
BENCHMARK(local_apic_poll);

void read_power_timer(benchmark::State& state) {
  ThreadTimerService timers;
  chipset::FunctionLine line([](bool) {});
  chipset::PowerManagement power(timers, line, {});
  for (auto _ : state) benchmark::DoNotOptimize(power.read_port(0x408, 4));
}
BENCHMARK(read_power_timer);

void serial_character(benchmark::State& state) {
  chipset::FunctionLine line([](bool) {});
  chipset::SerialPort port(0x3F8, line, nullptr);
  for (auto _ : state) {
    benchmark::DoNotOptimize(port.read_port(0x3FD, 1));
    port.write_port(0x3F8, 1, 'x');
  }
}
BENCHMARK(serial_character);

}  // namespace

BENCHMARK_MAIN();
