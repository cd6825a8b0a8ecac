#include "firmware/smbios/smbios.h"

#include <cstring>
#include <string_view>

#include "support/byte_order.h"

namespace bygone::firmware {
namespace {

// DSP0134 7.1-7.45: the structures that operating systems look for.
enum class Kind : std::uint8_t { kBios = 0, kSystem = 1, kBaseBoard = 2, kChassis = 3, kProcessor = 4, kMemoryArray = 16, kMemoryDevice = 17,
                                 kMemoryArrayAddress = 19, kBoot = 32, kEnd = 127 };
constexpr std::uint16_t kHandleChassis = 3, kHandleMemoryArray = 0x10, kNoHandle = 0xFFFE;
constexpr std::string_view kMaker = "Bygone", kProduct = "Virtual Machine", kVersion = "Generation 2";

/// 5.2.2: the 64-bit entry point.
struct EntryPoint {
  char anchor[5] = {'_', 'S', 'M', '3', '_'};
  std::uint8_t checksum = 0;
  std::uint8_t length = 24;
  std::uint8_t major_version = 3, minor_version = 1, documentation_revision = 0;
  std::uint8_t revision = 1;
  std::uint8_t reserved = 0;
  le32 maximum_size;
  le64 table;
};
static_assert(sizeof(EntryPoint) == 24 && alignof(EntryPoint) == 1);

/// Writes one structure: fields in order, texts by number, the end.
class Structure {
 public:
  Structure(std::vector<std::uint8_t>& table, Kind kind, std::uint16_t handle) : table_(table), start_(table.size()) {
    put8(static_cast<std::uint8_t>(kind)).put8(0).put16(handle);
  }
  ~Structure() {
    table_[start_ + 1] = static_cast<std::uint8_t>(table_.size() - start_);
    table_.insert(table_.end(), texts_.begin(), texts_.end());
    if (texts_.empty()) table_.push_back(0);
    table_.push_back(0);
  }
  Structure(const Structure&) = delete;
  Structure& operator=(const Structure&) = delete;

  Structure& put8(std::uint8_t value) {
    table_.push_back(value);
    return *this;
  }
  Structure& put16(std::uint16_t value) { return put8(static_cast<std::uint8_t>(value)).put8(static_cast<std::uint8_t>(value >> 8)); }
  Structure& put32(std::uint32_t value) { return put16(static_cast<std::uint16_t>(value)).put16(static_cast<std::uint16_t>(value >> 16)); }
  Structure& put64(std::uint64_t value) { return put32(static_cast<std::uint32_t>(value)).put32(static_cast<std::uint32_t>(value >> 32)); }
  Structure& zeros(std::size_t count) {
    table_.insert(table_.end(), count, 0);
    return *this;
  }
  Structure& text(std::string_view text) {
    texts_.insert(texts_.end(), text.begin(), text.end());
    texts_.push_back(0);
    return put8(++text_count_);
  }
  Structure& guid(const Guid& guid) {
    table_.insert(table_.end(), guid.bytes.begin(), guid.bytes.end());  // the mixed order of 7.2.1 is that of the wire
    return *this;
  }

 private:
  std::vector<std::uint8_t>& table_;
  std::size_t start_;
  std::vector<std::uint8_t> texts_;
  std::uint8_t text_count_ = 0;
};

void put_processor(std::vector<std::uint8_t>& table, std::uint32_t count) {
  // 7.5: one package with all cores.
  const auto cores8 = static_cast<std::uint8_t>(count);
  const auto cores16 = static_cast<std::uint16_t>(count);
  Structure(table, Kind::kProcessor, 4).text("CPU 0").put8(3).put8(2).text(kMaker).put64(0).text("Virtual Processor").put8(0).put16(0).put16(0).put16(0)
      .put8(0x41).put8(1).put16(0xFFFF).put16(0xFFFF).put16(0xFFFF).put8(0).put8(0).put8(0).put8(cores8).put8(cores8).put8(cores8).put16(0x4)
      .put16(2).put16(cores16).put16(cores16).put16(cores16);
}

void put_memory(std::vector<std::uint8_t>& table, std::uint64_t bytes) {
  Structure(table, Kind::kMemoryArray, kHandleMemoryArray).put8(1).put8(3).put8(3).put32(0x80000000).put16(kNoHandle).put16(1).put64(bytes);
  // 7.18: the size in MiB; what does not fit 15 bits stands in the extended field.
  const std::uint64_t mebibytes = bytes >> 20;
  const bool is_extended = mebibytes >= 0x7FFF;
  Structure(table, Kind::kMemoryDevice, 0x11).put16(kHandleMemoryArray).put16(kNoHandle).put16(64).put16(64)
      .put16(is_extended ? std::uint16_t{0x7FFF} : static_cast<std::uint16_t>(mebibytes)).put8(9).put8(0).text("DIMM 0").text("Bank 0").put8(7).put16(4)
      .put16(0).text(kMaker).put8(0).put8(0).put8(0).put8(0).put32(is_extended ? static_cast<std::uint32_t>(mebibytes) : 0).put16(0).put16(0).put16(0).put16(0);
  Structure(table, Kind::kMemoryArrayAddress, 0x13).put32(0xFFFFFFFF).put32(0xFFFFFFFF).put16(kHandleMemoryArray).put8(1).put64(0).put64(bytes - 1);
}

}  // namespace

std::vector<std::uint8_t> build_smbios_table(const SmbiosMachine& machine) {
  std::vector<std::uint8_t> table;
  // 7.1: characteristics not supported; in the extension: ACPI, UEFI, virtual machine.
  Structure(table, Kind::kBios, 0).text(kMaker).text("1.0").put16(0).text("01/01/2026").put8(0).put64(1U << 3).put8(1).put8(0x18).put8(1).put8(0).put8(0xFF).put8(0xFF).put16(0);
  Structure(table, Kind::kSystem, 1).text(kMaker).text(kProduct).text(kVersion).put8(0).guid(machine.system_id).put8(6).put8(0).put8(0);
  Structure(table, Kind::kBaseBoard, 2).text(kMaker).text(kProduct).text(kVersion).put8(0).put8(0).put8(1).put8(0).put16(kHandleChassis).put8(0xA).put8(0);
  Structure(table, Kind::kChassis, kHandleChassis).text(kMaker).put8(3).text(kVersion).put8(0).put8(0).put8(3).put8(3).put8(3).put8(2).put32(0).put8(0).put8(0).put8(0).put8(0).put8(0);
  put_processor(table, machine.processor_count);
  put_memory(table, machine.memory_bytes);
  Structure(table, Kind::kBoot, 0x20).zeros(6).put8(0);
  static_cast<void>(Structure(table, Kind::kEnd, 0x7F));
  return table;
}

Result<void> place_smbios(memory::GuestMemory& memory, AddressRange range, const SmbiosMachine& machine) {
  constexpr std::uint64_t kTableOffset = 32;
  const std::vector<std::uint8_t> table = build_smbios_table(machine);
  if (table.size() + kTableOffset > range.size) return fail(ErrorCode::kExhausted, "SMBIOS tables of {} bytes do not fit into {}", table.size(), range.size);
  EntryPoint entry;
  entry.maximum_size = static_cast<std::uint32_t>(table.size());
  entry.table = range.base + kTableOffset;
  std::uint8_t sum = 0;
  for (const std::byte byte : bytes_of(entry)) sum = static_cast<std::uint8_t>(sum + std::to_integer<std::uint8_t>(byte));
  entry.checksum = static_cast<std::uint8_t>(-sum);
  BYGONE_CHECK(memory.write_object({range.base}, entry));
  return memory.write({range.base + kTableOffset}, std::as_bytes(std::span(table)));
}

}  // namespace bygone::firmware
