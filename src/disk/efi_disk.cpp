#include "disk/efi_disk.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "disk/memory_block_device.h"

namespace bygone::disk {
namespace {

constexpr std::size_t kSector = 512;
constexpr std::size_t kCluster = 4096;
constexpr std::size_t kRootEntries = 512;
constexpr std::size_t kEntryBytes = 32;
constexpr std::size_t kMaximumProgram = 128 << 20;
/// FAT16 has 4085 to 65524 clusters: the count alone says which FAT a volume has (specification, page 14).
constexpr std::size_t kFewestClusters = 4200;
constexpr std::uint16_t kEndOfChain = 0xFFFF;
constexpr std::uint8_t kDirectory = 0x10, kArchive = 0x20;
/// 1 January 2026: nothing of a run shall depend on the day.
constexpr std::uint16_t kDate = (2026 - 1980) << 9 | 1 << 5 | 1;

constexpr std::uint16_t kEfiCluster = 2, kBootCluster = 3, kProgramCluster = 4;

struct Shape {
  std::size_t clusters, fat_sectors, root_sector, data_sector, sectors;
};

Shape shape_for(std::size_t program_bytes) {
  Shape shape = {};
  shape.clusters = std::max(kFewestClusters, (program_bytes + kCluster - 1) / kCluster + kProgramCluster);
  shape.fat_sectors = ((shape.clusters + 2) * 2 + kSector - 1) / kSector;
  shape.root_sector = 1 + 2 * shape.fat_sectors;
  shape.data_sector = shape.root_sector + kRootEntries * kEntryBytes / kSector;
  shape.sectors = shape.data_sector + shape.clusters * (kCluster / kSector);
  return shape;
}

class Image {
 public:
  explicit Image(const Shape& shape) : shape_(shape), bytes_(shape.sectors * kSector) {}

  void put8(std::size_t offset, std::size_t value) { bytes_[offset] = static_cast<std::byte>(value); }
  void put16(std::size_t offset, std::size_t value) {
    put8(offset, value & 0xFF);
    put8(offset + 1, value >> 8 & 0xFF);
  }
  void put32(std::size_t offset, std::size_t value) {
    put16(offset, value & 0xFFFF);
    put16(offset + 2, value >> 16);
  }
  void put_text(std::size_t offset, std::string_view text) { std::memcpy(&bytes_[offset], text.data(), text.size()); }
  void put_bytes(std::size_t offset, std::span<const std::byte> from) { std::ranges::copy(from, bytes_.begin() + static_cast<std::ptrdiff_t>(offset)); }

  void set_next(std::size_t cluster, std::uint16_t next) {
    for (std::size_t copy = 0; copy < 2; ++copy) put16((1 + copy * shape_.fat_sectors) * kSector + cluster * 2, next);
  }
  [[nodiscard]] std::size_t cluster_offset(std::size_t cluster) const {
    return shape_.data_sector * kSector + (cluster - 2) * kCluster;
  }
  /// A directory entry; `name` is the eleven characters of the 8.3 form.
  void put_entry(std::size_t offset, std::string_view name, std::uint8_t attributes, std::uint16_t cluster, std::size_t size) {
    put_text(offset, name);
    put8(offset + 11, attributes);
    put16(offset + 16, kDate);
    put16(offset + 18, kDate);
    put16(offset + 24, kDate);
    put16(offset + 26, cluster);
    put32(offset + 28, size);
  }
  [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  Shape shape_;
  std::vector<std::byte> bytes_;
};

void write_boot_sector(Image& image, const Shape& shape) {
  image.put_text(0, "\xEB\x3C\x90"
                    "BYGONE  ");
  image.put16(11, kSector);
  image.put8(13, kCluster / kSector);
  image.put16(14, 1);  // reserved: this sector
  image.put8(16, 2);   // FATs
  image.put16(17, kRootEntries);
  image.put16(19, shape.sectors < 0x10000 ? shape.sectors : 0);
  image.put8(21, 0xF8);
  image.put16(22, shape.fat_sectors);
  image.put16(24, 63);   // sectors a track and heads, for those who look
  image.put16(26, 255);
  image.put32(32, shape.sectors < 0x10000 ? 0 : shape.sectors);
  image.put8(36, 0x80);
  image.put8(38, 0x29);
  image.put32(39, 0xB160E001);
  image.put_text(43, "BYGONE EFI FAT16   ");
  image.put16(510, 0xAA55);
}

}  // namespace

Result<std::unique_ptr<BlockDevice>> make_efi_disk(std::span<const std::byte> program) {
  if (program.size() < 64 || std::to_integer<char>(program[0]) != 'M' || std::to_integer<char>(program[1]) != 'Z') {
    return fail(ErrorCode::kInvalidArgument, "this is not a UEFI program: it does not begin as a PE image");
  }
  if (program.size() > kMaximumProgram) return fail(ErrorCode::kOutOfRange, "a UEFI program of {} bytes", program.size());

  const Shape shape = shape_for(program.size());
  Image image(shape);
  write_boot_sector(image, shape);
  image.set_next(0, 0xFFF8);
  image.set_next(1, kEndOfChain);
  image.set_next(kEfiCluster, kEndOfChain);
  image.set_next(kBootCluster, kEndOfChain);
  const std::size_t last = kProgramCluster + (program.size() - 1) / kCluster;
  for (std::size_t cluster = kProgramCluster; cluster < last; ++cluster) {
    image.set_next(cluster, static_cast<std::uint16_t>(cluster + 1));
  }
  image.set_next(last, kEndOfChain);

  image.put_entry(shape.root_sector * kSector, "EFI        ", kDirectory, kEfiCluster, 0);
  const std::size_t efi = image.cluster_offset(kEfiCluster), boot = image.cluster_offset(kBootCluster);
  image.put_entry(efi, ".          ", kDirectory, kEfiCluster, 0);
  image.put_entry(efi + kEntryBytes, "..         ", kDirectory, 0, 0);
  image.put_entry(efi + 2 * kEntryBytes, "BOOT       ", kDirectory, kBootCluster, 0);
  image.put_entry(boot, ".          ", kDirectory, kBootCluster, 0);
  image.put_entry(boot + kEntryBytes, "..         ", kDirectory, kEfiCluster, 0);
  image.put_entry(boot + 2 * kEntryBytes, "BOOTX64 EFI", kArchive, kProgramCluster, program.size());
  image.put_bytes(image.cluster_offset(kProgramCluster), program);

  auto device = std::make_unique<MemoryBlockDevice>(image.bytes().size());
  BYGONE_CHECK(write_blocks(*device, 0, image.bytes()));
  return device;
}

}  // namespace bygone::disk
