// Links: bygone_disk
// Parent locators of both formats, and the paths in them.
#include <cstring>

#include "disk/fault_file.h"
#include "disk/parent_path.h"
#include "disk/vhd/vhd_format.h"
#include "disk/vhdx/vhdx_metadata.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bygone;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  std::vector<std::string> paths;
  if (const auto parent = disk::parse_vhdx_parent_locator(bytes)) {
    for (const auto& [key, value] : *parent) disk::add_parent_paths(value, paths);
    // What is written is read back, once the text has been through UTF-8.
    const auto again = disk::parse_vhdx_parent_locator(disk::make_vhdx_parent_locator(*parent));
    if (!again || *again != *parent) __builtin_trap();
  }
  disk::SparseBytes file_bytes;
  file_bytes.write(0, bytes);
  disk::FaultFile file(disk::FaultFile::history_of(std::move(file_bytes)));
  spec::vhd::DynamicHeader header = {};
  std::memcpy(&header, data, std::min(size, sizeof header));
  if (const auto parent = disk::read_vhd_parent(file, header)) {
    disk::add_parent_paths(parent->relative_path, paths);
    disk::add_parent_paths(parent->absolute_path, paths);
    disk::add_parent_paths(parent->name, paths);
  }
  return 0;
}
