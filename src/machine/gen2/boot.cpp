#include "machine/gen2/boot.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <span>

#include "firmware/linux/loader.h"
#include "firmware/smbios/smbios.h"
#include "firmware/uefi/config_blob.h"
#include "firmware/uefi/image.h"
#include "machine/gen2/memory_map.h"

namespace bygone::machine::gen2 {
namespace {

constexpr std::uint64_t kMaximumKernelBytes = 512 << 20;
constexpr std::uint64_t kMaximumInitrdBytes = (std::uint64_t{4} << 30) - 1;  // its size is 32 bits to the kernel

Result<BootFile> open_named(const char* what, const std::filesystem::path& path, std::uint64_t limit) {
  const auto open = [&]() -> Result<BootFile> {
    BootFile file{UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), path.string(), 0};
    if (!file.fd) return fail_errno(errno, "opening " + file.name);
    struct stat about = {};
    if (::fstat(file.fd.get(), &about) != 0) return fail_errno(errno, "looking at " + file.name);
    if (!S_ISREG(about.st_mode)) return fail(ErrorCode::kInvalidArgument, "{} is not a file", file.name);
    file.bytes = static_cast<std::uint64_t>(about.st_size);
    if (file.bytes > limit) return fail(ErrorCode::kExhausted, "{} has {} MiB; more than {} are too many", file.name, file.bytes >> 20, limit >> 20);
    return file;
  };
  auto file = open();
  if (!file) return std::unexpected(std::move(file).error().within(fmt::format("reading the {}", what)));
  return file;
}

/// Fills `place` with the file's first bytes. Errors: the host's; kCorrupt when the file has become shorter.
Result<void> read_file(const BootFile& file, std::span<std::byte> place) {
  for (std::uint64_t have = 0; have < place.size();) {
    const ssize_t got = ::pread(file.fd.get(), place.data() + have, place.size() - have, static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading " + file.name);
    if (got == 0) return fail(ErrorCode::kCorrupt, "{} has become shorter since the machine was made", file.name);
    have += static_cast<std::uint64_t>(got);
  }
  return {};
}

struct Unmap {
  std::uint64_t bytes = 0;
  void operator()(std::byte* place) const { ::munmap(place, bytes); }
};

/// A file's bytes for as long as they are being placed. Pages of their own: what the allocator frees it keeps.
class Content {
 public:
  /// Errors: as read_file.
  [[nodiscard]] static Result<Content> read(const BootFile& file) {
    Content content;
    if (!file.fd || file.bytes == 0) return content;
    void* place = ::mmap(nullptr, file.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) return fail_errno(errno, "taking memory for " + file.name);
    content.place_.reset(static_cast<std::byte*>(place));
    content.place_.get_deleter().bytes = file.bytes;
    BYGONE_CHECK(read_file(file, {content.place_.get(), file.bytes}));
    return content;
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return {place_.get(), place_.get_deleter().bytes}; }

 private:
  std::unique_ptr<std::byte, Unmap> place_;
};

/// Firmware is about to touch most of these: its image and hand-over, the top of low memory, where our SEC and the DXE core live
/// (firmware/BygonePkg/Sec), and the first picture, of 1024x768.
void take_memory_for_firmware(const memory::GuestMemory& memory, std::span<const AddressRange> ram) {
  constexpr std::uint64_t kHandOverEnd = 8 << 20, kHeap = 8 << 20, kPicture = 4 << 20;
  memory.take_now({0}, kHandOverEnd);
  const std::uint64_t top = ram.front().base + ram.front().size;
  memory.take_now({top - std::min(top, kHeap)}, std::min(top, kHeap));
  memory.take_now({kFramebufferBase}, kPicture);
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
  BYGONE_CHECK(firmware::check_image_size(image.kernel_or_firmware.bytes));
  take_memory_for_firmware(memory, acpi.ram);
  const auto place = [&](std::span<std::byte> room) { return read_file(image.kernel_or_firmware, room); };
  return firmware::load_uefi(memory, place, firmware::build_config_blob(machine));
}

}  // namespace

Result<BootImage> open_boot_image(const std::variant<DirectBoot, FirmwareBoot>& boot) {
  BootImage image;
  if (const auto* direct = std::get_if<DirectBoot>(&boot)) {
    BYGONE_ASSIGN(image.kernel_or_firmware, open_named("kernel", direct->kernel, kMaximumKernelBytes));
    if (!direct->initrd.empty()) {
      BYGONE_ASSIGN(image.initrd, open_named("initrd", direct->initrd, kMaximumInitrdBytes));
    }
    image.command_line = direct->command_line;
    return image;
  }
  image.is_firmware = true;
  BYGONE_ASSIGN(image.kernel_or_firmware, open_named("firmware", std::get<FirmwareBoot>(boot).image, kMaximumKernelBytes));
  return image;
}

Result<firmware::EntryState> place_boot_image(memory::GuestMemory& memory, const BootImage& image,
                                              const firmware::AcpiMachine& acpi, const Guid& system_id) {
  if (image.is_firmware) return place_firmware(memory, image, acpi, system_id);
  BYGONE_CHECK(firmware::place_acpi_tables(memory, firmware::kDirectBootAcpi, firmware::build_acpi_tables(acpi)));
  std::uint64_t memory_bytes = 0;
  for (const AddressRange& range : acpi.ram) memory_bytes += range.size;
  if (image.initrd.bytes > memory_bytes) {
    return std::unexpected(Error{ErrorCode::kExhausted,
                                 fmt::format("the initrd of {} MiB does not fit into the machine's memory of {} MiB", image.initrd.bytes >> 20, memory_bytes >> 20),
                                 "Give the machine more memory"});
  }
  BYGONE_ASSIGN(const Content kernel, Content::read(image.kernel_or_firmware));
  BYGONE_ASSIGN(const Content initrd, Content::read(image.initrd));
  BYGONE_CHECK(firmware::place_smbios(memory, firmware::kDirectBootSmbios, {system_id, acpi.processor_count, memory_bytes}));
  return firmware::load_linux(memory, {kernel.bytes(), initrd.bytes(), image.command_line, acpi.ram, {kFramebufferBase, kFramebufferSize}});
}

}  // namespace bygone::machine::gen2
