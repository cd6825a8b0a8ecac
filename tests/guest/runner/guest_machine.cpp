#include "guest/runner/guest_machine.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>
#include <utility>

#include "cpu/entry_state.h"
#include "cpu/time_stamps.h"
#include "guest/protocol.h"
#include "guest/runner/test_devices.h"
#include "hyperv/hypervisor.h"
#include "support/timer_service.h"

namespace bygone::guest_tests {
namespace {

constexpr std::uint32_t kHypervisorPresent = 1U << 31;  // CPUID.1:ECX

Result<guest::ImageHeader> parse_header(const std::vector<std::byte>& image) {
  guest::ImageHeader header;
  if (image.size() < sizeof(header)) return fail(ErrorCode::kCorrupt, "the image has only {} bytes", image.size());
  std::memcpy(&header, image.data(), sizeof(header));
  if (header.magic != guest::kMagic) return fail(ErrorCode::kCorrupt, "the image does not start with a header");
  if (header.processors == 0 || header.processors > 64 || header.memory_mib < 2 || header.entry >= image.size()) {
    return fail(ErrorCode::kCorrupt, "the image's header asks for {} processors, {} MiB and entry {:#x}",
                header.processors, header.memory_mib, header.entry);
  }
  return header;
}

/// Takes out of `table` what `other` does not promise: the words of feature bits (Intel SDM volume 2, CPUID).
void keep_common_features(cpu::CpuidTable& table, const cpu::CpuidTable& other) {
  using Word = std::uint32_t cpu::CpuidResult::*;
  constexpr std::tuple<std::uint32_t, std::uint32_t, Word> kFeatures[] = {
      {1, 0, &cpu::CpuidResult::ecx},    {1, 0, &cpu::CpuidResult::edx},          {7, 0, &cpu::CpuidResult::ebx},
      {7, 0, &cpu::CpuidResult::ecx},    {7, 0, &cpu::CpuidResult::edx},          {7, 1, &cpu::CpuidResult::eax},
      {0xD, 0, &cpu::CpuidResult::eax},  {0xD, 1, &cpu::CpuidResult::eax},        {0x80000001, 0, &cpu::CpuidResult::ecx},
      {0x80000001, 0, &cpu::CpuidResult::edx}};
  for (const auto& [leaf, subleaf, word] : kFeatures) {
    const cpu::CpuidEntry* entry = table.find(leaf, subleaf);
    if (entry == nullptr) continue;
    cpu::CpuidEntry common = *entry;
    common.result.*word &= other.query(leaf, subleaf).*word;
    table.set(common);
  }
}

class GuestMachine {
 public:
  GuestMachine(cpu::Engine& engine, const RunOptions& options) : engine_(engine), options_(options) {}

  Result<void> load(const std::vector<std::byte>& image) {
    BYGONE_ASSIGN(header_, parse_header(image));
    BYGONE_CHECK(memory_.add_ram({0}, std::uint64_t{header_.memory_mib} << 20));
    BYGONE_CHECK(memory_.write({load_address()}, image));
    BYGONE_CHECK(create_partition(engine_));
    return hand_over();
  }

  Result<void> create_partition(cpu::Engine& engine) {
    cpu::PartitionOptions options;
    options.memory = &memory_;
    options.vcpu_count = header_.processors;
    options.local_apics = options_.local_apics;
    options.log = options_.log;
    options.facilities = (options_.facilities & engine.facilities()).consistent();
    // Without the hypervisor interface the hypercalls are the test's own, which no engine knows.
    if (!has_hypervisor()) options.facilities = options.facilities.remove(cpu::Facility::kHypercalls).consistent();
    hyperv::FeatureSet features;
    BYGONE_ASSIGN(features, hyperv::FeatureSet::profile("linux"));
    const bool moves = options_.other_engine != nullptr;  // what it is offered is the same for both
    const bool flushes = engine.can_flush_tlbs() || options.facilities.has(cpu::Facility::kHypercalls);
    if (moves || !flushes) features.remove(hyperv::Feature::kTlbFlush);
    if (moves || !options.facilities.has(cpu::Facility::kApicRegisters)) features.remove(hyperv::Feature::kApicRegisters);
    BYGONE_ASSIGN(options.cpuid, guest_cpuid());
    if (has_hypervisor()) hyperv::add_cpuid_leaves(options.cpuid, features);
    BYGONE_ASSIGN(partition_, engine.create_partition(std::move(options)));
    if (has_hypervisor()) BYGONE_CHECK(create_hypervisor(features));
    return {};
  }

  GuestOutcome run() {
    {
      std::vector<std::jthread> threads;
      threads.reserve(header_.processors);
      for (std::uint32_t i = 0; i < header_.processors; ++i) {
        threads.emplace_back([this, i] { run_processor(i); });
      }
      std::unique_lock lock(mutex_);
      const auto deadline = std::chrono::steady_clock::now() + options_.limit;
      while (!is_done_ && options_.other_engine != nullptr && moves_ < kMaximumMoves && std::chrono::steady_clock::now() < deadline) {
        if (done_.wait_for(lock, kBetweenMoves, [this] { return is_done_; })) break;
        if (auto moved = move(lock); !moved) end_locked("moving it to the other engine: " + moved.error().text());
      }
      const bool ended = done_.wait_until(lock, deadline, [this] { return is_done_; });
      if (!ended) end_locked(fmt::format("no end after {} s", options_.limit.count()));
      lock.unlock();
      for (std::uint32_t i = 0; i < header_.processors; ++i) partition_->vcpu(cpu::VpIndex{i}).kick();
    }
    timers_.pause();
    GuestOutcome outcome;
    outcome.has_passed = reason_.empty();
    outcome.text = devices_.text();
    outcome.reason = reason_;
    outcome.moves = moves_;
    outcome.slowest_stop = slowest_stop_;
    if (!outcome.has_passed) outcome.reason += describe_processors();
    outcome.names_registers = (header_.flags & guest::kImageNamesRegisters) != 0;
    if (outcome.names_registers) outcome.registers = registers();
    return outcome;
  }

 private:
  [[nodiscard]] std::uint32_t load_address() const {
    return header_.mode == guest::EntryMode::kReal ? guest::kRealImage : guest::kImage;
  }

  [[nodiscard]] bool has_hypervisor() const { return (header_.flags & guest::kImageWantsHypervisor) != 0; }

  Result<void> create_hypervisor(hyperv::FeatureSet features) {
    hyperv::HypervisorOptions options;
    options.memory = &memory_;
    options.partition = partition_.get();
    options.timers = &timers_;
    options.vp_count = header_.processors;
    options.features = features;
    options.log = options_.log;
    BYGONE_ASSIGN(hypervisor_, hyperv::Hypervisor::create(std::move(options)));
    hyperv::SynicPort& synic = hypervisor_->synic();
    synic.connect_message_port(guest::kEchoConnection, [&synic](cpu::VpIndex vp, std::uint32_t type, std::span<const std::byte> payload) {
      constexpr std::uint16_t kSuccess = 0, kInsufficientBuffers = 0x13;  // TLFS, HV_STATUS
      return synic.post_message(vp, guest::kEchoSource, type, payload) == hyperv::PostOutcome::kDelivered ? kSuccess
                                                                                                       : kInsufficientBuffers;
    });
    synic.connect_event_port(guest::kEventConnection, [&synic](std::uint16_t flag) {
      synic.signal_event({0}, guest::kEventSource, flag == 0 ? guest::kEventFlag : guest::kOtherEventFlag);
    }, nullptr);
    return {};
  }

  /// Of a guest that moves: what the software processor has, without the features that the other engine lacks here.
  Result<cpu::CpuidTable> guest_cpuid() {
    const bool takes_other = options_.other_engine != nullptr && options_.other_engine->name() == "software";
    BYGONE_ASSIGN(cpu::CpuidTable table, takes_other ? options_.other_engine->supported_cpuid() : engine_.supported_cpuid());
    if (options_.other_engine != nullptr) {
      BYGONE_ASSIGN(const cpu::CpuidTable other, takes_other ? engine_.supported_cpuid() : options_.other_engine->supported_cpuid());
      keep_common_features(table, other);
    }
    cpu::CpuidResult features = table.query(1, 0);
    features.ecx |= kHypervisorPresent;
    features.ebx = (features.ebx & 0xFF00FFFF) | header_.processors << 16;
    table.remove(1);
    table.set({1, std::nullopt, features});
    return table;
  }

  Result<void> hand_over() {
    const guest::BootInfo info{.processors = header_.processors,
                               .flags = options_.is_emulated_processor ? guest::kFlagEmulatedProcessor : 0,
                               .memory_bytes = memory_.total_bytes(),
                               .tsc_hz = partition_->tsc_frequency(),
                               .apic_timer_hz = partition_->apic_timer_frequency()};
    BYGONE_CHECK(memory_.write_object({guest::kBootInfo}, info));
    BYGONE_CHECK(memory_.write({guest::kHypercallPage}, partition_->hypercall_code()));
    cpu::Vcpu& first = partition_->vcpu(cpu::VpIndex{0});
    cpu::SystemRegisters system;
    cpu::GeneralRegisters general;
    general.rip = load_address() + header_.entry;
    general[cpu::Gpr::kRsp] = guest::kStackTop;
    switch (header_.mode) {
      case guest::EntryMode::kLong: {
        BYGONE_ASSIGN(system, cpu::prepare_long_mode(memory_, {guest::kPageTables}, {guest::kDescriptors}));
        break;
      }
      case guest::EntryMode::kProtected: {
        BYGONE_ASSIGN(system, cpu::prepare_protected_mode(memory_, {guest::kDescriptors}));
        break;
      }
      case guest::EntryMode::kReal:
        system = cpu::prepare_real_mode(guest::kRealImage >> 4);
        general.rip = header_.entry;
        general[cpu::Gpr::kRsp] = 0xFFF0;
        break;
    }
    BYGONE_CHECK(first.set_system_registers(system));
    return first.set_general_registers(general);
  }

  /// With the lock held and the guest running: stops it, takes its whole state to a partition of the engine where it is not, and
  /// lets it go on there.
  Result<void> move(std::unique_lock<std::mutex>& lock) {
    constexpr std::chrono::seconds kParkingLimit(20);
    wants_pause_ = true;
    const auto asked = std::chrono::steady_clock::now();
    for (std::uint32_t i = 0; i < header_.processors; ++i) partition_->vcpu({i}).kick();
    const bool has_parked = done_.wait_for(lock, kParkingLimit, [this] { return is_done_ || parked_.size() == header_.processors; });
    if (!has_parked) {
      std::string missing;
      for (std::uint32_t i = 0; i < header_.processors; ++i) {
        if (!parked_.contains(i)) missing += fmt::format(" {}", i);
      }
      return fail(ErrorCode::kInternal, "processors{} did not stop within {} s", missing, kParkingLimit.count());
    }
    slowest_stop_ = std::max(slowest_stop_, std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - asked));
    auto outcome = is_done_ ? Result<void>() : move_parked();
    wants_pause_ = false;
    done_.notify_all();
    return outcome;
  }

  Result<void> move_parked() {
    timers_.pause();
    if (hypervisor_) hypervisor_->pause();
    std::vector<cpu::VcpuState> states;
    for (std::uint32_t i = 0; i < header_.processors; ++i) {
      auto state = partition_->vcpu({i}).save_state();
      if (!state && state.error().code == ErrorCode::kBusy) {  // in the middle of an instruction: not now
        if (hypervisor_) hypervisor_->resume();
        timers_.resume();
        return {};
      }
      if (!state) return std::unexpected(std::move(state).error());
      states.push_back(*std::move(state));
    }
    const nlohmann::json hypervisor = hypervisor_ ? hypervisor_->save() : nlohmann::json();
    hypervisor_.reset();
    partition_.reset();
    is_elsewhere_ = !is_elsewhere_;
    BYGONE_CHECK(create_partition(is_elsewhere_ ? *options_.other_engine : engine_));
    cpu::align_time_stamps(states, partition_->tsc_frequency());
    for (std::uint32_t i = 0; i < header_.processors; ++i) BYGONE_CHECK(partition_->vcpu({i}).restore_state(states[i]));
    // The way out of the guest is each engine's own.
    BYGONE_CHECK(memory_.write({guest::kHypercallPage}, partition_->hypercall_code()));
    if (hypervisor_) {
      hypervisor_->pause();
      BYGONE_CHECK(hypervisor_->restore(hypervisor));
      hypervisor_->resume();
    }
    timers_.resume();
    ++moves_;
    return {};
  }

  void run_processor(std::uint32_t index) {
    while (!is_done()) {
      {
        std::unique_lock lock(mutex_);
        if (wants_pause_) {
          parked_.insert(index);
          done_.notify_all();
          done_.wait(lock, [this] { return is_done_ || !wants_pause_; });
          parked_.erase(index);
          if (is_done_) return;
        }
      }
      cpu::Vcpu& vcpu = partition_->vcpu(cpu::VpIndex{index});
      auto exit = vcpu.run();
      if (!exit) return end("the engine failed: " + exit.error().text());
      std::visit([this, &vcpu](auto& each) { handle(vcpu, each); }, **exit);
      if (const auto failures = devices_.finished()) {
        return end(*failures == 0 ? judge_ending(guest::Ending::kFinish) : fmt::format("{} checks failed", *failures));
      }
    }
  }

  template <typename T>
    requires requires(TestDevices& devices, T& exit) { devices.handle(exit); }
  void handle(cpu::Vcpu& /*vcpu*/, T& exit) {
    devices_.handle(exit);
  }
  void handle(cpu::Vcpu& /*vcpu*/, cpu::InterruptedExit&) {}
  void handle(cpu::Vcpu& vcpu, cpu::MsrExit& exit) {
    const bool is_answered = hypervisor_ && (exit.is_write ? hypervisor_->write_msr(vcpu.index(), exit)
                                                           : hypervisor_->read_msr(vcpu.index(), exit));
    if (!is_answered) devices_.handle(exit);
  }
  void handle(cpu::Vcpu& vcpu, cpu::HypercallExit& exit) {
    if (hypervisor_) {
      hypervisor_->handle_hypercall(vcpu.index(), exit);
    } else {
      TestDevices::handle(exit);
    }
  }
  void handle(cpu::Vcpu& /*vcpu*/, cpu::HaltExit&) { std::this_thread::sleep_for(std::chrono::microseconds(100)); }
  void handle(cpu::Vcpu& vcpu, cpu::ShutdownExit&) {
    std::string why = judge_ending(guest::Ending::kShutdown);
    if (!why.empty()) why += fmt::format(" on processor {}", vcpu.index().value);
    end(std::move(why));
  }
  void handle(cpu::Vcpu& /*vcpu*/, cpu::DebugExit& exit) { end(fmt::format("a breakpoint at {:#x}", exit.rip)); }
  void handle(cpu::Vcpu& /*vcpu*/, cpu::UnrecoverableExit& exit) { end("unrecoverable: " + exit.dump); }

  [[nodiscard]] std::string judge_ending(guest::Ending ending) const {
    if (devices_.expected_ending() == ending) return {};
    return ending == guest::Ending::kShutdown ? "a triple fault" : "a triple fault was expected";
  }

  [[nodiscard]] bool is_done() {
    const std::lock_guard lock(mutex_);
    return is_done_;
  }
  void end(std::string reason) {
    const std::lock_guard lock(mutex_);
    end_locked(std::move(reason));
  }
  void end_locked(std::string reason) {
    if (std::exchange(is_done_, true)) return;
    reason_ = std::move(reason);
    done_.notify_all();
  }

  /// Empty when the engine does not say.
  [[nodiscard]] std::map<std::string, std::uint64_t> registers() {
    constexpr std::array kNames = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
    constexpr std::array kSegments = {"es", "cs", "ss", "ds", "fs", "gs"};
    constexpr std::uint64_t kArithmetic = 0xCD5;  // CF PF AF ZF SF DF OF
    cpu::Vcpu& vcpu = partition_->vcpu(cpu::VpIndex{0});
    const auto general = vcpu.general_registers();
    const auto system = vcpu.system_registers();
    std::map<std::string, std::uint64_t> found;
    if (!general || !system) return found;
    for (std::size_t i = 0; i < kNames.size(); ++i) found[kNames[i]] = general->gpr[i];
    for (std::size_t i = 0; i < kSegments.size(); ++i) found[kSegments[i]] = system->segments[i].selector;
    found["flags"] = general->rflags & kArithmetic;
    found["cr0"] = system->cr0;
    found["cr2"] = system->cr2;
    found["cr3"] = system->cr3;
    found["cr4"] = system->cr4;
    found["efer"] = system->efer;
    return found;
  }

  [[nodiscard]] std::string describe_processors() {
    std::string text;
    for (std::uint32_t i = 0; i < header_.processors; ++i) {
      cpu::Vcpu& vcpu = partition_->vcpu(cpu::VpIndex{i});
      const auto general = vcpu.general_registers();
      if (general) text += fmt::format("; processor {} at rip {:#x}", i, general->rip);
    }
    return text;
  }

  static constexpr std::uint32_t kMaximumMoves = 12;
  static constexpr std::chrono::milliseconds kBetweenMoves{30};

  cpu::Engine& engine_;
  const RunOptions& options_;
  memory::GuestMemory memory_;
  guest::ImageHeader header_ = {};
  ThreadTimerService timers_;
  std::unique_ptr<cpu::Partition> partition_;
  std::unique_ptr<hyperv::Hypervisor> hypervisor_;
  TestDevices devices_{[this](const cpu::InterruptRequest& request) { partition_->request_interrupt(request); }};

  std::mutex mutex_;
  std::condition_variable done_;
  bool is_done_ = false;  // guarded by mutex_, as all below
  bool wants_pause_ = false;
  bool is_elsewhere_ = false;  // on the other engine
  std::set<std::uint32_t> parked_;
  std::uint32_t moves_ = 0;
  std::chrono::milliseconds slowest_stop_{0};
  std::string reason_;  // empty: passed
};

}  // namespace

Result<GuestOutcome> run_guest(cpu::Engine& engine, const std::vector<std::byte>& image, const RunOptions& options) {
  GuestMachine machine(engine, options);
  BYGONE_CHECK(machine.load(image));
  return machine.run();
}

}  // namespace bygone::guest_tests
