#include "cpu/facilities.h"

#include <gtest/gtest.h>

namespace bygone::cpu {
namespace {

TEST(FacilitySetTest, names_come_back) {
  EXPECT_EQ(FacilitySet::all().text(), "synic,reference-time,timers,vp-index,hypercalls,event-signals,apic-registers");
  EXPECT_EQ(FacilitySet().text(), "none");
  EXPECT_EQ(FacilitySet::parse("all"), FacilitySet::all());
  EXPECT_EQ(FacilitySet::parse("none"), FacilitySet());
  EXPECT_EQ(FacilitySet::parse("synic,vp-index"), FacilitySet().add(Facility::kSynic).add(Facility::kVpIndex));
}

TEST(FacilitySetTest, an_unknown_name_is_told_the_names_there_are) {
  const auto refused = FacilitySet::parse("synic,clock");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNotFound);
  EXPECT_NE(refused.error().message.find("clock"), std::string::npos);
  EXPECT_NE(refused.error().hint.find("reference-time"), std::string::npos);
  EXPECT_FALSE(FacilitySet::parse(""));
}

TEST(FacilitySetTest, what_needs_another_goes_with_it) {
  EXPECT_EQ(FacilitySet::all().remove(Facility::kSynic).consistent(),
            FacilitySet().add(Facility::kReferenceTime).add(Facility::kVpIndex).add(Facility::kApicRegisters));
  EXPECT_EQ(FacilitySet::all().remove(Facility::kHypercalls).consistent(),
            FacilitySet::all().remove(Facility::kHypercalls).remove(Facility::kEventSignals));
  EXPECT_EQ(FacilitySet::all().consistent(), FacilitySet::all());
}

}  // namespace
}  // namespace bygone::cpu
