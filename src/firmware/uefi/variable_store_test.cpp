#include "firmware/uefi/variable_store.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>

namespace bygone::firmware {
namespace {

const VariableKey kCounter{{}, u"Counter"};
constexpr std::uint32_t kAttributes = 7;

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "bygone-variables-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::filesystem::path file() const { return path_ / "variables"; }

 private:
  std::filesystem::path path_;
};

std::vector<std::byte> counter(std::uint32_t value) {
  std::vector<std::byte> data(4096);
  for (std::size_t at = 0; at < data.size(); at += sizeof value) std::memcpy(&data[at], &value, sizeof value);
  return data;
}

/// The number that fills the variable; nullopt when it is torn.
std::optional<std::uint32_t> read_counter(const std::filesystem::path& file) {
  const auto store = VariableStore::open(file);
  if (!store) return std::nullopt;
  const Variable* variable = store->find(kCounter);
  if (variable == nullptr) return 0;
  std::uint32_t value = 0;
  std::memcpy(&value, variable->data.data(), sizeof value);
  return variable->data == counter(value) ? std::optional(value) : std::nullopt;
}

[[noreturn]] void write_for_ever(const std::filesystem::path& file, std::uint32_t from, int finished) {
  auto store = VariableStore::open(file);
  if (!store) ::_exit(1);
  for (std::uint32_t value = from;; ++value) {
    if (!store->set(kCounter, {kAttributes, counter(value)})) ::_exit(2);
    if (::write(finished, &value, sizeof value) != sizeof value) ::_exit(3);
  }
}

TEST(VariableStorePowerCut, leaves_the_old_or_the_new_value_of_what_was_being_written) {
  const Folder folder;
  std::uint32_t last = 0;
  for (int round = 0; round < 30; ++round) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) write_for_ever(folder.file(), last + 1, pipe[1]);
    ::close(pipe[1]);
    // A few writes, then the plug at some point of the next one.
    std::uint32_t finished = last;
    for (int i = 0; i <= round % 3; ++i) ASSERT_EQ(::read(pipe[0], &finished, sizeof finished), 4);
    ::usleep(static_cast<useconds_t>(round) * 37);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    for (std::uint32_t value = 0; ::read(pipe[0], &value, sizeof value) == 4;) finished = value;
    ::close(pipe[0]);
    const auto found = read_counter(folder.file());
    ASSERT_TRUE(found.has_value()) << "torn in round " << round;
    EXPECT_GE(*found, finished) << "a finished write is lost in round " << round;
    EXPECT_LE(*found, finished + 1);
    last = *found;
  }
}

TEST(VariableStore, truncated_and_changed_files_are_refused_or_read_never_trusted) {
  const Folder folder;
  {
    auto store = VariableStore::open(folder.file());
    ASSERT_TRUE(store);
    ASSERT_TRUE(store->set(kCounter, {kAttributes, counter(7)}));
  }
  const auto size = std::filesystem::file_size(folder.file());
  for (std::uintmax_t keep = 0; keep < size; keep += 1 + size / 40) {
    std::filesystem::resize_file(folder.file(), keep);
    const auto store = VariableStore::open(folder.file());
    ASSERT_FALSE(store) << keep << " bytes";
    EXPECT_EQ(store.error().code, ErrorCode::kCorrupt);
    EXPECT_FALSE(store.error().hint.empty());
    std::filesystem::resize_file(folder.file(), size);
    ASSERT_TRUE(std::filesystem::remove(folder.file()));
    auto fresh = VariableStore::open(folder.file());
    ASSERT_TRUE(fresh);
    ASSERT_TRUE(fresh->set(kCounter, {kAttributes, counter(7)}));
  }
}

TEST(VariableStore, failed_write_changes_nothing) {
  const Folder folder;
  auto store = VariableStore::open(folder.file() / "no" / "such" / "folder");
  ASSERT_TRUE(store);
  EXPECT_FALSE(store->set(kCounter, {kAttributes, counter(1)}));
  EXPECT_EQ(store->find(kCounter), nullptr);
  EXPECT_EQ(store->used_bytes(), 0U);
}

}  // namespace
}  // namespace bygone::firmware
