// Runs in a guest: exercises a file or a disk and compares every byte that is read with what was written.
//
//   disk_check fsx FILE BYTES OPERATIONS SEED     random writes, reads, truncations, mappings and syncs of a file, against a model
//   disk_check fill DEVICE BYTES SEED             writes a pattern that depends on place and seed, in 1 MiB pieces, and flushes
//   disk_check check DEVICE BYTES SEED            reads it back past the page cache
//   disk_check churn DEVICE BYTES SECONDS SEED    four threads write and read back aligned pieces of their own past the page cache
//
// Exit status 0: all was as it should be. 1: it was not, and standard output says where. 2: an operation failed.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kPiece = 1 << 20;
constexpr std::size_t kAlignment = 4096;

[[noreturn]] void fail(const char* what) {
  std::printf("disk_check: %s: %s\n", what, std::strerror(errno));
  std::fflush(stdout);
  std::_Exit(2);
}

[[noreturn]] void differ(const char* what, std::uint64_t offset) {
  std::printf("disk_check: %s differs at %llu\n", what, static_cast<unsigned long long>(offset));
  std::fflush(stdout);
  std::_Exit(1);
}

/// SplitMix64: the pattern's word at a place.
std::uint64_t word_at(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

struct Buffer {
  explicit Buffer(std::size_t bytes) : data(static_cast<std::uint8_t*>(std::aligned_alloc(kAlignment, bytes))), size(bytes) {}
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void fill(std::uint64_t seed, std::uint64_t offset, std::size_t length) const {
    for (std::size_t i = 0; i < length; i += 8) {
      const std::uint64_t word = word_at(seed, (offset + i) / 8);
      std::memcpy(data + i, &word, 8);
    }
  }
  std::uint8_t* data;
  std::size_t size;
};

int open_file(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags, 0600);
  if (fd < 0) fail(path.c_str());
  return fd;
}

void move_all(int fd, const std::uint8_t* data, std::size_t length, std::uint64_t offset, bool writes) {
  while (length > 0) {
    const ssize_t moved = writes ? ::pwrite(fd, data, length, static_cast<off_t>(offset))
                                 : ::pread(fd, const_cast<std::uint8_t*>(data), length, static_cast<off_t>(offset));
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) fail(writes ? "writing" : "reading");
    data += moved, offset += static_cast<std::uint64_t>(moved), length -= static_cast<std::size_t>(moved);
  }
}

int fill(const std::string& path, std::uint64_t bytes, std::uint64_t seed) {
  const int fd = open_file(path, O_RDWR | O_CREAT | O_DIRECT);
  const Buffer buffer(kPiece);
  for (std::uint64_t at = 0; at < bytes; at += kPiece) {
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, bytes - at));
    buffer.fill(seed, at, length);
    move_all(fd, buffer.data, length, at, true);
  }
  if (::fsync(fd) != 0) fail("fsync");
  return 0;
}

int check(const std::string& path, std::uint64_t bytes, std::uint64_t seed) {
  const int fd = open_file(path, O_RDONLY | O_DIRECT);
  const Buffer got(kPiece), wanted(kPiece);
  for (std::uint64_t at = 0; at < bytes; at += kPiece) {
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, bytes - at));
    move_all(fd, got.data, length, at, false);
    wanted.fill(seed, at, length);
    const auto [mine, theirs] = std::mismatch(got.data, got.data + length, wanted.data);
    if (mine != got.data + length) differ("the pattern", at + static_cast<std::uint64_t>(mine - got.data));
  }
  return 0;
}

int churn(const std::string& path, std::uint64_t bytes, int seconds, std::uint64_t seed) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  std::atomic<std::uint64_t> operations = 0;
  const auto work = [&](std::uint64_t first, std::uint64_t last, std::uint64_t own_seed) {
    const int fd = open_file(path, O_RDWR | O_DIRECT);
    std::mt19937_64 random(own_seed);
    constexpr std::size_t kBlock = 4096, kMost = 32;
    std::vector<std::uint64_t> seed_of((last - first) / kBlock, 0);  // 0: not written yet
    const Buffer buffer(kBlock * kMost), wanted(kBlock);
    while (std::chrono::steady_clock::now() < end) {
      const std::size_t count = 1 + random() % kMost;
      const std::size_t block = random() % (seed_of.size() - count + 1);
      const std::uint64_t offset = first + block * kBlock;
      if (random() % 2 == 0) {
        const std::uint64_t pattern = random() | 1;
        buffer.fill(pattern, offset, count * kBlock);
        move_all(fd, buffer.data, count * kBlock, offset, true);
        std::fill_n(seed_of.begin() + static_cast<std::ptrdiff_t>(block), count, pattern);
      } else {
        move_all(fd, buffer.data, count * kBlock, offset, false);
        for (std::size_t i = 0; i < count; ++i) {
          if (seed_of[block + i] == 0) continue;
          wanted.fill(seed_of[block + i], offset + i * kBlock, kBlock);
          if (std::memcmp(buffer.data + i * kBlock, wanted.data, kBlock) != 0) differ("a block", offset + i * kBlock);
        }
      }
      ++operations;
    }
    ::close(fd);
  };
  constexpr std::uint64_t kThreads = 4;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  const std::uint64_t share = bytes / kThreads / kAlignment * kAlignment;
  for (std::uint64_t i = 0; i < kThreads; ++i) threads.emplace_back(work, i * share, (i + 1) * share, seed + i);
  for (std::thread& thread : threads) thread.join();
  std::printf("%llu operations\n", static_cast<unsigned long long>(operations.load()));
  return operations > 0 ? 0 : 1;
}

/// The file system exerciser: what the file must hold is kept in memory.
int fsx(const std::string& path, std::size_t most, int operations, std::uint64_t seed) {
  const int fd = open_file(path, O_RDWR | O_CREAT | O_TRUNC);
  std::mt19937_64 random(seed);
  std::vector<std::uint8_t> model, buffer(most);
  const auto truncate_to = [&](std::size_t size) {
    if (::ftruncate(fd, static_cast<off_t>(size)) != 0) fail("ftruncate");
    model.resize(size);
  };
  for (int i = 0; i < operations; ++i) {
    const std::size_t offset = random() % most, length = 1 + random() % std::min<std::size_t>(65536, most - offset);
    switch (random() % 8) {
      case 0:
      case 1: {
        for (std::size_t j = 0; j < length; ++j) buffer[j] = static_cast<std::uint8_t>(random());
        move_all(fd, buffer.data(), length, offset, true);
        if (model.size() < offset + length) model.resize(offset + length);
        std::copy_n(buffer.begin(), length, model.begin() + static_cast<std::ptrdiff_t>(offset));
        break;
      }
      case 2: {
        if (model.size() < offset + length) truncate_to(offset + length);
        const std::size_t page = offset / 4096 * 4096;
        auto* map = static_cast<std::uint8_t*>(
            ::mmap(nullptr, offset - page + length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(page)));
        if (map == MAP_FAILED) fail("mmap");
        for (std::size_t j = 0; j < length; ++j) {
          if (map[offset - page + j] != model[offset + j]) differ("a mapping", offset + j);
          map[offset - page + j] = model[offset + j] = static_cast<std::uint8_t>(random());
        }
        ::munmap(map, offset - page + length);
        break;
      }
      case 3: truncate_to(random() % most); break;
      case 4:
        if (::fsync(fd) != 0) fail("fsync");
        break;
      case 5:  // what is read next comes from the disk
        if (::fdatasync(fd) != 0) fail("fdatasync");
        ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        break;
      default: {
        if (offset >= model.size()) break;
        const std::size_t there = std::min(length, model.size() - offset);
        move_all(fd, buffer.data(), there, offset, false);
        for (std::size_t j = 0; j < there; ++j) {
          if (buffer[j] != model[offset + j]) differ("the file", offset + j);
        }
      }
    }
    if (::lseek(fd, 0, SEEK_END) != static_cast<off_t>(model.size())) differ("the size", model.size());
  }
  return 0;
}

}  // namespace

int main(int count, char** words) {
  const std::vector<std::string> arguments(words + 1, words + count);
  const auto number = [&](std::size_t i) { return std::strtoull(arguments.at(i).c_str(), nullptr, 0); };
  if (arguments.size() == 5 && arguments[0] == "fsx") return fsx(arguments[1], number(2), static_cast<int>(number(3)), number(4));
  if (arguments.size() == 4 && arguments[0] == "fill") return fill(arguments[1], number(2), number(3));
  if (arguments.size() == 4 && arguments[0] == "check") return check(arguments[1], number(2), number(3));
  if (arguments.size() == 5 && arguments[0] == "churn") return churn(arguments[1], number(2), static_cast<int>(number(3)), number(4));
  std::puts("usage: disk_check fsx FILE BYTES OPERATIONS SEED | fill|check DEVICE BYTES SEED | churn DEVICE BYTES SECONDS SEED");
  return 2;
}
