// Disks of a Linux guest: every byte that is read is what was written, whatever happens meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "disk/open.h"
#include "linux_guest.h"

namespace bygone::tests {
namespace {

using namespace std::chrono_literals;

class StorageOnLinux : public testing::Test {
 protected:
  StorageOnLinux() {
    std::string name = (std::filesystem::temp_directory_path() / "linux-disks.XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~StorageOnLinux() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path disk(const std::string& name, std::uint64_t bytes) {
    make_disk(folder_ / name, bytes);
    return folder_ / name;
  }
  std::filesystem::path folder_;
};

std::shared_ptr<disk::BlockDevice> open_image(const std::filesystem::path& path) {
  auto device = disk::open_disk(path.string(), {});
  EXPECT_TRUE(device) << device.error().text();
  return device ? std::shared_ptr<disk::BlockDevice>(std::move(*device)) : nullptr;
}

/// Shows less of a disk than there is, until it grows.
class GrowingDevice final : public disk::BlockDevice {
 public:
  explicit GrowingDevice(std::shared_ptr<disk::BlockDevice> whole) : whole_(std::move(whole)) {}
  [[nodiscard]] disk::BlockDeviceInfo info() const override {
    auto info = whole_->info();
    info.size_bytes = shown;
    return info;
  }
  void submit(disk::BlockRequest request) override { whole_->submit(std::move(request)); }
  std::atomic<std::uint64_t> shown = 64 << 20;

 private:
  std::shared_ptr<disk::BlockDevice> whole_;
};

TEST_F(StorageOnLinux, files_and_disks_hold_what_was_written) {
  // tests/long/storage asks for more.
  const char* asked = std::getenv("BYGONE_COPY_MEBIBYTES");
  const std::uint64_t copy = (asked != nullptr ? std::strtoull(asked, nullptr, 10) : 32) << 20;
  const auto limit = asked != nullptr ? 3600s : 240s;
  const auto image = disk("data.vhdx", 3 * copy + (128 << 20));
  LinuxGuest guest({.modules = {"hv_storvsc", "sd_mod", "ext4"}, .disks = {image}});
  ASSERT_TRUE(guest.is_up());
  guest.run(std::string(kWaitFor) + "wait_for '[ -e /dev/sda ]'; mkfs.ext4 -q /dev/sda && mount -t ext4 /dev/sda /mnt");
  guest.run("disk_check fsx /mnt/file 2000000 400 1");
  guest.run(fmt::format("disk_check fill /mnt/big {0} 7 && sync && echo 3 > /proc/sys/vm/drop_caches && disk_check check /mnt/big {0} 7", copy), limit);
  guest.run("md5sum /mnt/big > /tmp/sum && cp /mnt/big /mnt/copy && umount /mnt && mount -t ext4 /dev/sda /mnt && "
            "[ \"$(md5sum < /mnt/copy)\" = \"$(md5sum < /mnt/big)\" ]", limit);
  guest.run("umount /mnt && disk_check churn /dev/sda 67108864 5 3");
}

TEST_F(StorageOnLinux, disks_come_and_go_under_load) {
  const auto first = disk("first.vhdx", 128 << 20), second = disk("second.vhdx", 64 << 20);
  LinuxGuest guest({.modules = {"hv_storvsc", "sd_mod"}, .disks = {first}});
  ASSERT_TRUE(guest.is_up());
  guest.run(std::string(kWaitFor) + "wait_for '[ -e /dev/sda ]'");
  const UniqueFd load = guest.start("disk_check churn /dev/sda 67108864 12 5");
  for (int round = 0; round < 3; ++round) {
    guest.machine().storage().attach_disk(1, open_image(second));
    guest.run(std::string(kWaitFor) + "wait_for '[ -e /dev/sdb ]'; [ $(blockdev --getsize64 /dev/sdb) = 67108864 ];"
              "disk_check fill /dev/sdb 4194304 9 && disk_check check /dev/sdb 4194304 9");
    guest.machine().storage().detach(1);
    guest.run(std::string(kWaitFor) + "wait_for '! [ -e /dev/sdb ]'");
  }
  // One that is taken away while it works: errors for the guest, nothing else.
  guest.machine().storage().attach_disk(1, open_image(second));
  guest.run(std::string(kWaitFor) + "wait_for '[ -e /dev/sdb ]'");
  const UniqueFd doomed = guest.start("disk_check churn /dev/sdb 67108864 30 6 || echo ended");
  guest.run("sleep 1");
  guest.machine().storage().detach(1);
  EXPECT_THAT(read_all(doomed, 240s), testing::HasSubstr("ended"));
  EXPECT_THAT(read_all(load, 240s), testing::HasSubstr("guest-status 0")) << "the disk that stayed";
}

TEST_F(StorageOnLinux, a_new_size_is_seen) {
  const auto image = disk("grows.raw", 96 << 20);
  LinuxGuest guest({.modules = {"hv_storvsc", "sd_mod"}, .disks = {}});
  ASSERT_TRUE(guest.is_up());
  const auto device = std::make_shared<GrowingDevice>(open_image(image));
  guest.machine().storage().attach_disk(3, device);
  guest.run(std::string(kWaitFor) + "wait_for '[ -e /dev/sda ]'");
  device->shown = 96 << 20;
  guest.machine().storage().announce_resize(3);
  guest.run(std::string(kWaitFor) + "wait_for '[ $(blockdev --getsize64 /dev/sda) = 100663296 ]'; disk_check fill /dev/sda 100663296 2");
}

}  // namespace
}  // namespace bygone::tests
