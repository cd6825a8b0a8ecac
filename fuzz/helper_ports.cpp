// Links: bygone_firmware
// Firmware that does what it likes with the helper ports. FuzzInput: steps of {u8 kind, ...}: a command descriptor that is run, bytes put
// into memory, an access to a port, a reset, a request for random numbers.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "fuzz_input.h"
#include "firmware/uefi/helper_ports.h"

using namespace bygone;
namespace uefi = spec::uefi;

namespace {

constexpr std::uint64_t kMemory = 0x40000;
constexpr std::uint64_t kDescriptor = 0x1000;

void run(firmware::HelperPorts& ports) {
  ports.write(uefi::kSelectorPort, 4, static_cast<std::uint32_t>(uefi::Selector::kNvram));
  ports.write(uefi::kDataPort, 4, kDescriptor);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  memory::GuestMemory memory;
  if (!memory.add_ram({0}, kMemory)) return 0;
  firmware::VariableStore store;
  firmware::HelperPorts ports(memory, store, {}, Log());
  FuzzInput input(data, size);
  while (!input.is_empty()) {
    switch (input.take<std::uint8_t>() % 6) {
      case 0:
        (void)memory.write_object({kDescriptor}, input.take<uefi::NvramDescriptor>());
        run(ports);
        break;
      case 1: {  // a plausible descriptor: name and data in memory, of sizes that the input says
        uefi::NvramDescriptor descriptor{};
        descriptor.command = input.take<std::uint8_t>() % 8U;
        descriptor.attributes = input.take<std::uint8_t>();
        descriptor.name_address = 0x2000U + input.take<std::uint8_t>() * 2U;
        descriptor.name_bytes = input.take<std::uint16_t>();
        descriptor.data_address = 0x4000U + input.take<std::uint8_t>();
        descriptor.data_bytes = input.take<std::uint16_t>();
        (void)memory.write_object({kDescriptor}, descriptor);
        run(ports);
        break;
      }
      case 2: {
        const memory::Gpa address{input.take<std::uint16_t>() * 4ULL};
        (void)memory.write(address, input.take_bytes(input.take<std::uint8_t>()));
        break;
      }
      case 3: {
        const auto port = static_cast<std::uint16_t>(0x28 + input.take<std::uint8_t>() % 8);
        const auto width = static_cast<std::uint8_t>(1U << (input.take<std::uint8_t>() % 3));
        ports.write(port, width, input.take<std::uint32_t>());
        if (const std::uint32_t value = ports.read(port, width); value != 0xFFFFFFFF && value != 0) std::abort();
        break;
      }
      case 4: {
        (void)memory.write_object({kDescriptor}, input.take<uefi::CryptoDescriptor>());
        ports.write(uefi::kSelectorPort, 4, static_cast<std::uint32_t>(uefi::Selector::kCrypto));
        ports.write(uefi::kDataPort, 4, kDescriptor);
        break;
      }
      default: ports.reset(); break;
    }
    if (store.used_bytes() > firmware::VariableStore::kMaximumBytes) std::abort();
  }
  return 0;
}
