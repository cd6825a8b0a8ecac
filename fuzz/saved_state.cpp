// Links: bygone_machine
// Saved state from elsewhere: the file's own structure, and values of every kind where the parts expect theirs. Nothing may
// crash, hang or write outside guest memory; what is refused leaves the part as it was.
#include <sys/mman.h>
#include <unistd.h>

#include "chipset/generation_counter.h"
#include "chipset/io_apic.h"
#include "chipset/power_management.h"
#include "chipset/rtc.h"
#include "chipset/serial.h"
#include "firmware/uefi/helper_ports.h"
#include "hyperv/fake_partition.h"
#include "hyperv/hypervisor.h"
#include "machine/saved_state/memory_image.h"
#include "machine/saved_state/processor_state.h"
#include "support/cbor.h"
#include "support/crc32c.h"
#include "support/manual_clock.h"

namespace {

using namespace bygone;
namespace saved_state = machine::saved_state;

struct NoLine final : chipset::InterruptLine {
  void set_level(bool) override {}
};

void read_file_of(std::span<const std::byte> bytes) {
  UniqueFd fd(::memfd_create("state", MFD_CLOEXEC));
  if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) return;
  const auto reader = saved_state::StateReader::open(std::move(fd), "state");
  if (!reader) return;
  memory::GuestMemory memory;
  if (!memory.add_ram({0}, 3 << 20)) return;
  (void)saved_state::restore_memory(memory, *reader, {});
  for (const saved_state::Section& section : reader->sections()) (void)reader->read(section);
}

template <typename T>
void put(std::vector<std::byte>& to, const T& value) {
  const auto* first = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), first, first + sizeof value);
}

/// A file of one memory section with sound checksums around the input, so that the search gets past them.
std::vector<std::byte> memory_file(std::span<const std::byte> payload) {
  std::vector<std::byte> file;
  const auto section = [&](std::uint32_t kind, std::uint64_t address, std::span<const std::byte> content) {
    std::vector<std::byte> header;
    put(header, kind);
    put(header, crc32c(content));
    put(header, address);
    put(header, std::uint64_t{content.size()});
    put(header, std::uint32_t{0});
    put(header, crc32c(header));
    file.insert(file.end(), header.begin(), header.end());
    file.insert(file.end(), content.begin(), content.end());
  };
  for (const char c : {'B', 'Y', 'G', 'S', 'A', 'V', 'E', '\x1A'}) put(file, c);
  put(file, saved_state::kFormatVersion);
  put(file, crc32c(file));
  section(1, 0, {});
  section(4, payload.empty() ? 0 : std::to_integer<std::uint64_t>(payload[0] & std::byte{3}) << 20, payload.empty() ? payload : payload.subspan(1));
  section(5, 0, {});
  return file;
}

void restore_part(unsigned which, const nlohmann::json& state) {
  memory::GuestMemory memory;
  if (!memory.add_ram({0}, 1 << 20)) return;
  ManualTimerService timers;
  NoLine line;
  switch (which % 9) {
    case 0: (void)saved_state::processor_from_json(state); return;
    case 1: (void)saved_state::cpuid_from_json(state); return;
    case 2: {
      hyperv::FakePartition partition(timers.clock());
      hyperv::HypervisorOptions options;
      options.memory = &memory;
      options.partition = &partition;
      options.timers = &timers;
      options.vp_count = 1;
      options.features = *hyperv::FeatureSet::profile("linux");
      auto hypervisor = hyperv::Hypervisor::create(std::move(options));
      if (!hypervisor) __builtin_trap();
      (void)(*hypervisor)->restore(state);
      timers.advance(std::chrono::milliseconds(5));
      return;
    }
    case 3: {
      chipset::IoApic io_apic([](const cpu::InterruptRequest&) {});
      (void)io_apic.restore(state);
      io_apic.line(9).set_level(true);
      return;
    }
    case 4: {
      chipset::PowerManagement power(timers, line, {[](chipset::SleepState) {}, [] {}});
      (void)power.restore(state);
      timers.advance(std::chrono::seconds(5));
      return;
    }
    case 5: {
      chipset::Rtc rtc(timers, line, [] { return std::chrono::microseconds(1'600'000'000'000'000); });
      (void)rtc.restore(state);
      timers.advance(std::chrono::milliseconds(1500));
      return;
    }
    case 6: {
      chipset::GenerationCounter counter(memory, [] {});
      (void)counter.restore(state);
      counter.change({});
      return;
    }
    case 7: {
      chipset::SerialPort port(0x3F8, line, nullptr);
      (void)port.restore(state);
      (void)port.read_port(0x3F8, 1);
      return;
    }
    default: {
      firmware::VariableStore variables;
      firmware::HelperPorts ports(memory, variables, {}, Log{});
      (void)ports.restore(state);
      return;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::byte> rest(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  if (data[0] == 0) {
    read_file_of(rest);
  } else if (data[0] == 1) {
    read_file_of(memory_file(rest));
  } else if (const auto state = from_cbor(rest)) {
    restore_part(data[0] - 2U, *state);
  }
  return 0;
}
