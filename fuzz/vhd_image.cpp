// Links: bygone_disk
// Opens bytes as a VHD image, reads, writes and trims it. The checksums of the footer and the header are put right first: a fuzzer
// would not get past them.
#include "disk/vhd/vhd_layout.h"
#include "image_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bygone;
  if (size < 2) return 0;
  const bool is_read_only = (data[0] & 1) != 0;
  disk::SparseBytes bytes = disk::file_from_runs({data + 1, size - 1});
  if (bytes.size() < 512) return 0;
  for (const std::uint64_t offset : {std::uint64_t{0}, bytes.size() - 512}) {
    spec::vhd::Footer footer;
    bytes.read(offset, writable_bytes_of(footer));
    footer.checksum = disk::vhd_checksum(footer);
    if (footer.cookie == spec::vhd::kFooterCookie) bytes.write(offset, bytes_of(footer));
    const std::uint64_t header_offset = footer.data_offset;
    spec::vhd::DynamicHeader header;
    if (header_offset > bytes.size() || bytes.size() - header_offset < sizeof header) continue;
    bytes.read(header_offset, writable_bytes_of(header));
    header.checksum = disk::vhd_checksum(header);
    if (header.cookie == spec::vhd::kDynamicCookie) bytes.write(header_offset, bytes_of(header));
  }
  disk::use_image<disk::VhdLayout>(std::move(bytes), is_read_only);
  return 0;
}
