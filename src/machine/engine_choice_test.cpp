#include "machine/engine_choice.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <utility>

namespace bygone::machine {
namespace {

class FakeEngine final : public cpu::Engine {
 public:
  FakeEngine(std::string name, cpu::EngineStatus status, int* probes = nullptr, bool can_open = true)
      : name_(std::move(name)), status_(std::move(status)), probes_(probes), can_open_(can_open) {}
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] cpu::EngineStatus probe() override {
    if (probes_ != nullptr) ++*probes_;
    return status_;
  }
  [[nodiscard]] Result<cpu::CpuidTable> supported_cpuid() override {
    if (!can_open_) return fail(ErrorCode::kPermissionDenied, "closed");
    return cpu::CpuidTable{};
  }
  [[nodiscard]] Result<std::unique_ptr<cpu::Partition>> create_partition(cpu::PartitionOptions) override {
    return fail(ErrorCode::kUnsupported, "a fake");
  }

 private:
  std::string name_;
  cpu::EngineStatus status_;
  int* probes_;
  bool can_open_;
};

const cpu::EngineStatus kUsable{true, 1000, "fast", ""};
const cpu::EngineStatus kEmulated{false, 0.5, "kernel mode is emulated", "ask the owner"};
const cpu::EngineStatus kAbsent{false, 0, "no device", "load the module"};

std::vector<std::unique_ptr<cpu::Engine>> engines(const cpu::EngineStatus& kvm, const cpu::EngineStatus& software) {
  std::vector<std::unique_ptr<cpu::Engine>> list;
  list.push_back(std::make_unique<FakeEngine>("kvm", kvm));
  list.push_back(std::make_unique<FakeEngine>("software", software));
  return list;
}
const ProbeCache kNoCache({}, {});

TEST(EngineChoiceTest, auto_takes_the_first_that_is_usable) {
  EXPECT_EQ((*choose_engine(engines(kUsable, kUsable), "auto", kNoCache, Log()))->name(), "kvm");
  EXPECT_EQ((*choose_engine(engines(kEmulated, kUsable), "auto", kNoCache, Log()))->name(), "software");
}

// A program that cannot be interrupted because it has looked for a processor is of no use on a terminal.
TEST(EngineChoiceTest, measuring_the_real_engines_leaves_the_callers_signals_alone) {
  const auto blocked = [] {
    sigset_t now;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &now);
    std::vector<int> signals;
    for (int signal = 1; signal < SIGRTMAX; ++signal) {
      if (::sigismember(&now, signal) == 1) signals.push_back(signal);
    }
    return signals;
  };
  const std::vector<int> before = blocked();
  for (const auto& engine : create_engines()) {
    static_cast<void>(engine->probe());
    EXPECT_EQ(blocked(), before) << engine->name();
  }
}

TEST(EngineChoiceTest, a_named_engine_is_taken_or_refused_with_its_reason) {
  EXPECT_EQ((*choose_engine(engines(kUsable, kUsable), "software", kNoCache, Log()))->name(), "software");
  const auto refused = choose_engine(engines(kAbsent, kUsable), "kvm", kNoCache, Log());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().message.find("no device"), std::string::npos);
  EXPECT_EQ(refused.error().hint, "load the module");
}

TEST(EngineChoiceTest, a_slow_engine_asked_for_by_name_is_taken_with_a_warning) {
  std::string warnings;
  const Log log([&](LogLevel, std::string_view, std::string_view text) { warnings += text; });
  EXPECT_EQ((*choose_engine(engines(kEmulated, kUsable), "kvm", kNoCache, log))->name(), "kvm");
  EXPECT_NE(warnings.find("kernel mode is emulated"), std::string::npos);
}

TEST(EngineChoiceTest, no_usable_engine_names_every_reason) {
  const auto refused = choose_engine(engines(kAbsent, kEmulated), "auto", kNoCache, Log());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("no device"), std::string::npos);
  EXPECT_NE(refused.error().message.find("emulated"), std::string::npos);
  EXPECT_EQ(refused.error().hint, "load the module");
}

TEST(EngineChoiceTest, an_unknown_name_is_an_argument_error_that_lists_the_names) {
  const auto refused = choose_engine(engines(kUsable, kUsable), "hax", kNoCache, Log());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("auto, kvm, software"), std::string::npos);
}

class CachedEngineTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "engine-choice-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  [[nodiscard]] ProbeCache cache() const { return {directory_ / "engines.json", "host"}; }
  std::filesystem::path directory_;
};

TEST_F(CachedEngineTest, a_measured_engine_is_probed_once) {
  int probes = 0;
  FakeEngine engine("kvm", kEmulated, &probes);
  EXPECT_FALSE(engine_status(engine, cache()).is_usable);
  EXPECT_FALSE(engine_status(engine, cache()).is_usable);
  EXPECT_EQ(probes, 1);
}

TEST_F(CachedEngineTest, an_absent_engine_is_asked_each_time) {
  int probes = 0;
  FakeEngine engine("kvm", kAbsent, &probes);
  (void)engine_status(engine, cache());
  (void)engine_status(engine, cache());
  EXPECT_EQ(probes, 2);
}

TEST_F(CachedEngineTest, an_engine_that_was_usable_and_no_longer_opens_is_probed_again) {
  cache().keep("kvm", kUsable);
  int probes = 0;
  FakeEngine engine("kvm", kAbsent, &probes, /*can_open=*/false);
  EXPECT_FALSE(engine_status(engine, cache()).is_usable);
  EXPECT_EQ(probes, 1);
}

}  // namespace
}  // namespace bygone::machine
