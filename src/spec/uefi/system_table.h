// What an operating system finds of UEFI after ExitBootServices(): system table, runtime services, configuration tables, memory
// map. UEFI Specification 2.10, sections 4.2-4.6, 7.2.3 and 8.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"
#include "support/guid.h"

namespace bygone::spec::uefi {

// Section 4.2.1.
struct TableHeader {
  le64 signature;
  le32 revision, header_size, crc32, reserved;
};
static_assert(sizeof(TableHeader) == 24);
inline constexpr std::uint32_t kRevision2_10 = 2U << 16 | 100;

// Section 4.3.1. Pointers are physical addresses.
struct SystemTable {
  TableHeader header;
  le64 firmware_vendor;
  le32 firmware_revision, padding;
  le64 console_in_handle, console_in, console_out_handle, console_out, error_handle, error_out;
  le64 runtime_services, boot_services, table_count, configuration_table;
};
static_assert(sizeof(SystemTable) == 120 && offsetof(SystemTable, configuration_table) == 112);
inline constexpr std::uint64_t kSystemTableSignature = 0x5453595320494249;

// Section 4.5.1: the functions in their order, section 8.
struct RuntimeServices {
  TableHeader header;
  le64 get_time, set_time, get_wakeup_time, set_wakeup_time;
  le64 set_virtual_address_map, convert_pointer;
  le64 get_variable, get_next_variable_name, set_variable;
  le64 get_next_high_monotonic_count, reset_system, update_capsule, query_capsule_capabilities, query_variable_info;
};
static_assert(sizeof(RuntimeServices) == 136 && offsetof(RuntimeServices, query_variable_info) == 128);
inline constexpr std::uint64_t kRuntimeServicesSignature = 0x56524553544E5552;

// Section 4.6.1.
struct ConfigurationTable {
  Guid guid;
  le64 table;
};
static_assert(sizeof(ConfigurationTable) == 24);
inline constexpr Guid kSmbios3Table = make_guid(0xf2fd1544, 0x9794, 0x4a2c, {0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94});
inline constexpr Guid kAcpi20Table = make_guid(0x8868e871, 0xe4f1, 0x11d3, {0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81});

// Section 7.2.3.
struct MemoryDescriptor {
  le32 type, padding;
  le64 physical_start, virtual_start, page_count, attributes;
};
static_assert(sizeof(MemoryDescriptor) == 40);
inline constexpr std::uint32_t kMemoryDescriptorVersion = 1;
inline constexpr std::uint32_t kReservedMemory = 0, kRuntimeServicesCode = 5, kConventionalMemory = 7;
inline constexpr std::uint64_t kMemoryWriteBack = 8, kMemoryRuntime = 1ULL << 63;

/// EFI_UNSUPPORTED, appendix D.
inline constexpr std::uint64_t kStatusUnsupported = 0x8000000000000003;

}  // namespace bygone::spec::uefi
