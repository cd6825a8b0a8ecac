#include "firmware/linux/uefi_tables.h"

#include <array>
#include <span>
#include <string_view>

#include "spec/uefi/system_table.h"
#include "support/byte_order.h"

namespace bygone::firmware {
namespace {

namespace uefi = spec::uefi;
namespace protocol = spec::linux_boot;

// Offsets in the range. The first page is "runtime services code": guests keep it mapped.
constexpr std::uint64_t kSystemTable = 0x000, kConfiguration = 0x100, kRuntime = 0x200, kVendor = 0x300;
constexpr std::uint64_t kSucceed = 0x400, kRefuse = 0x410;
constexpr std::uint64_t kMap = 0x1000, kMapSize = kDirectBootUefi.size - kMap;

/// xor eax, eax; ret
constexpr std::array<std::uint8_t, 3> kSucceedCode{0x31, 0xC0, 0xC3};
/// mov rax, EFI_UNSUPPORTED; ret
constexpr std::array<std::uint8_t, 11> kRefuseCode{0x48, 0xB8, 0x03, 0, 0, 0, 0, 0, 0, 0x80, 0xC3};

constexpr std::array<char16_t, 7> kVendorName{'B', 'y', 'g', 'o', 'n', 'e', 0};

constexpr std::uint64_t at(std::uint64_t offset) { return kDirectBootUefi.base + offset; }

uefi::TableHeader header_of(std::uint64_t signature, std::size_t size) {
  uefi::TableHeader header;
  header.signature = signature;
  header.revision = uefi::kRevision2_10;
  header.header_size = static_cast<std::uint32_t>(size);
  return header;
}

uefi::RuntimeServices runtime_services() {
  uefi::RuntimeServices services;
  services.header = header_of(uefi::kRuntimeServicesSignature, sizeof services);
  for (le64* function : {&services.get_time, &services.set_time, &services.get_wakeup_time, &services.set_wakeup_time,
                         &services.convert_pointer, &services.get_variable, &services.get_next_variable_name,
                         &services.set_variable, &services.get_next_high_monotonic_count, &services.reset_system,
                         &services.update_capsule, &services.query_capsule_capabilities, &services.query_variable_info}) {
    *function = at(kRefuse);
  }
  services.set_virtual_address_map = at(kSucceed);
  return services;
}

uefi::MemoryDescriptor descriptor(std::uint32_t type, std::uint64_t begin, std::uint64_t end, std::uint64_t attributes) {
  uefi::MemoryDescriptor result;
  result.type = type;
  result.physical_start = begin;
  result.page_count = (end - begin) / memory::kPageSize;
  result.attributes = attributes;
  return result;
}

std::vector<uefi::MemoryDescriptor> memory_map(const std::vector<protocol::E820Entry>& map) {
  const std::uint64_t own = kDirectBootUefi.base, own_end = own + memory::kPageSize;
  std::vector<uefi::MemoryDescriptor> result;
  const auto add = [&](std::uint32_t type, std::uint64_t begin, std::uint64_t end, std::uint64_t attributes) {
    if (begin < end) result.push_back(descriptor(type, begin, end, attributes));
  };
  for (const protocol::E820Entry& entry : map) {
    const std::uint64_t begin = entry.base, end = entry.base + entry.size;
    const std::uint32_t type = entry.type == protocol::kE820Ram ? uefi::kConventionalMemory : uefi::kReservedMemory;
    if (begin <= own && own_end <= end) {
      add(type, begin, own, uefi::kMemoryWriteBack);
      add(uefi::kRuntimeServicesCode, own, own_end, uefi::kMemoryWriteBack | uefi::kMemoryRuntime);
      add(type, own_end, end, uefi::kMemoryWriteBack);
    } else {
      add(type, begin, end, uefi::kMemoryWriteBack);
    }
  }
  return result;
}

}  // namespace

Result<UefiTables> place_uefi_tables(memory::GuestMemory& memory, const std::vector<protocol::E820Entry>& map, std::uint64_t rsdp, std::uint64_t smbios) {
  const std::vector<uefi::MemoryDescriptor> descriptors = memory_map(map);
  const std::size_t map_size = descriptors.size() * sizeof descriptors[0];
  if (map_size > kMapSize) return fail(ErrorCode::kExhausted, "{} memory ranges are too many for the UEFI memory map", descriptors.size());

  uefi::SystemTable system;
  system.header = header_of(uefi::kSystemTableSignature, sizeof system);
  system.firmware_vendor = at(kVendor);
  system.runtime_services = at(kRuntime);
  system.table_count = std::uint64_t{2};
  system.configuration_table = at(kConfiguration);
  const std::array<uefi::ConfigurationTable, 2> configuration{{{uefi::kAcpi20Table, rsdp}, {uefi::kSmbios3Table, smbios}}};

  BYGONE_CHECK(memory.fill({kDirectBootUefi.base}, kDirectBootUefi.size, std::byte{0}));
  BYGONE_CHECK(memory.write_object({at(kSystemTable)}, system));
  BYGONE_CHECK(memory.write_object({at(kConfiguration)}, configuration));
  BYGONE_CHECK(memory.write_object({at(kRuntime)}, runtime_services()));
  BYGONE_CHECK(memory.write_object({at(kVendor)}, kVendorName));
  BYGONE_CHECK(memory.write_object({at(kSucceed)}, kSucceedCode));
  BYGONE_CHECK(memory.write_object({at(kRefuse)}, kRefuseCode));
  BYGONE_CHECK(memory.write({at(kMap)}, std::as_bytes(std::span(descriptors))));
  return UefiTables{at(kSystemTable), at(kMap), static_cast<std::uint32_t>(map_size), sizeof(uefi::MemoryDescriptor)};
}

}  // namespace bygone::firmware
