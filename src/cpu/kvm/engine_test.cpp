#include "cpu/kvm/engine.h"

#include <gtest/gtest.h>

namespace bygone::cpu::kvm {
namespace {

TEST(KvmEngineTest, a_missing_device_is_unusable_with_a_hint) {
  const auto engine = create_engine({.device_path = "/no/such/device"});
  const EngineStatus status = engine->probe();
  EXPECT_FALSE(status.is_usable);
  EXPECT_NE(status.reason.find("/no/such/device"), std::string::npos);
  EXPECT_NE(status.hint.find("kvm_intel"), std::string::npos);
  EXPECT_EQ(engine->supported_cpuid().error().code, ErrorCode::kNotFound);
}

TEST(KvmEngineTest, another_device_is_no_kvm) {
  const auto engine = create_engine({.device_path = "/dev/null"});
  EXPECT_FALSE(engine->probe().is_usable);
  EXPECT_FALSE(engine->supported_cpuid());
  EXPECT_FALSE(engine->create_partition({}));
}

TEST(KvmEngineTest, has_the_name_that_users_type) { EXPECT_EQ(create_engine()->name(), "kvm"); }

}  // namespace
}  // namespace bygone::cpu::kvm
