#include "machine/gen2/boot.h"

#include <sys/random.h>

#include "firmware/linux/loader.h"
#include "firmware/smbios/smbios.h"
#include "firmware/uefi/config_blob.h"
#include "firmware/uefi/image.h"
#include "machine/gen2/memory_map.h"
#include "support/file.h"

namespace bygone::machine::gen2 {
namespace {

constexpr std::size_t kMaximumKernelBytes = 512 << 20;
constexpr std::size_t kMaximumInitrdBytes = std::size_t{4} << 30;

Result<std::vector<std::byte>> read_named(const char* what, const std::filesystem::path& path, std::size_t limit) {
  auto content = read_file(path, limit);
  if (!content) return std::unexpected(std::move(content).error().within(fmt::format("reading the {}", what)));
  return content;
}

Result<firmware::EntryState> place_firmware(memory::GuestMemory& memory, const BootImage& image, const firmware::AcpiMachine& acpi,
                                            const Guid& system_id) {
  firmware::UefiMachine machine;
  machine.acpi = acpi;
  machine.low_gap = kLowGap;
  machine.high_gap = acpi.high_mmio;
  machine.system_id = system_id;
  if (::getrandom(machine.entropy.data(), machine.entropy.size(), 0) != static_cast<ssize_t>(machine.entropy.size())) {
    return fail_errno(errno, "drawing entropy for the firmware");
  }
  return firmware::load_uefi(memory, image.kernel_or_firmware, firmware::build_config_blob(machine));
}

}  // namespace

Result<BootImage> read_boot_image(const std::variant<DirectBoot, FirmwareBoot>& boot) {
  BootImage image;
  if (const auto* direct = std::get_if<DirectBoot>(&boot)) {
    BYGONE_ASSIGN(image.kernel_or_firmware, read_named("kernel", direct->kernel, kMaximumKernelBytes));
    if (!direct->initrd.empty()) {
      BYGONE_ASSIGN(image.initrd, read_named("initrd", direct->initrd, kMaximumInitrdBytes));
    }
    image.command_line = direct->command_line;
    return image;
  }
  image.is_firmware = true;
  BYGONE_ASSIGN(image.kernel_or_firmware, read_named("firmware", std::get<FirmwareBoot>(boot).image, kMaximumKernelBytes));
  return image;
}

Result<firmware::EntryState> place_boot_image(memory::GuestMemory& memory, const BootImage& image,
                                              const firmware::AcpiMachine& acpi, const Guid& system_id) {
  if (image.is_firmware) return place_firmware(memory, image, acpi, system_id);
  BYGONE_CHECK(firmware::place_acpi_tables(memory, firmware::kDirectBootAcpi, firmware::build_acpi_tables(acpi)));
  std::uint64_t memory_bytes = 0;
  for (const AddressRange& range : acpi.ram) memory_bytes += range.size;
  BYGONE_CHECK(firmware::place_smbios(memory, firmware::kDirectBootSmbios, {system_id, acpi.processor_count, memory_bytes}));
  return firmware::load_linux(memory, {image.kernel_or_firmware, image.initrd, image.command_line, acpi.ram, {kFramebufferBase, kFramebufferSize}});
}

}  // namespace bygone::machine::gen2
