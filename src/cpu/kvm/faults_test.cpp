// A KVM that refuses: every system call of this engine goes through a fake kernel here (the linker wraps open and ioctl), which
// answers as the real one does until a test makes it fail. What comes out must be a clear error, never a crash or an endless loop.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cstdarg>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "cpu/kvm/abi.h"
#include "cpu/kvm/engine.h"
#include "cpu/kvm/kick_signal.h"

namespace bygone::cpu::kvm {
namespace {

using namespace std::chrono_literals;

constexpr int kRunAreaSize = 3 * 4096;

/// What the kernel answers. An entry in `errors` makes a request fail that often (-1: always) with that number.
struct FakeKernel {
  struct Failure {
    int number = 0;
    int times = -1;
  };
  int open_error = 0;
  int api_version = 12;
  int missing_capability = -1;
  std::map<unsigned long, Failure> errors;
  std::function<int(kvm_run&)> run;  ///< KVM_RUN: 0 or an error number
  kvm_run* area = nullptr;
  std::map<unsigned long, int> calls;  ///< guarded by mutex, as are errors once there is a partition: the engine has threads
  std::mutex mutex;

  [[nodiscard]] int count(unsigned long request) {
    const std::lock_guard lock(mutex);
    return calls[request];
  }
};
FakeKernel* kernel = nullptr;  // the test's that is running

int fail_with(int number) {
  errno = number;
  return -1;
}

int new_descriptor(std::size_t bytes) {
  const int descriptor = ::memfd_create("fake-kvm", MFD_CLOEXEC);
  if (bytes != 0 && ::ftruncate(descriptor, static_cast<off_t>(bytes)) != 0) return fail_with(ENOMEM);
  return descriptor;
}

int answer(unsigned long request, std::uintptr_t argument, int descriptor) {
  {
    const std::lock_guard lock(kernel->mutex);
    ++kernel->calls[request];
    if (const auto failure = kernel->errors.find(request); failure != kernel->errors.end() && failure->second.times != 0) {
      if (failure->second.times > 0) --failure->second.times;
      return fail_with(failure->second.number);
    }
  }
  switch (request) {
    case KVM_GET_API_VERSION: return kernel->api_version;
    case KVM_GET_VCPU_MMAP_SIZE: return kRunAreaSize;
    case KVM_CHECK_EXTENSION: {
      const int capability = static_cast<int>(argument);
      if (capability == kernel->missing_capability) return 0;
      return capability == KVM_CAP_HYPERV || capability == KVM_CAP_XSAVE2 ? 0 : 1;
    }
    case KVM_GET_SUPPORTED_CPUID: std::bit_cast<kvm_cpuid2*>(argument)->nent = 0; return 0;
    case KVM_CREATE_VM: return new_descriptor(0);
    case KVM_CREATE_VCPU: return new_descriptor(kRunAreaSize);
    case KVM_GET_TSC_KHZ: return 2'000'000;
    case KVM_GET_MSRS:
    case KVM_SET_MSRS: return static_cast<int>(std::bit_cast<kvm_msrs*>(argument)->nmsrs);
    case KVM_RUN: {
      if (kernel->area == nullptr) {
        kernel->area = static_cast<kvm_run*>(::mmap(nullptr, kRunAreaSize, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0));
      }
      if (kernel->area->immediate_exit != 0) return fail_with(EINTR);
      const int number = kernel->run ? kernel->run(*kernel->area) : ENODEV;
      return number == 0 ? 0 : fail_with(number);
    }
    default: return 0;
  }
}

}  // namespace
}  // namespace bygone::cpu::kvm

// The linker sends open() and ioctl() of everything in this program here.
extern "C" {
int __real_open(const char* path, int flags, ...);
int __wrap_open(const char* path, int flags, ...) {
  using namespace bygone::cpu::kvm;
  if (kernel == nullptr || std::strcmp(path, "/fake/kvm") != 0) {
    va_list arguments;
    va_start(arguments, flags);
    const auto mode = va_arg(arguments, unsigned);
    va_end(arguments);
    return __real_open(path, flags, mode);
  }
  return kernel->open_error != 0 ? fail_with(kernel->open_error) : new_descriptor(0);
}
int __real_ioctl(int descriptor, unsigned long request, ...);
int __wrap_ioctl(int descriptor, unsigned long request, ...) {
  using namespace bygone::cpu::kvm;
  va_list arguments;
  va_start(arguments, request);
  const auto argument = va_arg(arguments, std::uintptr_t);
  va_end(arguments);
  return kernel != nullptr ? answer(request, argument, descriptor) : __real_ioctl(descriptor, request, argument);
}
}

namespace bygone::cpu::kvm {
namespace {

void exit_at(kvm_run& area, std::uint16_t port, int direction) {
  area.exit_reason = KVM_EXIT_IO;
  area.io.direction = static_cast<std::uint8_t>(direction);
  area.io.port = port;
  area.io.size = 1;
  area.io.count = 1;
  area.io.data_offset = 2048;
}

class KvmFaultsTest : public testing::Test {
 protected:
  void SetUp() override {
    kernel = &kernel_;
    ASSERT_TRUE(memory_.add_ram({0}, 1 << 20));
    ASSERT_TRUE(memory_.add_ram({0x100000000}, 1 << 20));
  }
  void TearDown() override {
    partition_.reset();
    kernel = nullptr;
    if (kernel_.area != nullptr) ::munmap(kernel_.area, kRunAreaSize);
  }

  [[nodiscard]] Result<std::unique_ptr<Partition>> create() {
    PartitionOptions options;
    options.memory = &memory_;
    options.posted = posted_;
    options.log = log_;
    return engine_->create_partition(std::move(options));
  }
  /// One run() of a processor whose KVM_RUN does `run`.
  void start(std::function<int(kvm_run&)> run) {
    kernel_.run = std::move(run);
    auto partition = create();
    ASSERT_TRUE(partition) << partition.error().text();
    partition_ = std::move(*partition);
  }
  [[nodiscard]] Result<Exit*> run_once() { return partition_->vcpu(VpIndex{0}).run(); }

  FakeKernel kernel_;
  memory::GuestMemory memory_;
  PostedPorts posted_;
  Log log_;
  std::unique_ptr<Engine> engine_ = create_engine({.device_path = "/fake/kvm"});
  std::unique_ptr<Partition> partition_;
};

TEST_F(KvmFaultsTest, the_fake_kernel_makes_a_partition) {
  start([](kvm_run& area) {
    area.exit_reason = KVM_EXIT_HLT;
    return 0;
  });
  const auto exit = run_once();
  ASSERT_TRUE(exit);
  EXPECT_TRUE(std::holds_alternative<HaltExit>(**exit));
}

TEST_F(KvmFaultsTest, a_device_that_is_closed_to_us_says_how_to_get_in) {
  kernel_.open_error = EACCES;
  const EngineStatus status = engine_->probe();
  EXPECT_FALSE(status.is_usable);
  EXPECT_NE(status.reason.find("/fake/kvm"), std::string::npos);
  EXPECT_NE(status.hint.find("usermod -aG kvm"), std::string::npos);
  EXPECT_EQ(create().error().code, ErrorCode::kPermissionDenied);
}

TEST_F(KvmFaultsTest, a_device_without_a_driver_says_so) {
  for (const int number : {ENODEV, ENXIO}) {
    kernel_.open_error = number;
    const EngineStatus status = engine_->probe();
    EXPECT_FALSE(status.is_usable);
    EXPECT_NE(status.hint.find("kvm_amd"), std::string::npos) << number;
  }
}

TEST_F(KvmFaultsTest, a_missing_capability_is_named) {
  kernel_.missing_capability = KVM_CAP_X86_MSR_FILTER;
  const EngineStatus status = engine_->probe();
  EXPECT_FALSE(status.is_usable);
  EXPECT_NE(status.reason.find("KVM_CAP_X86_MSR_FILTER"), std::string::npos) << status.reason;
  EXPECT_EQ(create().error().code, ErrorCode::kUnsupported);
}

TEST_F(KvmFaultsTest, an_old_interface_is_named) {
  kernel_.api_version = 11;
  const EngineStatus status = engine_->probe();
  EXPECT_FALSE(status.is_usable);
  EXPECT_NE(status.reason.find("API version 11"), std::string::npos) << status.reason;
}

// Each run of the loop takes 20 ms, its first of 2000 instructions too: a tenth of a million a second.
TEST_F(KvmFaultsTest, an_emulated_kernel_mode_is_seen_in_bounded_time_and_said) {
  kernel_.run = [](kvm_run& area) {
    std::this_thread::sleep_for(20ms);
    area.exit_reason = KVM_EXIT_IO;
    area.io.direction = KVM_EXIT_IO_OUT;
    area.io.port = 0x80;
    area.io.size = 1;
    area.io.count = 1;
    return 0;
  };
  const EngineStatus status = engine_->probe();
  EXPECT_FALSE(status.is_usable);
  EXPECT_NE(status.reason.find("kernel mode is emulated"), std::string::npos) << status.reason;
  EXPECT_NE(status.hint.find("nested virtualization"), std::string::npos);
  EXPECT_LE(kernel_.calls[KVM_RUN], 300 / 20) << "a busy host makes it fewer";
}

TEST_F(KvmFaultsTest, a_loop_that_does_not_end_is_stopped) {
  kernel_.run = [](kvm_run& area) {
    while (std::atomic_ref<std::uint8_t>(area.immediate_exit).load() == 0) std::this_thread::sleep_for(1ms);
    return EINTR;
  };
  const EngineStatus status = engine_->probe();
  EXPECT_FALSE(status.is_usable);
  EXPECT_NE(status.reason.find("kernel mode is emulated"), std::string::npos) << status.reason;
}

TEST_F(KvmFaultsTest, a_run_that_a_late_kick_ends_at_once_is_no_measure_of_speed) {
  int runs = 0;
  kernel_.run = [&runs](kvm_run& area) {
    if (runs++ % 2 == 1) return EINTR;  // at once
    std::this_thread::sleep_for(20ms);
    exit_at(area, 0x80, KVM_EXIT_IO_OUT);
    return 0;
  };
  const EngineStatus status = engine_->probe();
  EXPECT_FALSE(status.is_usable) << status.reason;
  EXPECT_NE(status.reason.find("kernel mode is emulated"), std::string::npos) << status.reason;
  EXPECT_GT(runs, 3);
}

TEST_F(KvmFaultsTest, an_emulator_without_vector_instructions_is_seen_and_said) {
  kernel_.run = [](kvm_run& area) {
    area.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    return 0;
  };
  const EngineStatus status = engine_->probe();
  EXPECT_FALSE(status.is_usable);
  EXPECT_NE(status.reason.find("no vector instructions"), std::string::npos) << status.reason;
}

TEST_F(KvmFaultsTest, a_refused_memory_slot_says_which_one) {
  kernel_.errors[KVM_SET_USER_MEMORY_REGION] = {ENOMEM};
  const auto refused = create();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("1 MiB of RAM at 0x0"), std::string::npos) << refused.error().text();
}

// Whatever the kernel refuses on the way, it is an error that names the request.
TEST_F(KvmFaultsTest, each_refusal_while_creating_is_an_error_with_its_name) {
  const std::pair<unsigned long, const char*> requests[] = {
      {KVM_CREATE_VM, "KVM_CREATE_VM"},           {KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR"},
      {KVM_ENABLE_CAP, "KVM_CAP_SPLIT_IRQCHIP"},  {KVM_X86_SET_MSR_FILTER, "KVM_X86_SET_MSR_FILTER"},
      {KVM_CREATE_VCPU, "KVM_CREATE_VCPU"},       {KVM_SET_CPUID2, "KVM_SET_CPUID2"},
      {KVM_SET_SREGS, "KVM_SET_SREGS"},           {KVM_SET_REGS, "KVM_SET_REGS"},
      {KVM_SET_XSAVE, "KVM_SET_XSAVE"},           {KVM_SET_LAPIC, "KVM_SET_LAPIC"},
      {KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS"}, {KVM_SET_MP_STATE, "KVM_SET_MP_STATE"},
      {KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ"}};
  for (const auto& [request, name] : requests) {
    kernel_.errors = {{request, {EINVAL}}};
    const auto refused = create();
    ASSERT_FALSE(refused) << name;
    EXPECT_NE(refused.error().text().find(name), std::string::npos) << refused.error().text();
  }
}

TEST_F(KvmFaultsTest, a_storm_of_signals_delays_calls_but_does_not_fail_them) {
  kernel_.errors[KVM_CREATE_VM] = {EINTR, 1000};
  kernel_.errors[KVM_SET_USER_MEMORY_REGION] = {EINTR, 1000};
  EXPECT_TRUE(create());
  EXPECT_GE(kernel_.calls[KVM_CREATE_VM], 1001);
}

TEST_F(KvmFaultsTest, each_interrupted_run_comes_back_to_the_caller_who_may_stop) {
  start([](kvm_run&) { return EINTR; });
  for (int i = 0; i < 1000; ++i) {
    const auto exit = run_once();
    ASSERT_TRUE(exit);
    ASSERT_TRUE(std::holds_alternative<InterruptedExit>(**exit));
  }
}

TEST_F(KvmFaultsTest, kvm_that_goes_away_at_work_is_an_error_of_that_processor) {
  for (const int number : {ENODEV, EIO, EFAULT, ENOMEM, EBADF}) {
    start([number](kvm_run&) { return number; });
    const auto exit = run_once();
    ASSERT_FALSE(exit) << number;
    EXPECT_NE(exit.error().text().find("processor 0"), std::string::npos);
    EXPECT_NE(exit.error().text().find("KVM_RUN"), std::string::npos);
    kernel_.area = nullptr;
  }
}

TEST_F(KvmFaultsTest, exits_that_nobody_knows_end_with_a_dump) {
  for (const int number : {KVM_EXIT_FAIL_ENTRY, KVM_EXIT_INTERNAL_ERROR, 0, 9999}) {
    const auto reason = static_cast<std::uint32_t>(number);
    start([reason](kvm_run& area) {
      area.exit_reason = reason;
      return 0;
    });
    const auto exit = run_once();
    ASSERT_TRUE(exit);
    const auto* broken = std::get_if<UnrecoverableExit>(*exit);
    ASSERT_NE(broken, nullptr) << reason;
    for (const char* part : {"rip=", "cr3=", "dr7=", "local apic", "xsave", "activity"}) {
      EXPECT_NE(broken->dump.find(part), std::string::npos) << part << " in " << broken->dump;
    }
    kernel_.area = nullptr;
  }
}

TEST_F(KvmFaultsTest, a_kick_at_any_moment_ends_the_run) {
  start([](kvm_run&) { return EINTR; });
  partition_->vcpu(VpIndex{0}).kick();
  const auto exit = run_once();
  ASSERT_TRUE(exit);
  EXPECT_TRUE(std::holds_alternative<InterruptedExit>(**exit));
}

// Of a signal that the thread blocks the kernel tells KVM_RUN nothing: a guest without exits would run for ever.
TEST_F(KvmFaultsTest, a_kick_reaches_a_thread_that_had_blocked_every_signal) {
  bool is_blocked = true;
  start([&is_blocked](kvm_run&) {
    sigset_t blocked;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    is_blocked = ::sigismember(&blocked, kick_signal()) != 0;
    return EINTR;
  });
  std::jthread processor([this] {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    EXPECT_TRUE(run_once());
  });
  processor.join();
  EXPECT_FALSE(is_blocked);
}

TEST_F(KvmFaultsTest, a_refused_dirty_log_is_an_error) {
  start([](kvm_run&) { return EINTR; });
  kernel_.errors[KVM_GET_DIRTY_LOG] = {ENOENT};
  memory::PageSet pages(memory_);
  EXPECT_FALSE(partition_->take_dirty_pages(pages));
  kernel_.errors[KVM_SET_USER_MEMORY_REGION] = {ENOMEM};
  EXPECT_FALSE(partition_->start_dirty_log());
}

// ---- Posted writes: the fake kernel gathers them as KVM does ----

constexpr std::uint16_t kPosted = 0x3F8, kOther = 0x80;
constexpr int kBurst = 64;  // enough to be worth gathering

class PostedWritesTest : public KvmFaultsTest {
 protected:
  void SetUp() override {
    KvmFaultsTest::SetUp();
    posted_.ports = {kPosted, kOther};
    posted_.deliver = [this](PortExit& write) {
      const std::lock_guard lock(mutex_);
      EXPECT_EQ(write.size, 1);
      EXPECT_TRUE(write.is_write);
      delivered_.emplace_back(write.port, std::to_integer<int>(write.data[0]));
    };
  }

  static void gather(kvm_run& area, std::uint16_t port, int value) {
    auto* ring = reinterpret_cast<kvm_coalesced_mmio_ring*>(reinterpret_cast<std::byte*>(&area) + 4096);
    const std::atomic_ref last(ring->last);
    kvm_coalesced_mmio& entry = ring->coalesced_mmio[last.load()];
    entry = {};
    entry.phys_addr = port;
    entry.len = 1;
    entry.pio = 1;
    entry.data[0] = static_cast<std::uint8_t>(value);
    last.store((last.load() + 1) % ((4096 - sizeof(kvm_coalesced_mmio_ring)) / sizeof(kvm_coalesced_mmio)));
  }
  /// One exit for each of a burst of writes, then `run`.
  void start_hot(std::function<int(kvm_run&)> run) {
    start([](kvm_run& area) {
      exit_at(area, kPosted, KVM_EXIT_IO_OUT);
      return 0;
    });
    for (int i = 0; i < kBurst; ++i) ASSERT_TRUE(run_once());
    kernel_.run = std::move(run);
  }
  void wait_for(unsigned long request, int count) {
    while (kernel_.count(request) < count) std::this_thread::sleep_for(1ms);  // without end when it never comes: a time-out
  }
  [[nodiscard]] std::vector<std::pair<int, int>> delivered() {
    const std::lock_guard lock(mutex_);
    return delivered_;
  }

  std::mutex mutex_;
  std::vector<std::pair<int, int>> delivered_;  // guarded by mutex_
};

TEST_F(PostedWritesTest, a_few_writes_leave_the_guest_as_ever) {
  start([](kvm_run& area) {
    exit_at(area, kPosted, KVM_EXIT_IO_OUT);
    return 0;
  });
  for (int i = 0; i < 10; ++i) {
    const auto exit = run_once();
    ASSERT_TRUE(exit);
    ASSERT_TRUE(std::holds_alternative<PortExit>(**exit));
  }
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(kernel_.count(KVM_REGISTER_COALESCED_MMIO), 0);
}

TEST_F(PostedWritesTest, after_a_burst_all_that_was_gathered_comes_before_the_next_exit_in_order) {
  std::vector<std::pair<int, int>> expected;
  expected.reserve(100);
  for (int i = 0; i < 100; ++i) expected.emplace_back(i % 7 == 0 ? kOther : kPosted, i);
  start_hot([&](kvm_run& area) {
    for (const auto& [port, value] : expected) gather(area, static_cast<std::uint16_t>(port), value);
    exit_at(area, 0x3FD, KVM_EXIT_IO_IN);
    return 0;
  });
  wait_for(KVM_REGISTER_COALESCED_MMIO, 2);
  const auto exit = run_once();
  const std::size_t at_exit = delivered().size();
  ASSERT_TRUE(exit);
  const auto* in = std::get_if<PortExit>(*exit);
  ASSERT_NE(in, nullptr);
  EXPECT_EQ(in->port, 0x3FD);
  EXPECT_EQ(at_exit, expected.size());
  EXPECT_EQ(delivered(), expected);
  EXPECT_NE(partition_->inspect().find(R"("posted_writes":100)"), std::string::npos) << partition_->inspect();
}

TEST_F(PostedWritesTest, the_ring_goes_round) {
  int next = 0;
  start_hot([&next](kvm_run& area) {
    for (int i = 0; i < 150; ++i) gather(area, kPosted, next++ % 256);
    return EINTR;
  });
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(run_once());
  const auto all = delivered();
  ASSERT_EQ(all.size(), 1500U);
  for (int i = 0; i < 1500; ++i) ASSERT_EQ(all[static_cast<std::size_t>(i)], (std::pair<int, int>(kPosted, i % 256)));
}

TEST_F(PostedWritesTest, the_last_of_a_burst_does_not_wait_for_an_exit) {
  start_hot([](kvm_run& area) {
    exit_at(area, 0x3FD, KVM_EXIT_IO_IN);
    return 0;
  });
  ASSERT_TRUE(run_once());
  wait_for(KVM_REGISTER_COALESCED_MMIO, 2);
  gather(*kernel_.area, kPosted, 'x');
  while (delivered().empty()) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(delivered().front(), (std::pair<int, int>(kPosted, 'x')));
}

TEST_F(PostedWritesTest, a_guest_that_has_become_quiet_is_no_longer_watched_and_can_become_hot_again) {
  start_hot([](kvm_run& area) {
    exit_at(area, kPosted, KVM_EXIT_IO_OUT);
    return 0;
  });
  wait_for(KVM_UNREGISTER_COALESCED_MMIO, 2);
  const int before = kernel_.count(KVM_REGISTER_COALESCED_MMIO);
  while (kernel_.count(KVM_REGISTER_COALESCED_MMIO) < before + 2) ASSERT_TRUE(run_once());
}

TEST_F(PostedWritesTest, what_is_gathered_when_a_processor_is_stopped_has_been_delivered) {
  start_hot([](kvm_run& area) {
    gather(area, kPosted, 1);
    return EINTR;
  });
  const auto exit = run_once();
  ASSERT_TRUE(exit);
  EXPECT_TRUE(std::holds_alternative<InterruptedExit>(**exit));
  EXPECT_EQ(delivered().size(), 1U);
}

TEST_F(PostedWritesTest, a_kernel_that_cannot_or_will_not_leaves_it_at_exits) {
  const auto is_still_exiting = [this] {
    start_hot([](kvm_run& area) {
      exit_at(area, kPosted, KVM_EXIT_IO_OUT);
      return 0;
    });
    const auto exit = run_once();
    return exit && std::holds_alternative<PortExit>(**exit) && delivered().empty();
  };
  kernel_.missing_capability = KVM_CAP_COALESCED_PIO;
  EXPECT_TRUE(is_still_exiting());
  EXPECT_EQ(kernel_.count(KVM_REGISTER_COALESCED_MMIO), 0);
  partition_.reset();
  kernel_.area = nullptr;
  kernel_.missing_capability = -1;
  kernel_.errors[KVM_REGISTER_COALESCED_MMIO] = {ENOMEM};
  std::atomic<bool> is_said = false;
  log_ = Log([&is_said](LogLevel, std::string_view, std::string_view text) { is_said = text.find("0x3f8") != std::string_view::npos; });
  EXPECT_TRUE(is_still_exiting());
  while (!is_said) std::this_thread::sleep_for(1ms);
  partition_.reset();
}

}  // namespace
}  // namespace bygone::cpu::kvm
