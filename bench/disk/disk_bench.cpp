// Disk images beside Debian's qemu-img on the same files, in one run; prints times and ratios (above 1: Bygone is faster).
//
//   bench_disk [FOLDER] [SIZE IN MIB]     the folder needs about three times the size; 4096 MiB by default
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <semaphore>

#include "disk/tools/create.h"
#include "disk/tools/transform.h"

namespace {

using namespace bygone;
using namespace bygone::disk;
using Clock = std::chrono::steady_clock;

[[noreturn]] void stop(const std::string& why) {
  fmt::print(stderr, "bench_disk: {}\n", why);
  std::exit(1);
}
template <typename T>
T must(Result<T> result) {
  if (!result) stop(result.error().text());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

template <typename Work>
double seconds(Work&& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void run(const std::string& command) {
  if (std::system((command + " > /dev/null").c_str()) != 0) stop("failed: " + command);
}

/// Data in runs of 1 to 16 MiB between holes of the same sizes.
void make_source(const std::string& path, std::uint64_t bytes) {
  std::mt19937_64 random(1);
  std::ofstream file(path, std::ios::binary);
  std::vector<char> data(1U << 20);
  for (std::uint64_t offset = 0; offset < bytes;) {
    const std::uint64_t run = (1 + random() % 16) << 20;
    for (std::uint64_t done = 0; done < run && offset + done < bytes; done += data.size()) {
      for (std::size_t i = 0; i < data.size(); i += 8) {
        const std::uint64_t value = random();
        std::memcpy(data.data() + i, &value, sizeof value);
      }
      file.seekp(static_cast<std::streamoff>(offset + done));
      file.write(data.data(), static_cast<std::streamsize>(data.size()));
    }
    offset += run + ((1 + random() % 16) << 20);
  }
  file.close();
  std::filesystem::resize_file(path, bytes);
}

void report(const char* what, double ours, double theirs, const char* unit) {
  fmt::print("{:<52} bygone {:9.2f} {}   qemu {:9.2f} {}   ratio {:.2f}\n", what, ours, unit, theirs, unit,
             unit == std::string("s") ? theirs / ours : ours / theirs);
}

void bench_convert(const std::filesystem::path& folder, std::uint64_t bytes) {
  const std::string source = folder / "source.img";
  make_source(source, bytes);
  run("sync " + source);
  // Both read the source from the host's cache, wherever the one before wrote it from.
  const auto warm = [](const std::string& path) { run("cat " + path); };
  const auto convert = [&](const std::string& from, const std::string& to, DiskFormat format) {
    std::filesystem::remove(to);
    CreateOptions options;
    options.format = format;
    warm(from);
    return seconds([&] { must(convert_disk(from, to, options, false, {})); });
  };
  const auto qemu = [&](const std::string& from, const std::string& from_format, const std::string& to, const std::string& format) {
    std::filesystem::remove(to);
    warm(from);
    // -t writeback: qemu-img too makes the copy durable before it ends.
    return seconds([&] { run(fmt::format("qemu-img convert -t writeback -f {} -O {} {} {} && sync {}", from_format, format, from, to, to)); });
  };
  const std::string vhdx = folder / "copy.vhdx";
  const std::string raw = folder / "copy.img";
  const double qemu_to_vhdx = qemu(source, "raw", vhdx, "vhdx");
  const double to_vhdx = convert(source, vhdx, DiskFormat::kVhdx);
  report("convert raw to VHDX, with holes", to_vhdx, qemu_to_vhdx, "s");
  const double qemu_to_raw = qemu(vhdx, "vhdx", raw, "raw");
  const double to_raw = convert(vhdx, raw, DiskFormat::kRaw);
  report("convert VHDX to raw", to_raw, qemu_to_raw, "s");
  for (const std::string& path : {source, vhdx, raw}) std::filesystem::remove(path);
}

/// `count` requests of 4 KiB, 32 in flight, at `step` from one another, as qemu-img bench makes them.
double requests_per_second(BlockDevice& device, BlockOperation operation, std::uint64_t step, int count) {
  constexpr std::uint64_t kBytes = 4096;
  alignas(4096) static std::byte buffer[32][kBytes];
  std::counting_semaphore<32> room(32);
  const std::uint64_t size = device.info().size_bytes;
  std::uint64_t offset = 0;
  const double time = seconds([&] {
    for (int i = 0; i < count; ++i) {
      room.acquire();
      BlockRequest request;
      request.operation = operation;
      request.offset = offset;
      request.length = kBytes;
      request.buffers = {{buffer[i % 32], kBytes}};
      request.done = [&room](Result<void> result) {
        must(std::move(result));
        room.release();
      };
      device.submit(std::move(request));
      offset = (offset + step) % (size - kBytes + 1) / kBytes * kBytes;
    }
    for (int i = 0; i < 32; ++i) room.acquire();
  });
  return count / time;
}

constexpr std::uint64_t kStep = 269 * 4096 * 131;  // scattered: every request far from the last one

void bench_random_writes(const std::filesystem::path& folder) {
  const std::string path = folder / "empty.vhdx";
  constexpr int kCount = 20000;
  CreateOptions options;
  options.size_bytes = std::uint64_t{8} << 30;
  must(create_disk(path, options));
  auto device = must(open_disk(path));
  const double ours = requests_per_second(*device, BlockOperation::kWrite, kStep, kCount);
  device.reset();
  std::filesystem::remove(path);
  run(fmt::format("qemu-img create -f vhdx {} 8G", path));
  const double time = seconds([&] { run(fmt::format("qemu-img bench -w -d 32 -s 4096 -S {} -c {} -f vhdx {}", kStep, kCount, path)); });
  report("4 KiB scattered writes, 32 deep, empty dynamic VHDX", ours / 1000, kCount / time / 1000, "k/s");
  std::filesystem::remove(path);
}

/// Eight images over one another. `is_spread`: every one of them holds pieces of 64 KiB of the disk, at random; otherwise the oldest
/// holds everything, as after a series of checkpoints.
void bench_chain(const std::filesystem::path& folder, bool is_spread) {
  constexpr int kCount = 100000;
  constexpr std::size_t kPiece = 64U << 10;
  constexpr std::size_t kImages = 8;
  std::vector<std::string> paths;
  CreateOptions options;
  options.size_bytes = 256U << 20;
  const std::vector<std::byte> data(kPiece, std::byte{1});
  std::mt19937 random(3);
  std::vector<std::size_t> owner(options.size_bytes / kPiece, 0);
  if (is_spread) std::ranges::generate(owner, [&] { return random() % kImages; });
  for (std::size_t image = 0; image < kImages; ++image) {
    paths.push_back(folder / fmt::format("chain{}.vhdx", image));
    must(create_disk(paths.back(), options));
    options.kind = DiskKind::kDifferencing;
    options.parent = paths.back();
    auto device = must(open_disk(paths.back()));
    for (std::size_t piece = 0; piece < owner.size(); ++piece) {
      if (image == 0 || owner[piece] == image) must(write_blocks(*device, piece * kPiece, data));
    }
  }
  OpenOptions reading;
  reading.read_only = true;
  auto one = must(open_disk(paths.front(), reading));
  auto eight = must(open_disk(paths.back(), reading));
  requests_per_second(*one, BlockOperation::kRead, kStep, kCount);  // warms the cache
  requests_per_second(*eight, BlockOperation::kRead, kStep, kCount);
  // In turns, and the best of each: what else the host does then is neither's fault.
  double alone = 0;
  double chained = 0;
  std::vector<double> ratios;
  for (int round = 0; round < 7; ++round) {
    const double this_alone = requests_per_second(*one, BlockOperation::kRead, kStep, kCount);
    const double this_chained = requests_per_second(*eight, BlockOperation::kRead, kStep, kCount);
    alone = std::max(alone, this_alone);
    chained = std::max(chained, this_chained);
    ratios.push_back(this_chained / this_alone);
  }
  std::ranges::sort(ratios);
  fmt::print("{:<52} one image {:.1f} k/s   through eight {:.1f} k/s   ratio {:.2f} (of 7 rounds: {:.2f} to {:.2f}, median {:.2f})\n",
             is_spread ? "4 KiB scattered reads, 32 deep, data in all eight" : "4 KiB scattered reads, 32 deep, data in the oldest", alone / 1000,
             chained / 1000, chained / alone, ratios.front(), ratios.back(), ratios[ratios.size() / 2]);
  one.reset();
  eight.reset();
  for (const std::string& path : paths) std::filesystem::remove(path);
}

void bench_open(const std::filesystem::path& folder) {
  const std::string path = folder / "huge.vhdx";
  CreateOptions options;
  options.size_bytes = std::uint64_t{64} << 40;
  must(create_disk(path, options));
  std::ifstream before_file("/proc/self/statm");
  std::uint64_t ignored = 0;
  std::uint64_t before = 0;
  before_file >> ignored >> before;
  std::unique_ptr<BlockDevice> device;
  const double time = seconds([&] { device = must(open_disk(path)); });
  std::ifstream after_file("/proc/self/statm");
  std::uint64_t after = 0;
  after_file >> ignored >> after;
  fmt::print("{:<52} {:.1f} ms, {:.1f} MiB\n", "opening a VHDX of 64 TiB", 1000 * time,
             static_cast<double>(after - before) * 4096 / (1U << 20));
  device.reset();
  std::filesystem::remove(path);
}

}  // namespace

int main(int argc, char** argv) {
  const std::filesystem::path folder =
      std::filesystem::path(argc > 1 ? argv[1] : std::filesystem::temp_directory_path().string()) / fmt::format("bench-disk-{}", ::getpid());
  const std::uint64_t bytes = (argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 4096) << 20;
  std::filesystem::create_directories(folder);
  bench_open(folder);
  bench_chain(folder, false);
  bench_chain(folder, true);
  bench_random_writes(folder);
  bench_convert(folder, bytes);
  std::filesystem::remove_all(folder);
  return 0;
}
