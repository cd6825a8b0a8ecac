// Feeds a fuzz target its corpus without a fuzzer, so that any compiler builds it and the ordinary tests run it.
//
//   corpus_<target> FOLDER
//
// Each file is given whole, cut off at many places and with bytes changed; which ones is the same in every run. What is to be noticed
// ends the process: the target's own traps, and the sanitizers' where they are built in. A folder without files is an error.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr std::size_t kCuts = 24;
constexpr std::size_t kChanges = 24;

/// In memory of exactly its size, so that a byte read too far is a byte outside.
void run(const std::vector<std::uint8_t>& input) {
  const auto exact = std::make_unique_for_overwrite<std::uint8_t[]>(input.size());
  std::ranges::copy(input, exact.get());
  (void)LLVMFuzzerTestOneInput(exact.get(), input.size());
}

std::size_t run_variants(const std::vector<std::uint8_t>& input) {
  run(input);
  const std::size_t cuts = std::min(input.size(), kCuts);
  for (std::size_t i = 0; i < cuts; ++i) {
    run({input.begin(), input.begin() + static_cast<std::ptrdiff_t>(input.size() * i / cuts)});
  }
  std::minstd_rand random(1);  // the same everywhere
  const std::size_t changes = input.empty() ? 0 : kChanges;
  for (std::size_t i = 0; i < changes; ++i) {
    std::vector<std::uint8_t> changed = input;
    for (std::size_t bytes = 1 + random() % 4; bytes > 0; --bytes) changed[random() % changed.size()] = static_cast<std::uint8_t>(random() >> 8);
    run(changed);
  }
  return 1 + cuts + changes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> files;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1], failure)) files.push_back(entry.path());
  if (files.empty()) {
    std::fprintf(stderr, "%s: %s holds no input\n", argv[0], argv[1]);
    return 1;
  }
  std::ranges::sort(files);
  std::size_t runs = 0;
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<std::uint8_t> input((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (!file) {
      std::fprintf(stderr, "%s: %s cannot be read\n", argv[0], path.c_str());
      return 1;
    }
    std::printf("%s\n", path.filename().c_str());
    std::fflush(stdout);
    runs += run_variants(input);
  }
  std::printf("%zu inputs, %zu runs\n", files.size(), runs);
  return 0;
}
