#include "firmware/linux/loader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "cpu/entry_state.h"
#include "firmware/entry_state.h"
#include "firmware/linux/uefi_tables.h"
#include "spec/linux/boot_protocol.h"
#include "spec/uefi/system_table.h"

namespace bygone::firmware {
namespace {

namespace protocol = spec::linux_boot;

constexpr std::uint64_t kZeroPage = 0x7000, kGdt = 0x8000, kPageTables = 0xA000, kCommandLine = 0x20000;
constexpr std::uint64_t kMaximumCommandLine = 0x10000;
constexpr std::uint64_t kLegacyHole = 0xA0000, kLegacyHoleEnd = 0x100000;

struct KernelImage {
  protocol::SetupHeader header;
  std::span<const std::byte> payload;  ///< the protected-mode part
};

Result<KernelImage> parse_kernel(std::span<const std::byte> file) {
  KernelImage image;
  if (file.size() < protocol::kSetupHeaderOffset + sizeof image.header) {
    return fail(ErrorCode::kCorrupt, "the kernel is {} bytes long, too short for a bzImage", file.size());
  }
  std::memcpy(&image.header, file.data() + protocol::kSetupHeaderOffset, sizeof image.header);
  if (image.header.boot_flag != protocol::kBootFlag || std::memcmp(image.header.magic, "HdrS", 4) != 0) {
    return std::unexpected(Error{ErrorCode::kUnsupported, "the kernel is not a Linux bzImage",
                                 "Name a file such as /boot/vmlinuz-*"});
  }
  if (image.header.version < protocol::kMinimumVersion || (image.header.xload_flags & protocol::kXloadKernel64) == 0) {
    return fail(ErrorCode::kUnsupported, "the kernel has no 64-bit entry (boot protocol {}.{})", image.header.version >> 8,
                image.header.version & 0xFF);
  }
  const std::size_t sectors = image.header.setup_sectors == 0 ? 4 : image.header.setup_sectors;
  const std::size_t setup_bytes = (sectors + 1) * 512;
  if (file.size() <= setup_bytes + protocol::kEntryOffset64) return fail(ErrorCode::kCorrupt, "the kernel is cut off after its setup code");
  image.payload = file.subspan(setup_bytes);
  return image;
}

std::vector<protocol::E820Entry> memory_map(const std::vector<AddressRange>& ram) {
  std::vector<protocol::E820Entry> map;
  const auto add = [&](std::uint64_t begin, std::uint64_t end, std::uint32_t type) {
    if (begin < end) map.push_back({begin, end - begin, type});
  };
  for (const AddressRange& range : ram) {
    const std::uint64_t end = range.base + range.size;
    add(range.base, std::min(end, kLegacyHole), protocol::kE820Ram);
    add(std::max(range.base, kLegacyHole), std::min(end, kLegacyHoleEnd), protocol::kE820Reserved);
    add(std::max(range.base, kLegacyHoleEnd), end, protocol::kE820Ram);
  }
  return map;
}

// The highest place for `size` bytes in RAM that ends at or below `limit` and starts at or above `floor`.
std::optional<std::uint64_t> highest_place(const std::vector<AddressRange>& ram, std::uint64_t size, std::uint64_t floor,
                                           std::uint64_t limit) {
  std::optional<std::uint64_t> best;
  for (const AddressRange& range : ram) {
    const std::uint64_t end = std::min(range.base + range.size, limit);
    if (end < size) continue;
    const std::uint64_t start = (end - size) / memory::kPageSize * memory::kPageSize;
    if (start >= std::max(floor, range.base) && (!best || start > *best)) best = start;
  }
  return best;
}

}  // namespace

Result<EntryState> load_linux(memory::GuestMemory& memory, const LinuxBoot& boot) {
  BYGONE_ASSIGN(const KernelImage image, parse_kernel(boot.kernel));
  protocol::SetupHeader header = image.header;

  const std::uint64_t limit_of_line = std::min<std::uint64_t>(header.command_line_size, kMaximumCommandLine - 1);
  if (boot.command_line.size() > limit_of_line) {
    return fail(ErrorCode::kInvalidArgument, "the kernel's command line has {} characters; this kernel takes {}",
                boot.command_line.size(), limit_of_line);
  }

  const std::uint64_t kernel_at = header.preferred_address;
  const std::uint64_t kernel_need = std::max<std::uint64_t>(header.initialization_size, image.payload.size());
  const bool fits = std::ranges::any_of(boot.ram, [&](const AddressRange& range) {
    return kernel_at >= range.base && kernel_at - range.base < range.size && kernel_need <= range.size - (kernel_at - range.base);
  });
  if (!fits || kernel_at < kLegacyHoleEnd) {
    return std::unexpected(Error{ErrorCode::kExhausted,
                                 fmt::format("the kernel needs {} MiB of memory from {:#x}, and the machine has less",
                                             kernel_need >> 20, kernel_at),
                                 "Give the machine more memory"});
  }
  BYGONE_CHECK(memory.write({kernel_at}, image.payload));

  if (!boot.initrd.empty()) {
    const std::uint64_t limit = std::uint64_t{header.initrd_address_maximum} + 1;
    const auto place = highest_place(boot.ram, boot.initrd.size(), kernel_at + kernel_need, limit);
    if (!place) {
      return std::unexpected(Error{ErrorCode::kExhausted,
                                   fmt::format("the initrd of {} MiB does not fit into the machine's memory above the kernel",
                                               boot.initrd.size() >> 20),
                                   "Give the machine more memory"});
    }
    BYGONE_CHECK(memory.write({*place}, boot.initrd));
    header.ramdisk_image = static_cast<std::uint32_t>(*place);
    header.ramdisk_size = static_cast<std::uint32_t>(boot.initrd.size());
  }

  BYGONE_CHECK(memory.fill({kCommandLine}, boot.command_line.size() + 1, std::byte{0}));
  BYGONE_CHECK(memory.write({kCommandLine}, std::as_bytes(std::span(boot.command_line))));
  header.command_line = static_cast<std::uint32_t>(kCommandLine);
  header.loader_type = 0xFF;  // no assigned number
  header.video_mode = std::uint16_t{0xFFFF};

  std::vector<std::byte> zero_page(memory::kPageSize);
  std::memcpy(zero_page.data() + protocol::kSetupHeaderOffset, &header, sizeof header);
  const le64 rsdp = kDirectBootAcpi.base;
  std::memcpy(zero_page.data() + protocol::kZeroPageRsdpAddress, &rsdp, sizeof rsdp);
  const std::vector<protocol::E820Entry> map = memory_map(boot.ram);
  if (map.size() > protocol::kE820MaximumEntries) return fail(ErrorCode::kExhausted, "{} memory ranges are too many", map.size());
  zero_page[protocol::kZeroPageE820Count] = static_cast<std::byte>(map.size());
  std::memcpy(zero_page.data() + protocol::kZeroPageE820Table, map.data(), map.size() * sizeof map[0]);
  BYGONE_ASSIGN(const UefiTables tables, place_uefi_tables(memory, map, kDirectBootAcpi.base, kDirectBootSmbios.base));
  const protocol::EfiInfo efi_info{{'E', 'L', '6', '4'},
                                   static_cast<std::uint32_t>(tables.system_table),
                                   tables.descriptor_size,
                                   spec::uefi::kMemoryDescriptorVersion,
                                   static_cast<std::uint32_t>(tables.memory_map),
                                   tables.memory_map_size,
                                   0U,
                                   0U};
  std::memcpy(zero_page.data() + protocol::kZeroPageEfiInfo, &efi_info, sizeof efi_info);
  const std::array<le32, 2> framebuffer{static_cast<std::uint32_t>(boot.framebuffer.base), static_cast<std::uint32_t>(boot.framebuffer.size)};
  std::memcpy(zero_page.data() + protocol::kZeroPageFramebufferBase, framebuffer.data(), sizeof framebuffer);
  BYGONE_CHECK(memory.write({kZeroPage}, zero_page));

  constexpr std::uint16_t kBootCode = 0x10;  // the boot protocol's __BOOT_CS; __BOOT_DS is the next
  EntryState entry;
  BYGONE_ASSIGN(entry.system, cpu::prepare_long_mode(memory, {kPageTables}, {kGdt}, kBootCode));
  entry.general.rip = kernel_at + protocol::kEntryOffset64;
  entry.general[cpu::Gpr::kRsi] = kZeroPage;
  return entry;
}

}  // namespace bygone::firmware
