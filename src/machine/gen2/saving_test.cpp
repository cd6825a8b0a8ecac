// Saved state of a whole machine on the software engine. The guest is a few instructions that count and add up.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "disk/open.h"
#include "firmware/linux/testing_kernel.h"
#include "machine/engine_choice.h"
#include "machine/gen2/machine.h"
#include "support/file.h"

namespace bygone::machine::gen2 {
namespace {

constexpr std::uint64_t kCounter = 0x400000;

/// A "kernel" whose only work is: count in RBX, add the counts up in RCX and in XMM0, show the count at kCounter.
std::vector<std::byte> counting_kernel() {
  constexpr std::uint8_t kCode[] = {
      0x31, 0xDB,                                      // xor ebx, ebx
      0x31, 0xC9,                                      // xor ecx, ecx
      0x66, 0x0F, 0xEF, 0xC0,                          // pxor xmm0, xmm0
      0x48, 0xFF, 0xC3,                                // again: inc rbx
      0x48, 0x01, 0xD9,                                // add rcx, rbx
      0x66, 0x48, 0x0F, 0x6E, 0xCB,                    // movq xmm1, rbx
      0x66, 0x0F, 0xD4, 0xC1,                          // paddq xmm0, xmm1
      0x48, 0x89, 0x1C, 0x25, 0x00, 0x00, 0x40, 0x00,  // mov [0x400000], rbx
      0xEB, 0xE7,                                      // jmp again
  };
  return firmware::testing_kernel(kCode);
}

class Saving : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "bygone-saving-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    ASSERT_TRUE(replace_file(kernel(), counting_kernel()));
    auto engine = choose_engine("software", Log{});
    ASSERT_TRUE(engine) << engine.error().text();
    engine_ = std::move(*engine);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::filesystem::path kernel() const { return folder_ / "kernel"; }
  [[nodiscard]] std::filesystem::path state() const { return folder_ / "machine.state"; }
  [[nodiscard]] MachineOptions options() const {
    MachineOptions options;
    options.engine = engine_.get();
    options.memory_bytes = 64 << 20;
    options.boot = DirectBoot{kernel(), {}, ""};
    options.com1.kind = SerialOptions::Kind::kNull;
    return options;
  }
  [[nodiscard]] MachineOptions resumed() const {
    MachineOptions result = options();
    result.saved_state = state();
    return result;
  }
  static std::uint64_t count(Machine& machine) { return machine.guest_memory().read_object<std::uint64_t>({kCounter}).value(); }
  /// Waits until the guest has counted further than `past`.
  static void wait_for_count(Machine& machine, std::uint64_t past) {
    for (int i = 0; i < 30'000 && count(machine) <= past; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_GT(count(machine), past);
  }
  /// Whether what the stopped guest has added up is what counting gives.
  static void check_sums(Machine& machine) {
    const auto state = machine.partition().vcpu({0}).save_state();
    ASSERT_TRUE(state) << state.error().text();
    const std::uint64_t number = state->general[cpu::Gpr::kRbx], sum = state->general[cpu::Gpr::kRcx];
    // In the middle of a round the newest number may not have been added yet.
    const std::uint64_t whole = number * (number + 1) / 2;
    EXPECT_TRUE(sum == whole || sum == whole - number) << number << " " << sum;
    std::uint64_t vector_sum = 0;
    std::memcpy(&vector_sum, state->extended.xsave.data() + 160, sizeof vector_sum);
    EXPECT_TRUE(vector_sum == whole || vector_sum == whole - number) << number << " " << vector_sum;
  }
  /// Starts a machine, lets it count and saves it. Returns the count.
  std::uint64_t save_one(MachineOptions with) {
    auto machine = Machine::create(std::move(with));
    EXPECT_TRUE(machine) << machine.error().text();
    EXPECT_TRUE((*machine)->start());
    wait_for_count(**machine, 100'000);
    const auto saved = (*machine)->save(state());
    EXPECT_TRUE(saved) << saved.error().text();
    return count(**machine);
  }

  std::filesystem::path folder_;
  std::unique_ptr<cpu::Engine> engine_;
};

TEST_F(Saving, machine_goes_on_where_it_was_saved) {
  const std::uint64_t before = save_one(options());
  const auto file = read_file(state(), 64 << 20).value();
  for (int round = 0; round < 2; ++round) {  // the file serves again: nothing changes it
    auto machine = Machine::create(resumed());
    ASSERT_TRUE(machine) << machine.error().text();
    EXPECT_EQ(count(**machine), before);
    ASSERT_TRUE((*machine)->start());
    wait_for_count(**machine, before + 100'000);
    (*machine)->pause();
    check_sums(**machine);
  }
  EXPECT_EQ(read_file(state(), 64 << 20).value(), file);
}

TEST_F(Saving, several_processors_come_back) {
  MachineOptions with = options();
  with.processors = 3;
  const std::uint64_t before = save_one(std::move(with));
  MachineOptions again = resumed();
  again.processors = 3;
  auto machine = Machine::create(std::move(again));
  ASSERT_TRUE(machine) << machine.error().text();
  const auto waiting = (*machine)->partition().vcpu({2}).save_state();
  ASSERT_TRUE(waiting);
  EXPECT_EQ(waiting->events.activity, cpu::ActivityState::kWaitForSipi);
  ASSERT_TRUE((*machine)->start());
  wait_for_count(**machine, before + 1);
}

TEST_F(Saving, saved_machine_runs_on_when_told_to) {
  auto machine = Machine::create(options());
  ASSERT_TRUE(machine);
  ASSERT_TRUE((*machine)->start());
  wait_for_count(**machine, 1000);
  ASSERT_TRUE((*machine)->save(state()));
  const std::uint64_t before = count(**machine);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(count(**machine), before);
  (*machine)->resume();
  wait_for_count(**machine, before);
}

TEST_F(Saving, failed_save_leaves_a_running_machine_and_no_file) {
  auto machine = Machine::create(options());
  ASSERT_TRUE(machine);
  ASSERT_TRUE((*machine)->start());
  wait_for_count(**machine, 1000);
  EXPECT_FALSE((*machine)->save(folder_ / "no such folder" / "state"));
  const auto cancelled = (*machine)->save(state(), [](std::uint64_t, std::uint64_t) { return false; });
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(std::filesystem::exists(state()));
  wait_for_count(**machine, count(**machine));
}

TEST_F(Saving, other_machine_is_refused_with_the_reason) {
  save_one(options());
  const auto reason = [&](auto change) {
    MachineOptions with = resumed();
    change(with);
    auto machine = Machine::create(std::move(with));
    return machine ? std::string("it was accepted") : machine.error().text();
  };
  EXPECT_NE(reason([](auto& with) { with.memory_bytes = 128 << 20; }).find("64 MiB of memory and has 128"), std::string::npos);
  EXPECT_NE(reason([](auto& with) { with.processors = 2; }).find("1 processors and has 2"), std::string::npos);
  EXPECT_NE(reason([](auto& with) { with.profile = GuestProfile::kWindows; }).find("guest profile"), std::string::npos);
  EXPECT_NE(reason([](auto& with) { with.com1.kind = SerialOptions::Kind::kNone; }).find("com1"), std::string::npos);
  EXPECT_NE(reason([](auto& with) { with.com2.kind = SerialOptions::Kind::kNull; }).find("com2"), std::string::npos);
}

TEST_F(Saving, disk_written_since_is_refused) {
  const std::filesystem::path image = folder_ / "disk.raw";
  std::ofstream(image) << std::string(1 << 20, 'a');
  const auto with_disk = [&](MachineOptions with) {
    auto opened = disk::open_disk(image.string(), {});
    EXPECT_TRUE(opened) << opened.error().text();
    with.disks.push_back({std::move(*opened), false});
    return with;
  };
  save_one(with_disk(options()));
  {
    auto machine = Machine::create(with_disk(resumed()));
    ASSERT_TRUE(machine) << machine.error().text();
  }
  EXPECT_FALSE(Machine::create(resumed()));  // without the disk
  std::fstream(image, std::ios::in | std::ios::out) << "b";
  auto machine = Machine::create(with_disk(resumed()));
  ASSERT_FALSE(machine);
  EXPECT_NE(machine.error().message.find("disk 0 has been written"), std::string::npos) << machine.error().text();
  MachineOptions rescue = with_disk(resumed());
  rescue.accepts_changed_disks = true;
  EXPECT_TRUE(Machine::create(std::move(rescue)));
}

TEST_F(Saving, damaged_file_is_refused) {
  save_one(options());
  auto bytes = read_file(state(), 64 << 20).value();
  bytes[bytes.size() / 2] ^= std::byte{1};
  ASSERT_TRUE(replace_file(state(), bytes));
  const auto machine = Machine::create(resumed());
  ASSERT_FALSE(machine);
  EXPECT_EQ(machine.error().code, ErrorCode::kCorrupt) << machine.error().text();
}

TEST_F(Saving, manifest_tells_what_the_machine_needs) {
  save_one(options());
  const auto manifest = read_saved_manifest(state());
  ASSERT_TRUE(manifest);
  EXPECT_EQ(manifest->at("memory_bytes"), 64 << 20);
  EXPECT_EQ(manifest->at("processors"), 1);
}

}  // namespace
}  // namespace bygone::machine::gen2
