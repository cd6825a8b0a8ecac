#include "hyperv/hypervisor.h"

#include <gtest/gtest.h>

#include <cstring>

#include "hyperv/fake_partition.h"
#include "spec/tlfs/messages.h"
#include "support/manual_clock.h"
#include "support/multiply_divide.h"

namespace bygone::hyperv {
namespace {

using namespace std::chrono_literals;
using cpu::VpIndex;
using spec::tlfs::HvStatus;
using spec::tlfs::HypercallCode;
using spec::tlfs::Msr;

constexpr std::uint64_t kLinuxId = 0x8100000000060100;

class HypervisorTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(memory_.add_ram({0}, 1 << 20));
    create(*FeatureSet::profile("linux"));
  }
  void create(FeatureSet features, std::uint32_t vps = 4) {
    HypervisorOptions options;
    options.memory = &memory_;
    options.partition = &partition_;
    options.timers = &time_;
    options.vp_count = vps;
    options.features = features;
    options.crashed = [this](const CrashReport& report) { crash_ = report; };
    options.reset = [this] { ++resets_; };
    auto created = Hypervisor::create(std::move(options));
    ASSERT_TRUE(created);
    hypervisor_ = std::move(*created);
  }
  std::optional<std::uint64_t> read(Msr msr, std::uint32_t vp = 0) {
    cpu::MsrExit exit{.index = static_cast<std::uint32_t>(msr)};
    EXPECT_TRUE(hypervisor_->read_msr(VpIndex{vp}, exit));
    return exit.fault ? std::nullopt : std::optional(exit.value);
  }
  bool write(Msr msr, std::uint64_t value, std::uint32_t vp = 0) {
    cpu::MsrExit exit{.index = static_cast<std::uint32_t>(msr), .is_write = true, .value = value};
    EXPECT_TRUE(hypervisor_->write_msr(VpIndex{vp}, exit));
    return !exit.fault;
  }
  static Msr sint(unsigned number) { return static_cast<Msr>(static_cast<std::uint32_t>(Msr::kSint0) + number); }
  static Msr timer_config(unsigned n) { return static_cast<Msr>(static_cast<std::uint32_t>(Msr::kTimer0Configuration) + n * 2); }
  static Msr timer_count(unsigned n) { return static_cast<Msr>(static_cast<std::uint32_t>(Msr::kTimer0Configuration) + n * 2 + 1); }
  void enable_hypercalls() {
    ASSERT_TRUE(write(Msr::kGuestOsId, kLinuxId));
    ASSERT_TRUE(write(Msr::kHypercall, 0x8001));
  }
  void enable_synic(std::uint32_t vp = 0) {
    ASSERT_TRUE(write(Msr::kMessagePage, 0x10001 + vp * 0x2000, vp));
    ASSERT_TRUE(write(Msr::kEventFlagsPage, 0x11001 + vp * 0x2000, vp));
    ASSERT_TRUE(write(sint(2), 0x200F3, vp));  // auto-EOI, vector 0xF3
  }
  cpu::HypercallExit call(std::uint64_t control, std::uint64_t input = 0x1000, std::uint64_t output = 0x2000) {
    cpu::HypercallExit exit;
    exit.control = control;
    exit.input = input;
    exit.output = output;
    hypervisor_->handle_hypercall(VpIndex{0}, exit);
    return exit;
  }
  static std::uint64_t control(HypercallCode code, bool fast = false, std::uint32_t banks = 0, std::uint64_t reps = 0, std::uint64_t start = 0) {
    return static_cast<std::uint64_t>(code) | std::uint64_t{fast} << 16 | std::uint64_t{banks} << 17 | reps << 32 | start << 48;
  }
  template <typename T>
  void put(std::uint64_t address, const T& object) {
    ASSERT_TRUE(memory_.write_object({address}, object));
  }
  template <typename T>
  T get(std::uint64_t address) {
    return memory_.read_object<T>({address}).value();
  }

  memory::GuestMemory memory_;
  ManualTimerService time_;
  FakePartition partition_{time_.clock()};
  std::optional<CrashReport> crash_;
  int resets_ = 0;
  std::unique_ptr<Hypervisor> hypervisor_;
};

// ---- CPUID ----

TEST(Features, leaves_announce_what_the_profile_has) {
  cpu::CpuidTable table;
  table.set({1, std::nullopt, {.ecx = 1}});
  table.set({0x40000100, std::nullopt, {.eax = 1}});  // another hypervisor's signature would win in Linux
  add_cpuid_leaves(table, *FeatureSet::profile("linux"));
  EXPECT_EQ(table.query(1, 0).ecx, 0x80000001U);
  EXPECT_EQ(table.find(0x40000100, 0), nullptr);
  const cpu::CpuidResult vendor = table.query(0x40000000, 0);
  EXPECT_GE(vendor.eax, 0x40000005U);
  const std::array<std::uint32_t, 3> name = {vendor.ebx, vendor.ecx, vendor.edx};
  EXPECT_EQ(std::memcmp(name.data(), "Microsoft Hv", 12), 0);
  EXPECT_EQ(table.query(0x40000001, 0).eax, 0x31237648U);
  const cpu::CpuidResult features = table.query(0x40000003, 0);
  EXPECT_EQ(features.eax & 0xA6E, 0xA6EU);           // counter, SynIC, timers, hypercalls, VP index, TSC page, frequencies
  EXPECT_EQ(features.eax & 1U << 15, 0U);
  EXPECT_EQ(features.ebx & 0x401000U, 0U);           // no CPU management, no isolation
  EXPECT_EQ(features.edx & 0x80510U, 0x80510U);      // XMM input, frequencies, crash, direct timers
  EXPECT_NE(table.query(0x40000004, 0).eax & 1U << 9, 0U);
}

TEST(Features, profiles_change_by_name_and_unknown_names_are_explained) {
  const FeatureSet set = *FeatureSet::parse("linux,-tlb-flush,+tsc-invariant");
  EXPECT_FALSE(set.has(Feature::kTlbFlush));
  EXPECT_TRUE(set.has(Feature::kTscInvariant));
  EXPECT_TRUE(set.has(Feature::kClusterIpi));
  EXPECT_NE(FeatureSet::parse("beos").error().hint.find("legacy-windows"), std::string::npos);
  EXPECT_NE(FeatureSet::parse("linux,+warp").error().hint.find("direct-timers"), std::string::npos);
  EXPECT_EQ(FeatureSet::parse("linux,tlb-flush").error().code, ErrorCode::kInvalidArgument);
}

TEST(Features, profile_may_be_given_beside_its_changes) {
  EXPECT_EQ(FeatureSet::parse("", "windows").value(), FeatureSet::profile("windows").value());
  EXPECT_EQ(FeatureSet::parse("-reset", "legacy-windows").value(), FeatureSet::parse("legacy-windows,-reset").value());
  EXPECT_EQ(FeatureSet::parse("none,+reset", "linux").value(), FeatureSet().add(Feature::kReset));
  EXPECT_TRUE(FeatureSet::parse("none")->is_empty());
  for (const char* text : {"legacy-windows,-tlb-flush,+auto-eoi", "+auto-eoi", "none,+auto-eoi"}) {
    EXPECT_EQ(FeatureSet::parse_additions(text).value(), FeatureSet().add(Feature::kAutoEoi)) << text;
  }
  for (const char* text : {"", "legacy-windows", "none,-reset"}) EXPECT_TRUE(FeatureSet::parse_additions(text)->is_empty()) << text;
}

TEST(Features, auto_eoi_is_advised_against_when_it_is_not_there) {
  cpu::CpuidTable table;
  add_cpuid_leaves(table, *FeatureSet::parse("linux"));
  EXPECT_NE(table.query(0x40000004, 0).eax & 1U << 9, 0U);
}

// ---- registers ----

TEST_F(HypervisorTest, hypercall_page_lies_over_ram_and_gives_it_back) {
  put<std::uint32_t>(0x8000, 0xAABBCCDD);
  ASSERT_TRUE(write(Msr::kHypercall, 0x8001));
  EXPECT_EQ(read(Msr::kHypercall), 0x8000U);  // not without a guest id
  ASSERT_TRUE(write(Msr::kGuestOsId, kLinuxId));
  ASSERT_TRUE(write(Msr::kHypercall, 0x8001));
  EXPECT_EQ(get<std::uint32_t>(0x8000), 0xC3C1010FU);
  EXPECT_FALSE(write(Msr::kHypercall, 0x100000001));  // no RAM there
  EXPECT_EQ(read(Msr::kHypercall), 0x8001U);
  ASSERT_TRUE(write(Msr::kGuestOsId, 0));
  EXPECT_EQ(get<std::uint32_t>(0x8000), 0xAABBCCDDU);
  EXPECT_TRUE(call(control(HypercallCode::kNotifyLongSpinWait, true)).fault);
}

TEST_F(HypervisorTest, locked_hypercall_page_stays) {
  ASSERT_TRUE(write(Msr::kGuestOsId, kLinuxId));
  ASSERT_TRUE(write(Msr::kHypercall, 0x8003));
  EXPECT_FALSE(write(Msr::kHypercall, 0x9001));
  EXPECT_EQ(read(Msr::kHypercall), 0x8003U);
}

TEST_F(HypervisorTest, identity_registers_answer_and_unknown_ones_fault) {
  EXPECT_EQ(read(Msr::kVpIndex, 3), 3U);
  EXPECT_FALSE(write(Msr::kVpIndex, 1));
  EXPECT_EQ(read(Msr::kTscFrequency), 2'500'000'000U);
  EXPECT_EQ(read(Msr::kApicFrequency), 1'000'000'000U);
  EXPECT_FALSE(write(Msr::kTscFrequency, 1));
  EXPECT_EQ(read(static_cast<Msr>(0x40000106)), std::nullopt);
  EXPECT_FALSE(write(static_cast<Msr>(0x40000085), 0));
  EXPECT_EQ(read(Msr::kTscInvariantControl), std::nullopt);
  EXPECT_EQ(read(Msr::kEoi), std::nullopt);
  cpu::MsrExit foreign{.index = 0x10};
  EXPECT_FALSE(hypervisor_->read_msr(VpIndex{0}, foreign));
}

TEST_F(HypervisorTest, reference_time_counts_and_the_page_agrees) {
  time_.advance(3s);
  EXPECT_NEAR(static_cast<double>(*read(Msr::kReferenceTime)), 30'000'000.0, 1.0);
  ASSERT_TRUE(write(Msr::kReferenceTsc, 0x9001));
  const auto page = get<spec::tlfs::ReferenceTscPage>(0x9000);
  ASSERT_NE(page.sequence, 0U);
  time_.advance(12345us);
  EXPECT_EQ(multiply_high(partition_.guest_tsc(), page.scale) + page.offset, *read(Msr::kReferenceTime));
}

TEST_F(HypervisorTest, time_stands_still_across_a_pause_even_when_the_tsc_runs) {
  ASSERT_TRUE(write(Msr::kReferenceTsc, 0x9001));
  const auto before = get<spec::tlfs::ReferenceTscPage>(0x9000);
  time_.advance(1s);
  hypervisor_->pause();
  const std::uint64_t at_pause = *read(Msr::kReferenceTime);
  partition_.tsc_base += 5'000'000'000;
  EXPECT_EQ(*read(Msr::kReferenceTime), at_pause);
  hypervisor_->resume();
  EXPECT_EQ(*read(Msr::kReferenceTime), at_pause);
  const auto after = get<spec::tlfs::ReferenceTscPage>(0x9000);
  EXPECT_NE(after.sequence, before.sequence);
  EXPECT_EQ(multiply_high(partition_.guest_tsc(), after.scale) + after.offset, at_pause);
}

TEST_F(HypervisorTest, reset_and_crash_reach_the_machine) {
  ASSERT_TRUE(write(Msr::kReset, 1));
  EXPECT_EQ(resets_, 1);
  EXPECT_EQ(read(Msr::kCrashControl), 3ULL << 62);
  const char text[] = "Kernel panic";
  put(0x3000, text);
  ASSERT_TRUE(write(Msr::kCrashParameter0, 0xDEAD));
  ASSERT_TRUE(write(static_cast<Msr>(0x40000103), 0x3000));
  ASSERT_TRUE(write(Msr::kCrashParameter4, 1 << 30));  // far too long
  ASSERT_TRUE(write(Msr::kCrashControl, 3ULL << 62, 1));
  ASSERT_TRUE(crash_);
  EXPECT_EQ(crash_->vp.value, 1U);
  EXPECT_EQ(crash_->parameters[0], 0xDEADU);
  EXPECT_EQ(crash_->message, "Kernel panic");
}

// ---- SynIC ----

TEST_F(HypervisorTest, synic_registers_have_their_reset_values_and_rules) {
  EXPECT_EQ(read(Msr::kSynicControl), 1U);
  EXPECT_EQ(read(Msr::kSynicVersion), 1U);
  EXPECT_EQ(read(sint(15)), 0x10000U);
  EXPECT_FALSE(write(sint(3), 0x0F));  // vectors below 16 only while masked
  EXPECT_TRUE(write(sint(3), 0x1000F));
  EXPECT_FALSE(write(Msr::kMessagePage, 0xFFFFFFFFF001));
  EXPECT_FALSE(write(Msr::kSynicVersion, 2));
}

TEST_F(HypervisorTest, message_goes_into_its_slot_and_interrupts) {
  enable_synic(1);
  const std::array<std::byte, 5> payload = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}, std::byte{5}};
  EXPECT_EQ(hypervisor_->synic().post_message(VpIndex{1}, 2, 7, payload), PostOutcome::kDelivered);
  EXPECT_EQ(partition_.take(), "int1:f3a ");
  const auto header = get<spec::tlfs::MessageHeader>(0x12000 + 512);
  EXPECT_EQ(header.type, 7U);
  EXPECT_EQ(header.payload_bytes, 5);
  EXPECT_EQ(get<std::uint8_t>(0x12000 + 512 + 16 + 4), 5);
}

TEST_F(HypervisorTest, busy_slot_is_flagged_and_its_end_told) {
  enable_synic();
  std::string freed;
  hypervisor_->synic().set_slot_free_handler([&](VpIndex vp, std::uint8_t source) { freed += fmt::format("{}:{} ", vp.value, source); });
  ASSERT_EQ(hypervisor_->synic().post_message(VpIndex{0}, 2, 7, {}), PostOutcome::kDelivered);
  EXPECT_EQ(hypervisor_->synic().post_message(VpIndex{0}, 2, 8, {}), PostOutcome::kSlotBusy);
  EXPECT_EQ(get<std::uint8_t>(0x10000 + 512 + 5), 1);
  EXPECT_EQ(get<std::uint32_t>(0x10000 + 512), 7U);
  put<std::uint32_t>(0x10000 + 512, 0);  // the guest takes the message
  ASSERT_TRUE(write(Msr::kEndOfMessage, 0));
  EXPECT_EQ(freed, "0:2 ");
  EXPECT_EQ(hypervisor_->synic().post_message(VpIndex{0}, 2, 8, {}), PostOutcome::kDelivered);
  EXPECT_EQ(get<std::uint8_t>(0x10000 + 512 + 5), 0);
  ASSERT_TRUE(write(Msr::kEndOfMessage, 0));
  EXPECT_EQ(freed, "0:2 ");  // nobody waited
}

TEST_F(HypervisorTest, nothing_is_posted_where_nothing_is_enabled) {
  EXPECT_EQ(hypervisor_->synic().post_message(VpIndex{0}, 2, 7, {}), PostOutcome::kNotEnabled);
  enable_synic();
  ASSERT_TRUE(write(sint(2), 0x100F3));
  EXPECT_EQ(hypervisor_->synic().post_message(VpIndex{0}, 2, 7, {}), PostOutcome::kNotEnabled);
  ASSERT_TRUE(write(sint(2), 0xF3));
  ASSERT_TRUE(write(Msr::kSynicControl, 0));
  EXPECT_EQ(hypervisor_->synic().post_message(VpIndex{0}, 2, 7, {}), PostOutcome::kNotEnabled);
  EXPECT_EQ(hypervisor_->synic().post_message(VpIndex{9}, 2, 7, {}), PostOutcome::kNotEnabled);
  hypervisor_->synic().signal_event(VpIndex{0}, 2, 5);
  EXPECT_EQ(partition_.take(), "");
}

TEST_F(HypervisorTest, event_interrupts_only_when_its_flag_was_clear) {
  enable_synic();
  hypervisor_->synic().signal_event(VpIndex{0}, 2, 33);
  hypervisor_->synic().signal_event(VpIndex{0}, 2, 33);
  EXPECT_EQ(partition_.take(), "int0:f3a ");
  EXPECT_EQ(get<std::uint64_t>(0x11000 + 512), 1ULL << 33);
  hypervisor_->synic().signal_event(VpIndex{0}, 2, 2047);
  EXPECT_EQ(partition_.take(), "int0:f3a ");
  EXPECT_EQ(get<std::uint8_t>(0x11000 + 512 + 255), 0x80);
}

TEST_F(HypervisorTest, engine_without_auto_eoi_gets_plain_interrupts) {
  partition_.has_auto_eoi = false;
  enable_synic();
  hypervisor_->synic().signal_event(VpIndex{0}, 2, 1);
  EXPECT_EQ(partition_.take(), "int0:f3 ");
}

TEST_F(HypervisorTest, message_page_keeps_its_content_when_it_moves) {
  put<std::uint32_t>(0x20000, 0x11111111);
  enable_synic();
  ASSERT_EQ(hypervisor_->synic().post_message(VpIndex{0}, 2, 7, {}), PostOutcome::kDelivered);
  ASSERT_TRUE(write(Msr::kMessagePage, 0x20001));
  EXPECT_EQ(get<std::uint32_t>(0x20000 + 512), 7U);
  EXPECT_EQ(get<std::uint32_t>(0x10000 + 512), 0U);
  ASSERT_TRUE(write(Msr::kMessagePage, 0x20000));
  EXPECT_EQ(get<std::uint32_t>(0x20000), 0x11111111U);
}

TEST_F(HypervisorTest, each_processor_has_an_assist_page_of_its_own_until_a_reset) {
  put<std::uint32_t>(0x20000, 0x11111111);
  put<std::uint32_t>(0x22000, 0x22222222);
  ASSERT_TRUE(write(Msr::kVpAssistPage, 0x20001, 0));
  ASSERT_TRUE(write(Msr::kVpAssistPage, 0x22001, 2));
  EXPECT_EQ(read(Msr::kVpAssistPage, 2), 0x22001U);
  EXPECT_EQ(read(Msr::kVpAssistPage, 1), 0U);
  EXPECT_EQ(get<std::uint32_t>(0x20000), 0U) << "an overlay begins with zeros: no EOI is saved by it";
  EXPECT_FALSE(write(Msr::kVpAssistPage, 0x100000001)) << "no RAM there";
  EXPECT_EQ(read(Msr::kVpAssistPage), 0x20001U);
  put<std::uint32_t>(0x20004, 5);
  ASSERT_TRUE(write(Msr::kVpAssistPage, 0x21001));
  EXPECT_EQ(get<std::uint32_t>(0x21004), 5U) << "its content goes where it goes";
  EXPECT_EQ(get<std::uint32_t>(0x20000), 0x11111111U);
  ASSERT_TRUE(write(Msr::kVpAssistPage, 0x22000, 2));
  EXPECT_EQ(get<std::uint32_t>(0x22000), 0x22222222U);
  hypervisor_->reset();
  EXPECT_EQ(read(Msr::kVpAssistPage), 0U);
}

/// An engine that does one thing: it notes what is repeated to it.
class RecordingEngine final : public cpu::HypervisorFacilities {
 public:
  explicit RecordingEngine(cpu::FacilitySet active) : active_(active) {}
  [[nodiscard]] cpu::FacilitySet active() const override { return active_; }
  [[nodiscard]] Result<void> set_register(VpIndex vp, std::uint32_t index, std::uint64_t value) override {
    told += fmt::format("{}:{:x}={:x} ", vp.value, index, value);
    return {};
  }
  [[nodiscard]] Result<std::uint64_t> get_register(VpIndex, std::uint32_t) override { return 0; }
  void raise(VpIndex, std::uint8_t) override {}
  void hold(VpIndex) override {}
  void release(VpIndex) override {}
  [[nodiscard]] std::uint64_t reference_time() const override { return 0; }
  [[nodiscard]] Result<void> set_reference_time(std::uint64_t) override { return {}; }
  [[nodiscard]] Result<void> connect_event(std::uint32_t, std::function<void()>, EventLoop*) override { return {}; }
  void disconnect_event(std::uint32_t) override {}
  std::string take() { return std::exchange(told, {}); }
  std::string told;

 private:
  const cpu::FacilitySet active_;
};

TEST_F(HypervisorTest, assist_page_is_repeated_to_an_engine_that_ends_interrupts_there) {
  RecordingEngine engine(cpu::FacilitySet().add(cpu::Facility::kApicRegisters));
  partition_.engine = &engine;
  create(FeatureSet().add(Feature::kApicRegisters), 2);
  EXPECT_EQ(engine.take(), "0:40000073=0 1:40000073=0 ");
  ASSERT_TRUE(write(Msr::kVpAssistPage, 0x20001, 1));
  EXPECT_EQ(engine.take(), "1:40000073=20001 ");
  ASSERT_TRUE(write(Msr::kVpAssistPage, 0x22001, 0));
  EXPECT_EQ(engine.take(), "0:40000073=22001 ");
  EXPECT_FALSE(write(Msr::kVpAssistPage, 0x100000001, 0)) << "no RAM there";
  EXPECT_EQ(engine.take(), "");
  EXPECT_FALSE(write(Msr::kEoi, 0)) << "the engine's alone";
  EXPECT_FALSE(read(Msr::kIcr));
  const auto saved = hypervisor_->save();
  hypervisor_->reset();
  EXPECT_EQ(engine.take(), "0:40000073=0 1:40000073=0 ");
  ASSERT_TRUE(hypervisor_->restore(saved));
  EXPECT_EQ(engine.take(), "0:40000073=22001 1:40000073=20001 ");
  // A guest that was not told of the registers ends its interrupts in its APIC.
  create(FeatureSet(), 1);
  ASSERT_TRUE(write(Msr::kVpAssistPage, 0x20001));
  EXPECT_EQ(engine.take(), "");
  hypervisor_.reset();
}

// ---- synthetic timers ----

TEST_F(HypervisorTest, direct_timer_fires_once_and_rearms_by_its_count) {
  ASSERT_TRUE(write(timer_config(0), 1 << 12 | 0xEB << 4 | 1 << 3));  // direct, auto-enable
  ASSERT_TRUE(write(timer_count(0), *read(Msr::kReferenceTime) + 10'000));
  EXPECT_EQ(*read(timer_config(0)) & 1, 1U);
  time_.advance(999us);
  EXPECT_EQ(partition_.take(), "");
  time_.advance(2us);
  EXPECT_EQ(partition_.take(), "int0:eb ");
  EXPECT_EQ(*read(timer_config(0)) & 1, 0U);
  ASSERT_TRUE(write(timer_count(0), 1));  // in the past: at once
  EXPECT_EQ(partition_.take(), "int0:eb ");
}

TEST_F(HypervisorTest, periodic_message_timer_merges_what_the_guest_missed) {
  enable_synic(2);
  ASSERT_TRUE(write(timer_config(1), 2 << 16 | 3, 2));
  ASSERT_TRUE(write(timer_count(1), 10'000, 2));
  time_.advance(1001us);
  EXPECT_EQ(partition_.take(), "int2:f3a ");
  const std::uint64_t slot = 0x14000 + 512;
  EXPECT_EQ(get<std::uint32_t>(slot), 0x80000010U);
  auto message = get<spec::tlfs::TimerMessage>(slot + 16);
  EXPECT_EQ(message.timer_index, 1U);
  EXPECT_GE(message.delivery_time, message.expiration_time);
  time_.advance(5ms);  // the slot is taken all the while
  EXPECT_EQ(partition_.take(), "");
  put<std::uint32_t>(slot, 0);
  ASSERT_TRUE(write(Msr::kEndOfMessage, 0, 2));
  EXPECT_EQ(partition_.take(), "int2:f3a ");
  ASSERT_TRUE(write(timer_count(1), 0, 2));
  put<std::uint32_t>(slot, 0);
  time_.advance(10ms);
  EXPECT_EQ(partition_.take(), "");
}

TEST_F(HypervisorTest, timer_without_a_target_does_not_start) {
  ASSERT_TRUE(write(timer_config(0), 1));  // message mode to source 0
  EXPECT_EQ(read(timer_config(0)), 0U);
  ASSERT_TRUE(write(timer_config(0), 1 << 12 | 5 << 4 | 1));  // vector 5
  EXPECT_EQ(*read(timer_config(0)) & 1, 0U);
  EXPECT_FALSE(write(timer_config(0), 1ULL << 40));
  create(*FeatureSet::parse("linux,-direct-timers"));
  EXPECT_FALSE(write(timer_config(0), 1 << 12 | 0xEB << 4 | 1));
}

TEST_F(HypervisorTest, absurdly_short_period_is_bounded) {
  ASSERT_TRUE(write(timer_config(0), 1 << 12 | 0xEB << 4 | 3));
  ASSERT_TRUE(write(timer_count(0), 1));
  time_.advance(10ms);
  EXPECT_LE(partition_.take().size(), 101 * std::strlen("int0:eb "));
}

// ---- hypercalls ----

TEST_F(HypervisorTest, malformed_hypercalls_get_their_status) {
  enable_hypercalls();
  const auto status = [&](std::uint64_t word, std::uint64_t input = 0x1000) { return static_cast<HvStatus>(call(word, input).result & 0xFFFF); };
  EXPECT_EQ(status(0x7777), HvStatus::kInvalidHypercallCode);
  EXPECT_EQ(status(control(HypercallCode::kPostMessage) | 1ULL << 31), HvStatus::kInvalidHypercallInput);
  EXPECT_EQ(status(control(HypercallCode::kPostMessage), 0x1004), HvStatus::kInvalidAlignment);
  EXPECT_EQ(status(control(HypercallCode::kPostMessage), 0x1F08), HvStatus::kInvalidAlignment);  // crosses a page
  EXPECT_EQ(status(control(HypercallCode::kPostMessage), ~0xFFFULL), HvStatus::kInvalidParameter);
  EXPECT_EQ(status(control(HypercallCode::kPostMessage, true)), HvStatus::kInvalidHypercallInput);
  EXPECT_EQ(status(control(HypercallCode::kPostMessage, false, 0, 1)), HvStatus::kInvalidHypercallInput);
  EXPECT_EQ(status(control(HypercallCode::kPostMessage, false, 1)), HvStatus::kInvalidHypercallInput);
  EXPECT_EQ(status(control(HypercallCode::kFlushVirtualAddressList)), HvStatus::kInvalidHypercallInput);
  EXPECT_EQ(status(control(HypercallCode::kFlushVirtualAddressList, false, 0, 2, 2)), HvStatus::kInvalidHypercallInput);
  EXPECT_EQ(status(control(HypercallCode::kFlushVirtualAddressList, false, 0, 0xFFF)), HvStatus::kInvalidAlignment);
  EXPECT_EQ(partition_.take(), "");
}

TEST_F(HypervisorTest, posted_message_reaches_its_port) {
  enable_hypercalls();
  std::string got;
  hypervisor_->synic().connect_message_port(1, [&](VpIndex vp, std::uint32_t type, std::span<const std::byte> payload) -> std::uint16_t {
    got += fmt::format("{}:{}:{} ", vp.value, type, payload.size());
    return 0x13;
  });
  spec::tlfs::PostMessageInput input = {};
  input.connection_id = 1;
  input.message_type = 1;
  input.payload_bytes = 240;
  put(0x1000, input);
  EXPECT_EQ(call(control(HypercallCode::kPostMessage)).result, 0x13U);
  EXPECT_EQ(got, "0:1:240 ");
  input.payload_bytes = 241;
  put(0x1000, input);
  EXPECT_EQ(call(control(HypercallCode::kPostMessage)).result, 5U);
  input.payload_bytes = 1;
  input.message_type = 0x80000010;  // the hypervisor's own
  put(0x1000, input);
  EXPECT_EQ(call(control(HypercallCode::kPostMessage)).result, 5U);
  input.message_type = 1;
  input.connection_id = 2;
  put(0x1000, input);
  EXPECT_EQ(call(control(HypercallCode::kPostMessage)).result, 0x12U);
  hypervisor_->synic().disconnect_message_port(1);
  input.connection_id = 1;
  put(0x1000, input);
  EXPECT_EQ(call(control(HypercallCode::kPostMessage)).result, 0x12U);
}

TEST_F(HypervisorTest, signal_reaches_its_port_from_registers_and_memory) {
  enable_hypercalls();
  std::string got;
  hypervisor_->synic().connect_event_port(0x2001, [&](std::uint16_t flag) { got += fmt::format("{} ", flag); }, nullptr);
  EXPECT_EQ(call(control(HypercallCode::kSignalEvent, true), 0x0000'0003'0000'2001).result, 0U);
  put<std::uint64_t>(0x1000, 0x0000'0007'0000'2001);
  EXPECT_EQ(call(control(HypercallCode::kSignalEvent)).result, 0U);
  EXPECT_EQ(got, "3 7 ");
  EXPECT_EQ(call(control(HypercallCode::kSignalEvent, true), 0x0000'0800'0000'2001).result, 5U);
  hypervisor_->synic().disconnect_event_port(0x2001);
  EXPECT_EQ(call(control(HypercallCode::kSignalEvent, true), 0x2001).result, 0x12U);
}

TEST_F(HypervisorTest, flush_names_processors_by_mask_set_or_all) {
  enable_hypercalls();
  spec::tlfs::FlushInput input = {};
  input.processor_mask = 0xFFFFFFFFFFFFFF0AULL;  // those that do not exist are nobody
  put(0x1000, input);
  EXPECT_EQ(call(control(HypercallCode::kFlushVirtualAddressSpace)).result, 0U);
  EXPECT_EQ(partition_.take(), "flush:13 ");
  EXPECT_EQ(call(control(HypercallCode::kFlushVirtualAddressList, false, 0, 7)).result, 7ULL << 32);
  EXPECT_EQ(partition_.take(), "flush:13 ");
  input.flags = 1;
  put(0x1000, input);
  call(control(HypercallCode::kFlushVirtualAddressSpace));
  EXPECT_EQ(partition_.take(), "flush:0123 ");

  spec::tlfs::FlushExInput wide = {};
  wide.processors.valid_banks = 1;
  put(0x1000, wide);
  put<std::uint64_t>(0x1020, 0b0110);
  EXPECT_EQ(call(control(HypercallCode::kFlushVirtualAddressSpaceEx, false, 1)).result, 0U);
  EXPECT_EQ(partition_.take(), "flush:12 ");
  EXPECT_EQ(call(control(HypercallCode::kFlushVirtualAddressSpaceEx, false, 2)).result, 3U);  // banks and header disagree
  EXPECT_EQ(call(control(HypercallCode::kFlushVirtualAddressListEx, false, 1, 3)).result, 3ULL << 32);
  partition_.take();
  wide.processors.format = 1;
  put(0x1000, wide);
  call(control(HypercallCode::kFlushVirtualAddressSpaceEx));
  EXPECT_EQ(partition_.take(), "flush:0123 ");
  wide.processors.format = 2;
  put(0x1000, wide);
  EXPECT_EQ(call(control(HypercallCode::kFlushVirtualAddressSpaceEx)).result, 5U);
}

TEST_F(HypervisorTest, ipi_goes_to_the_set_and_bad_vectors_to_nobody) {
  enable_hypercalls();
  EXPECT_EQ(call(control(HypercallCode::kSendSyntheticClusterIpi, true), 0xFD, 0b1001).result, 0U);
  EXPECT_EQ(partition_.take(), "ipi0:fd ipi3:fd ");
  EXPECT_EQ(call(control(HypercallCode::kSendSyntheticClusterIpi, true), 0x0F, 1).result, 5U);
  EXPECT_EQ(call(control(HypercallCode::kSendSyntheticClusterIpi, true), 0x100, 1).result, 5U);
  spec::tlfs::SendIpiExInput input = {};
  input.vector = 0x40;
  input.processors.valid_banks = 0b10;  // only processors from 64 on
  put(0x1000, input);
  EXPECT_EQ(call(control(HypercallCode::kSendSyntheticClusterIpiEx, false, 1)).result, 0U);
  EXPECT_EQ(partition_.take(), "");
}

TEST_F(HypervisorTest, xmm_registers_carry_input_only_when_offered) {
  enable_hypercalls();
  cpu::HypercallExit exit;
  exit.control = control(HypercallCode::kFlushVirtualAddressSpace, true);
  exit.xmm[0][0] = 0b0100;  // the processor mask follows two registers
  hypervisor_->handle_hypercall(VpIndex{0}, exit);
  EXPECT_EQ(exit.result, 0U);
  EXPECT_EQ(partition_.take(), "flush:2 ");
  create(*FeatureSet::parse("linux,-xmm-hypercalls"));
  enable_hypercalls();
  hypervisor_->handle_hypercall(VpIndex{0}, exit);
  EXPECT_EQ(exit.result, 3U);
}

TEST_F(HypervisorTest, registers_are_read_by_hypercall) {
  enable_hypercalls();
  spec::tlfs::VpRegistersInput input = {};
  input.partition_id = spec::tlfs::kPartitionIdSelf;
  input.vp_index = 2;
  put(0x1000, input);
  put<std::uint32_t>(0x1010, 0x00090003);
  put<std::uint32_t>(0x1014, 0x00090002);
  put<std::uint32_t>(0x1018, 0x1234);
  EXPECT_EQ(call(control(HypercallCode::kGetVpRegisters, false, 0, 3)).result, 5U | 2ULL << 32);
  EXPECT_EQ(get<std::uint64_t>(0x2000), 2U);
  EXPECT_EQ(get<std::uint64_t>(0x2010), kLinuxId);
  EXPECT_EQ(call(control(HypercallCode::kSetVpRegisters, false, 0, 1)).result, 6U);
}

// ---- state ----

TEST_F(HypervisorTest, saved_state_continues_in_another_hypervisor) {
  enable_hypercalls();
  enable_synic();
  ASSERT_TRUE(write(Msr::kReferenceTsc, 0x9001));
  ASSERT_TRUE(write(timer_config(0), 1 << 12 | 0xEB << 4 | 1 << 3));
  ASSERT_TRUE(write(timer_count(0), *read(Msr::kReferenceTime) + 10'000));
  ASSERT_EQ(hypervisor_->synic().post_message(VpIndex{0}, 2, 7, {}), PostOutcome::kDelivered);
  ASSERT_EQ(hypervisor_->synic().post_message(VpIndex{0}, 2, 8, {}), PostOutcome::kSlotBusy);
  hypervisor_->pause();
  const nlohmann::json state = nlohmann::json::from_cbor(nlohmann::json::to_cbor(hypervisor_->save()));
  partition_.take();

  create(*FeatureSet::profile("linux"));
  hypervisor_->pause();
  const auto restored = hypervisor_->restore(state);
  ASSERT_TRUE(restored) << restored.error().text();
  EXPECT_TRUE(hypervisor_->save()["vps"] == state["vps"]);  // not EXPECT_EQ: it would print pages of bytes
  hypervisor_->resume();
  time_.advance(2ms);
  EXPECT_EQ(partition_.take(), "int0:eb ");
  bool freed = false;
  hypervisor_->synic().set_slot_free_handler([&](VpIndex, std::uint8_t) { freed = true; });
  ASSERT_TRUE(write(Msr::kEndOfMessage, 0));
  EXPECT_TRUE(freed);
  EXPECT_EQ(call(control(HypercallCode::kNotifyLongSpinWait, true)).result, 0U);
}

TEST_F(HypervisorTest, broken_state_changes_nothing) {
  enable_hypercalls();
  const nlohmann::json good = hypervisor_->save();
  for (const char* field : {"guest_os_id", "hypercall_page", "vps", "version"}) {
    nlohmann::json broken = good;
    broken.erase(field);
    EXPECT_FALSE(hypervisor_->restore(broken)) << field;
  }
  nlohmann::json broken = good;
  broken["vps"][3]["timers"][2]["configuration"] = ~0ULL;
  EXPECT_FALSE(hypervisor_->restore(broken));
  broken = good;
  broken["hypercall_page"]["page"] = 1ULL << 40;
  EXPECT_FALSE(hypervisor_->restore(broken));
  broken = good;
  broken["vps"].erase(0);
  EXPECT_FALSE(hypervisor_->restore(broken));
  EXPECT_TRUE(hypervisor_->save() == good);
}

TEST_F(HypervisorTest, reset_forgets_everything_but_the_ports) {
  enable_hypercalls();
  enable_synic();
  int signals = 0;
  hypervisor_->synic().connect_event_port(5, [&](std::uint16_t) { ++signals; }, nullptr);
  hypervisor_->reset();
  EXPECT_EQ(read(Msr::kGuestOsId), 0U);
  EXPECT_EQ(read(Msr::kMessagePage), 0U);
  EXPECT_TRUE(call(control(HypercallCode::kSignalEvent, true), 5).fault);
  enable_hypercalls();
  EXPECT_EQ(get<std::uint32_t>(0x8000), 0xC3C1010FU);
  call(control(HypercallCode::kSignalEvent, true), 5);
  EXPECT_EQ(signals, 1);
}

}  // namespace
}  // namespace bygone::hyperv
