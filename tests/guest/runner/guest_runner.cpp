// guest_runner: runs test guests on a named engine and says which passed. tests/guest/README.md.
//   guest_runner --engine kvm|software|interpreter|translator [--facilities all|none|NAMES] [--move] [--other kvm|software]
//                [--limit SECONDS] [--verbose] [--emulated-processor] IMAGE…
// interpreter and translator: the software engine with its first tier alone, and with everything translated at its first visit.
// --move: each guest is moved to the other engine and back while it runs; --other: to a partition of this one.
// Exit status: 0 all passed, 1 some failed, 2 could not run.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>

#include "chipset/local_apic/local_apic.h"
#include "cpu/kvm/engine.h"
#include "cpu/translator/engine.h"
#include "guest/runner/expected_registers.h"
#include "guest/runner/guest_machine.h"
#include "support/timer_service.h"

namespace {

using namespace bygone;

struct Arguments {
  std::string engine;
  std::string other;
  std::chrono::seconds limit{60};
  bool is_verbose = false;
  bool moves = false;
  bool is_emulated_processor = false;
  cpu::FacilitySet facilities;
  std::vector<std::filesystem::path> images;
};

Result<Arguments> parse(int count, char** values) {
  Arguments arguments;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = values[i];
    const bool has_next = i + 1 < count;
    if (word == "--engine" && has_next) {
      arguments.engine = values[++i];
    } else if (word == "--other" && has_next) {
      arguments.other = values[++i];
    } else if (word == "--limit" && has_next) {
      const std::string_view number = values[++i];
      int seconds = 0;
      if (std::from_chars(number.data(), number.data() + number.size(), seconds).ec != std::errc()) {
        return fail(ErrorCode::kInvalidArgument, "--limit wants seconds, not {}", number);
      }
      arguments.limit = std::chrono::seconds(seconds);
    } else if (word == "--facilities" && has_next) {
      BYGONE_ASSIGN(arguments.facilities, cpu::FacilitySet::parse(values[++i]));
    } else if (word == "--move") {
      arguments.moves = true;
    } else if (word == "--verbose") {
      arguments.is_verbose = true;
    } else if (word == "--emulated-processor") {
      arguments.is_emulated_processor = true;
    } else if (word.starts_with("-")) {
      return fail(ErrorCode::kInvalidArgument, "{} is not an option here", word);
    } else {
      arguments.images.emplace_back(word);
    }
  }
  if (arguments.engine.empty() || arguments.images.empty()) {
    return fail(ErrorCode::kInvalidArgument, "usage: guest_runner --engine kvm|software|interpreter|translator [--limit S] [--verbose] IMAGE…");
  }
  return arguments;
}

Result<std::unique_ptr<cpu::Engine>> make_engine(std::string_view name) {
  if (name == "kvm") return cpu::kvm::create_engine();
  using cpu::translator::Tiers;
  if (name == "software") return cpu::translator::create_engine();
  if (name == "interpreter") return cpu::translator::create_engine({.tiers = Tiers::kInterpreter});
  if (name == "translator") return cpu::translator::create_engine({.tiers = Tiers::kTranslateAtOnce});
  return fail(ErrorCode::kInvalidArgument, "there is no engine named {}", name);
}

Result<std::vector<std::byte>> read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(ErrorCode::kNotFound, "cannot open {}", path.string());
  const std::vector<char> characters((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<std::byte> bytes(characters.size());
  std::ranges::transform(characters, bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

Result<guest_tests::GuestOutcome> run_file(cpu::Engine& engine, const std::filesystem::path& path,
                                           const guest_tests::RunOptions& options) {
  BYGONE_ASSIGN(const std::vector<std::byte> image, read_file(path));
  BYGONE_ASSIGN(guest_tests::GuestOutcome outcome, guest_tests::run_guest(engine, image, options));
  if (!outcome.names_registers || !outcome.has_passed) return outcome;
  BYGONE_ASSIGN(const std::vector<std::byte> source, read_file(std::filesystem::path(path).replace_extension(".S")));
  BYGONE_ASSIGN(const guest_tests::Registers expected,
                guest_tests::parse_expected_registers({reinterpret_cast<const char*>(source.data()), source.size()}));
  outcome.reason = guest_tests::compare_registers(expected, outcome.registers);
  outcome.has_passed = outcome.reason.empty();
  return outcome;
}

bool run_image(cpu::Engine& engine, cpu::Engine* other, const std::filesystem::path& path, const Arguments& arguments) {
  ThreadTimerService timers;
  guest_tests::RunOptions options;
  options.local_apics = chipset::local_apic_factory(timers);
  options.limit = arguments.limit;
  options.is_emulated_processor = arguments.is_emulated_processor;
  options.facilities = arguments.facilities;
  options.other_engine = other;
  options.log = Log::to_standard_error();
  auto outcome = run_file(engine, path, options);
  const std::string name = path.stem().string();
  if (!outcome) {
    fmt::print("{} on {}: could not run: {}\n", name, engine.name(), outcome.error().text());
    return false;
  }
  if (arguments.is_verbose || !outcome->has_passed) fmt::print("{}", outcome->text);
  std::string moves;
  if (other != nullptr) {
    moves = fmt::format(" and {}, moved {} times, stopped within {} ms", other->name(), outcome->moves, outcome->slowest_stop.count());
  }
  fmt::print("{} on {}{}: {}\n", name, engine.name(), moves, outcome->has_passed ? "passed" : "FAILED: " + outcome->reason);
  return outcome->has_passed;
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = parse(argc, argv);
  if (!arguments) {
    fmt::print(stderr, "{}\n", arguments.error().text());
    return 2;
  }
  auto engine = make_engine(arguments->engine);
  if (!engine) {
    fmt::print(stderr, "{}\n", engine.error().text());
    return 2;
  }
  std::unique_ptr<cpu::Engine> other;
  if (arguments->moves) {
    const std::string_view otherwise = arguments->engine == "kvm" ? "software" : "kvm";
    auto made = make_engine(arguments->other.empty() ? otherwise : arguments->other);
    if (!made) {
      fmt::print(stderr, "{}\n", made.error().text());
      return 2;
    }
    other = std::move(*made);
  }
  bool all_passed = true;
  for (const auto& path : arguments->images) {
    all_passed = run_image(**engine, other.get(), path, *arguments) && all_passed;
    std::fflush(stdout);
  }
  return all_passed ? 0 : 1;
}
