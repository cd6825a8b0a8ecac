#include "firmware/uefi/boot_order.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "spec/uefi/handover.h"

namespace bygone::firmware {
namespace {

constexpr Guid kController = make_guid(1, 2, 3, {4, 5, 6, 7, 8, 9, 10, 11});
const VariableKey kOrder{spec::uefi::kGlobalVariable, u"BootOrder"};

BootDevice device(const char* name, std::uint8_t lun) { return {name, kController, lun}; }

VariableKey option(const char16_t* name) { return {spec::uefi::kGlobalVariable, name}; }

std::vector<int> order_of(const VariableStore& store) {
  std::vector<int> order;
  const Variable* variable = store.find(kOrder);
  if (variable == nullptr) return order;
  for (std::size_t i = 0; i + 1 < variable->data.size(); i += 2) {
    order.push_back(std::to_integer<int>(variable->data[i]) | std::to_integer<int>(variable->data[i + 1]) << 8);
  }
  return order;
}

TEST(BootOrder, device_path_has_the_length_that_its_nodes_say) {
  const auto path = device_path(device("Disk 1", 7));
  std::size_t at = 0;
  std::vector<int> types;
  while (at + 4 <= path.size()) {
    types.push_back(std::to_integer<int>(path[at]));
    at += std::to_integer<std::size_t>(path[at + 2]);
  }
  EXPECT_EQ(at, path.size());
  EXPECT_EQ(types, (std::vector{0x02, 0x01, 0x03, 0x7F}));
  EXPECT_EQ(path[24 + 52 + 6], std::byte{7});
}

TEST(BootOrder, new_devices_get_options_and_come_first) {
  VariableStore store;
  const BootDevice devices[] = {device("DVD 1", 1), device("Disk 1", 0)};
  ASSERT_TRUE(set_boot_order(store, devices));
  EXPECT_EQ(order_of(store), (std::vector{0, 1}));
  const Variable* dvd = store.find(option(u"Boot0000"));
  ASSERT_NE(dvd, nullptr);
  EXPECT_EQ(dvd->attributes, 7U);
  EXPECT_EQ(dvd->data[0], std::byte{1});  // active
  EXPECT_EQ(dvd->data[6], std::byte{'D'});
  const auto path = device_path(devices[0]);
  EXPECT_TRUE(std::ranges::equal(std::span(dvd->data).last(path.size()), path));
}

TEST(BootOrder, devices_keep_their_options_and_the_guests_options_follow) {
  VariableStore store;
  const BootDevice both[] = {device("Disk 1", 0), device("DVD 1", 1)};
  ASSERT_TRUE(set_boot_order(store, both));
  ASSERT_TRUE(store.set(option(u"Boot0002"), {7, std::vector<std::byte>(3)}));  // a guest's, malformed at that
  const std::uint16_t guests[] = {2, 0, 1};
  const auto bytes = std::as_bytes(std::span(guests));
  ASSERT_TRUE(store.set(kOrder, {7, {bytes.begin(), bytes.end()}}));

  const BootDevice dvd[] = {both[1]};
  ASSERT_TRUE(set_boot_order(store, dvd));
  EXPECT_EQ(order_of(store), (std::vector{1, 2, 0}));
  EXPECT_EQ(store.find(option(u"Boot0003")), nullptr);
}

TEST(BootOrder, option_with_an_unterminated_name_is_not_taken_for_the_device) {
  VariableStore store;
  std::vector<std::byte> endless(64, std::byte{'x'});
  ASSERT_TRUE(store.set(option(u"Boot0000"), {7, endless}));
  const BootDevice disk[] = {device("Disk 1", 0)};
  ASSERT_TRUE(set_boot_order(store, disk));
  EXPECT_EQ(order_of(store), (std::vector{1}));
}

}  // namespace
}  // namespace bygone::firmware
