// Saving and restoring a controller.
#include <thread>

#include "devices/storage/testing_storage.h"

namespace bygone::devices::storage {
namespace {

TEST_F(StorageTest, saved_state_continues_with_replies_that_found_no_room) {
  controller_.attach_disk(0, disk_);
  connect(wire::kStorageVersion6_2, {.ring_pages = 2});
  for (std::uint64_t id = 1; id <= 60; ++id) {
    start({0x00}, 0, id);
    guest_.run();
  }
  const auto cbor = nlohmann::json::to_cbor(controller_.save().value());
  StorageController fresh({"scsi0", {}, 3}, guest_.loop());
  fresh.attach_disk(0, disk_);
  guest_.run();
  ASSERT_TRUE(fresh.restore(nlohmann::json::from_cbor(cbor)));
  EXPECT_EQ(fresh.save().value()["phase"], controller_.save().value()["phase"]);
  StorageController without({"scsi0", {}, 3}, guest_.loop());
  EXPECT_EQ(without.restore(nlohmann::json::from_cbor(cbor)).error().code, ErrorCode::kNotFound);
  auto reopened = guest_.open(fresh, {.ring_pages = 9, .is_restored = true});
  reopened->signal();
  start({0x00}, 0, 99, 0, 0, reopened.get());
  int replies = 0;
  while (next(reopened.get())) ++replies;
  EXPECT_GE(replies, 1);
  EXPECT_EQ(last_id_, 99U);
}

TEST_F(StorageTest, saving_waits_for_requests_in_flight_and_their_answers_go_out_before) {
  auto held = std::make_shared<HeldBlockDevice>(8 << 20);
  controller_.attach_disk(0, held);
  connect();
  for (std::uint64_t id = 1; id <= 8; ++id) start(cdb10(Opcode::kRead10, static_cast<std::uint32_t>(id), 1), 512, id);
  guest_.run();
  ASSERT_EQ(held->held.size(), 8U);
  std::jthread image([&] { held->release(); });
  const auto state = controller_.save().value();
  EXPECT_EQ(controller_.inspect()["in_flight"], 0);
  StorageController fresh({"scsi0", {}, 3}, guest_.loop());
  fresh.attach_disk(0, held);
  guest_.run();
  ASSERT_TRUE(fresh.restore(nlohmann::json::from_cbor(nlohmann::json::to_cbor(state))));
  std::vector<bool> seen(9);
  while (const auto reply = channel_->try_receive()) seen.at(reply->transaction_id()) = true;
  EXPECT_EQ(std::ranges::count(seen, true), 8) << "what was in flight lies in the ring that the restored guest reads";
}

TEST_F(StorageTest, saving_beside_an_image_that_does_not_answer_fails_and_harms_nothing) {
  auto held = std::make_shared<HeldBlockDevice>(8 << 20);
  StorageController controller({.name = "scsi0", .instance = {}, .save_limit = std::chrono::milliseconds(1)}, guest_.loop());
  controller.attach_disk(0, held);
  channel_ = guest_.open(controller, {.ring_pages = 9});
  ASSERT_EQ(control(StorageOperation::kBeginInitialization), 0U);
  ASSERT_EQ(control(StorageOperation::kQueryProtocolVersion, le16(wire::kStorageVersion6_2)), 0U);
  ASSERT_EQ(control(StorageOperation::kQueryProperties), 0U);
  ASSERT_EQ(control(StorageOperation::kEndInitialization), 0U);
  start(cdb10(Opcode::kRead10, 0, 1), 512, 1);
  guest_.run();
  EXPECT_EQ(controller.save().error().code, ErrorCode::kBusy);
  held->release();
  EXPECT_TRUE(next());
  EXPECT_TRUE(controller.save());
  channel_->close();
}

TEST_F(StorageTest, saved_drives_and_disks_remember_what_the_guest_has_not_heard) {
  controller_.attach_disk(0, disk_);
  controller_.attach_dvd(1, {});
  connect();
  EXPECT_TRUE(execute({0x1E, 0, 0, 0, 1}, 0, 1).is_good());
  controller_.announce_resize(0);
  controller_.insert_medium(1, {std::make_shared<MemoryBlockDevice>(8 << 20)});
  guest_.run();
  const auto state = nlohmann::json::from_cbor(nlohmann::json::to_cbor(controller_.save().value()));
  StorageController fresh({"scsi0", {}, 3}, guest_.loop());
  fresh.attach_disk(0, disk_);
  fresh.attach_dvd(1, {std::make_shared<MemoryBlockDevice>(8 << 20)});
  guest_.run();
  ASSERT_TRUE(fresh.restore(state));
  const auto old = std::move(channel_);
  channel_ = guest_.open(fresh, {.ring_pages = 9, .is_restored = true});
  while (channel_->receive()) {
  }
  expect_sense(execute({0x00}), scsi::kSenseUnitAttention, scsi::kCapacityChanged);
  expect_sense(execute({0x00}, 0, 1), scsi::kSenseUnitAttention, scsi::kMediumMayHaveChanged);
  EXPECT_EQ(fresh.inspect()["luns"]["1"]["locked"], true);
  EXPECT_TRUE(execute({0x00}, 0, 1).is_good());
  channel_->close();
}

}  // namespace
}  // namespace bygone::devices::storage
