// For tests and fuzz targets: the smallest file that the loader takes for a Linux kernel.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "spec/linux/boot_protocol.h"

namespace bygone::firmware {

/// A bzImage of one setup sector, with `code` (at most 3584 bytes) at its 64-bit entry and NOPs around it.
inline std::vector<std::byte> testing_kernel(std::span<const std::uint8_t> code = {}) {
  namespace protocol = spec::linux_boot;
  protocol::SetupHeader header;
  header.setup_sectors = 1;
  header.boot_flag = protocol::kBootFlag;
  std::memcpy(header.magic, "HdrS", 4);
  header.version = std::uint16_t{0x20F};
  header.xload_flags = protocol::kXloadKernel64;
  header.command_line_size = 2047U;
  header.preferred_address = 0x1000000ULL;
  header.initialization_size = 0x100000U;
  header.initrd_address_maximum = 0x7FFFFFFFU;
  std::vector<std::byte> file(1024 + 4096, std::byte{0x90});
  std::memcpy(file.data() + protocol::kSetupHeaderOffset, &header, sizeof header);
  if (!code.empty()) std::memcpy(file.data() + 1024 + protocol::kEntryOffset64, code.data(), code.size());
  return file;
}

}  // namespace bygone::firmware
