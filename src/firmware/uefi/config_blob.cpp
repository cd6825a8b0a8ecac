#include "firmware/uefi/config_blob.h"

#include <cstring>
#include <span>

#include "spec/uefi/handover.h"

namespace bygone::firmware {
namespace {

using spec::uefi::BlobRecord;

class BlobWriter {
 public:
  BlobWriter() {
    struct {
      le32 count, bytes;
    } unknown_yet;
    add(BlobRecord::kStructureCount, bytes_of(unknown_yet));
  }

  void add(BlobRecord type, std::span<const std::byte> payload) {
    const std::size_t padded = (payload.size() + 7) / 8 * 8;
    const spec::uefi::BlobRecordHeader header{static_cast<std::uint32_t>(type), static_cast<std::uint32_t>(sizeof header + padded)};
    append(bytes_of(header));
    append(payload);
    blob_.resize(blob_.size() + padded - payload.size());
    ++count_;
  }
  template <typename T>
  void add_object(BlobRecord type, const T& object) {
    add(type, bytes_of(object));
  }
  void add_table(BlobRecord type, const AcpiTable& table) {
    if (!table.empty()) add(type, std::as_bytes(std::span(table)));
  }
  void add_text(BlobRecord type, std::string_view text) {
    std::vector<std::byte> payload(text.size() + 1);
    std::memcpy(payload.data(), text.data(), text.size());
    add(type, payload);
  }

  std::vector<std::byte> finish() {
    const le32 count = count_, size = static_cast<std::uint32_t>(blob_.size());
    std::memcpy(blob_.data() + 8, &count, 4);
    std::memcpy(blob_.data() + 12, &size, 4);
    return std::move(blob_);
  }

 private:
  void append(std::span<const std::byte> bytes) { blob_.insert(blob_.end(), bytes.begin(), bytes.end()); }
  std::vector<std::byte> blob_;
  std::uint32_t count_ = 0;
};

constexpr std::uint64_t kLegacyArea = 0xA0000, kLegacyAreaEnd = 0x100000;

std::vector<std::byte> memory_map(const std::vector<AddressRange>& ram) {
  std::vector<spec::uefi::BlobMemoryRange> ranges;
  const auto add = [&](std::uint64_t begin, std::uint64_t end, std::uint32_t flags) {
    if (begin < end) ranges.push_back({begin, end - begin, flags, 0U});
  };
  for (const AddressRange& range : ram) {
    const std::uint64_t end = range.base + range.size;
    add(range.base, std::min(end, kLegacyArea), 0);
    add(std::max(range.base, kLegacyArea), std::min(end, kLegacyAreaEnd), spec::uefi::kBlobMemoryReserved);
    add(std::max(range.base, kLegacyAreaEnd), end, 0);
  }
  const auto bytes = std::as_bytes(std::span(ranges));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::vector<std::byte> build_config_blob(const UefiMachine& machine) {
  const AcpiTables tables = build_acpi_tables(machine.acpi);
  BlobWriter blob;
  struct {
    le32 pages, flags;
  } const bios_information{static_cast<std::uint32_t>(spec::uefi::kImageSize / memory::kPageSize), 0U};
  blob.add_object(BlobRecord::kBiosInformation, bios_information);
  blob.add(BlobRecord::kMemoryMap, memory_map(machine.acpi.ram));
  blob.add(BlobRecord::kEntropy, machine.entropy);
  blob.add_object(BlobRecord::kBiosGuid, machine.system_id);
  blob.add_text(BlobRecord::kSystemSerial, machine.system_id.text());
  blob.add_text(BlobRecord::kSystemManufacturer, "Bygone");
  blob.add_text(BlobRecord::kSystemProduct, "Virtual Machine");
  blob.add_text(BlobRecord::kSystemVersion, "Generation 2");

  const bool has_serial = machine.acpi.has_com1 || machine.acpi.has_com2;
  const le64 flags = (has_serial ? spec::uefi::kFlagSerialControllers : 0) |
                     (machine.acpi.com1_is_console ? spec::uefi::kFlagConsoleCom1 : 0) | spec::uefi::kFlagMemoryAttributesTable |
                     spec::uefi::kFlagMtrrsSet | (machine.stop_at_front_page ? 0 : spec::uefi::kFlagNoFrontPage);
  blob.add_object(BlobRecord::kFlags, flags);

  struct {
    le32 maximum, count, per_socket, threads_per_core;
  } const processors{machine.acpi.processor_count, machine.acpi.processor_count, machine.acpi.processor_count, 1U};
  blob.add_object(BlobRecord::kProcessorInformation, processors);
  struct {
    le64 low_page, low_pages, high_page, high_pages;
  } const windows{machine.low_gap.base / memory::kPageSize, machine.low_gap.size / memory::kPageSize,
                  machine.high_gap.base / memory::kPageSize, machine.high_gap.size / memory::kPageSize};
  blob.add_object(BlobRecord::kMmioRanges, windows);

  blob.add_table(BlobRecord::kMadt, tables.madt);
  blob.add_table(BlobRecord::kSrat, tables.srat);
  for (const AcpiTable* table : {&tables.fadt, &tables.facs, &tables.dsdt, &tables.waet, &tables.spcr, &tables.wdat}) {
    blob.add_table(BlobRecord::kAcpiTable, *table);
  }
  return blob.finish();
}

}  // namespace bygone::firmware
