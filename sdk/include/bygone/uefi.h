// The part of UEFI that a small program on the bare machine needs, in C++ and without any development kit.
// UEFI 2.10: 4.3 system table, 7 boot services, 12.4 text output, 12.3 text input, 12.9 graphics output. Slots that nothing here
// uses are untyped, so that the offsets of the others are right.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bygone::uefi {

// Every call into the firmware uses this convention.
#define BYGONE_UEFI_CALL __attribute__((ms_abi))

using Status = std::uint64_t;
using Handle = void*;
using Event = void*;

inline constexpr Status kSuccess = 0;
inline constexpr Status kErrorBit = 1ULL << 63;
inline constexpr Status kNotReady = kErrorBit | 6;
[[nodiscard]] constexpr bool is_error(Status status) { return (status & kErrorBit) != 0; }

struct Guid {
  std::uint32_t data1;
  std::uint16_t data2, data3;
  std::uint8_t data4[8];
};

struct TableHeader {
  std::uint64_t signature;
  std::uint32_t revision, header_size, crc32, reserved;
};

struct InputKey {
  std::uint16_t scan_code;
  char16_t character;
};

struct TextInput {
  void* reset;
  Status(BYGONE_UEFI_CALL* read_key)(TextInput*, InputKey*);
  Event wait_for_key;
};

struct TextOutput {
  void* reset;
  Status(BYGONE_UEFI_CALL* output_string)(TextOutput*, const char16_t*);
  void* test_string;
  void* query_mode;
  void* set_mode;
  Status(BYGONE_UEFI_CALL* set_attribute)(TextOutput*, std::uint64_t attribute);
  Status(BYGONE_UEFI_CALL* clear_screen)(TextOutput*);
};

struct BootServices {
  TableHeader header;
  void* raise_tpl;
  void* restore_tpl;
  void* memory[5];     // pages, memory map, pools
  void* events[2];     // create, set timer
  Status(BYGONE_UEFI_CALL* wait_for_event)(std::uint64_t count, Event* events, std::uint64_t* index);
  void* events_2[3];   // signal, close, check
  void* protocols[9];  // install … locate device path, install configuration table
  void* images[5];     // load, start, exit, unload, exit boot services
  void* get_next_monotonic_count;
  Status(BYGONE_UEFI_CALL* stall)(std::uint64_t microseconds);
  Status(BYGONE_UEFI_CALL* set_watchdog_timer)(std::uint64_t seconds, std::uint64_t code, std::uint64_t size, const char16_t* data);
  void* drivers[2];    // connect, disconnect
  void* protocols_2[5];  // open, close, information, per handle, locate handle buffer
  Status(BYGONE_UEFI_CALL* locate_protocol)(const Guid*, void* registration, void** interface);
};
static_assert(offsetof(BootServices, wait_for_event) == 24 + 9 * 8);
static_assert(offsetof(BootServices, stall) == 24 + 28 * 8);
static_assert(offsetof(BootServices, locate_protocol) == 24 + 37 * 8);

struct SystemTable {
  TableHeader header;
  const char16_t* firmware_vendor;
  std::uint32_t firmware_revision;
  Handle console_in_handle;
  TextInput* console_in;
  Handle console_out_handle;
  TextOutput* console_out;
  Handle standard_error_handle;
  TextOutput* standard_error;
  void* runtime_services;
  BootServices* boot_services;
  std::uint64_t table_count;
  void* tables;
};
static_assert(offsetof(SystemTable, boot_services) == 96);

struct Pixel {
  std::uint8_t blue, green, red, reserved;
};

struct GraphicsMode {
  std::uint32_t max_mode, mode;
  const struct GraphicsInformation* information;
  std::uint64_t information_size;
  std::uint64_t frame_buffer;
  std::uint64_t frame_buffer_size;
};

struct GraphicsInformation {
  std::uint32_t version, width, height, pixel_format;
  std::uint32_t masks[4];
  std::uint32_t pixels_per_line;
};

struct GraphicsOutput {
  static constexpr Guid kGuid{0x9042a9de, 0x23dc, 0x4a38, {0x96, 0xfb, 0x7a, 0xde, 0xd0, 0x80, 0x51, 0x6a}};
  void* query_mode;
  Status(BYGONE_UEFI_CALL* set_mode)(GraphicsOutput*, std::uint32_t mode);
  void* block_transfer;
  GraphicsMode* mode;
};

}  // namespace bygone::uefi
