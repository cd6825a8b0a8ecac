// Where memory and devices are on a Generation 2 machine; what Hyper-V fixes, ports and interrupts among it, is in
// spec/gen2/platform.h. These addresses are an ABI: guests and saved states know them, so they never move.
#pragma once

#include <cstdint>
#include <vector>

#include "firmware/acpi/tables.h"
#include "spec/gen2/platform.h"
#include "support/guid.h"
#include "support/result.h"

namespace bygone::machine::gen2 {

using firmware::AddressRange;

// RAM from 0 to the low gap, then again from 4 GiB.
inline constexpr std::uint64_t kLowGapBase = 0xF8000000;
inline constexpr std::uint64_t kFourGiB = 0x100000000;
inline constexpr AddressRange kLowGap{kLowGapBase, kFourGiB - kLowGapBase};
/// What VMBus devices may take of the low gap: it ends below the I/O APIC.
inline constexpr AddressRange kLowMmioWindow{kLowGapBase, spec::gen2::kIoApicBase - kLowGapBase};
inline constexpr std::uint64_t kFramebufferBase = kLowGapBase;
inline constexpr std::uint64_t kFramebufferSize = 8ULL << 20;  ///< the firmware's; guests' drivers take what they are offered, elsewhere
inline constexpr std::uint16_t kMaximumVramMegabytes = 256;
/// What video memory may take of the low window beside the firmware's framebuffer and what else VMBus devices map there.
inline constexpr std::uint16_t kMaximumLowVramMegabytes = 64;
inline constexpr std::uint64_t kHighMmioSize = 64ULL << 30;
inline constexpr std::uint64_t kHighMmioAlignment = 1ULL << 30;

inline constexpr std::uint64_t kMinimumMemory = 32ULL << 20;
inline constexpr std::uint64_t kMaximumMemory = 1ULL << 40;
inline constexpr std::uint32_t kMaximumProcessors = 64;

struct MemoryLayout {
  std::vector<AddressRange> ram;
  AddressRange high_mmio;
};

/// The RAM ranges of a machine with `bytes` of memory. Errors: kInvalidArgument (not whole MiB, too little, too much).
[[nodiscard]] Result<MemoryLayout> lay_out_memory(std::uint64_t bytes);

/// Where a guest may put its framebuffer and finds memory: the low window; and, for more than has room there, the start of the
/// high one, where Linux takes it.
[[nodiscard]] std::vector<AddressRange> framebuffer_memory(const MemoryLayout& layout, std::uint16_t vram_megabytes);

/// Which device the first SCSI controller is to the guest; drive letters and boot entries hang on it.
inline constexpr Guid kScsiInstance = make_guid(0xbc6b9a1e, 0x5b33, 0x4f0c, {0x9c, 0x55, 0x6e, 0x70, 0x1d, 0x62, 0x7a, 0x01});

/// The same for network adapter `index`: guests keep its settings under this.
[[nodiscard]] constexpr Guid network_instance(std::size_t index) {
  return make_guid(0x8d0e4b57, 0x1f6a, 0x47c9, {0xa3, 0x1e, 0x2c, 0x64, 0x90, 0xb8, 0x5d, static_cast<std::uint8_t>(index + 1)});
}
inline constexpr std::size_t kMaximumNetworks = 8;  // as on Hyper-V
inline constexpr std::uint32_t kMaximumStorageChannels = 8;

}  // namespace bygone::machine::gen2
