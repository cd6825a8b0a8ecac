// Links: bygone_firmware
// A file of UEFI variables as somebody else left it. One that is accepted is written again and must then say the same.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "firmware/uefi/variable_store.h"
#include "support/file.h"

using namespace bygone;

namespace {

/// A folder in memory, if there is one, that goes with the process.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::exists("/dev/shm") ? "/dev/shm" : "/tmp") + std::string("/bygone-fuzz-XXXXXX");
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::filesystem::path file() const { return path_ / "variables"; }

 private:
  std::filesystem::path path_;
};

std::size_t count(const firmware::VariableStore& store) {
  std::size_t variables = 0;
  for (const auto* key = store.next(std::nullopt); key != nullptr; key = store.next(*key)) {
    if (store.find(*key) == nullptr) std::abort();
    ++variables;
  }
  return variables;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  const int fd = ::open(folder.file().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || ::write(fd, data, size) != static_cast<ssize_t>(size)) std::abort();
  ::close(fd);
  auto store = firmware::VariableStore::open(folder.file());
  if (!store) return 0;
  const std::size_t before = count(*store);
  const firmware::VariableKey key{{}, u"written by the fuzzer"};
  const bool is_new = store->find(key) == nullptr;
  if (!store->set(key, {7, std::vector<std::byte>(size % 100)})) return 0;  // it is full
  const auto again = firmware::VariableStore::open(folder.file());
  if (!again || count(*again) != before + (is_new ? 1 : 0) || again->used_bytes() != store->used_bytes()) std::abort();
  return 0;
}
