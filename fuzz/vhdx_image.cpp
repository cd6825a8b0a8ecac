// Links: bygone_disk
// Opens bytes as a VHDX image, reads, writes and trims it. The checksums of headers and region tables are put right first.
#include <cstring>

#include "disk/vhdx/vhdx_layout.h"
#include "image_fuzz.h"
#include "support/crc32c.h"

namespace {

void fix_checksum(bygone::disk::SparseBytes& bytes, std::uint64_t offset, std::size_t length, std::uint32_t signature) {
  if (bytes.size() < offset + length) return;
  std::vector<std::byte> block(length);
  bytes.read(offset, block);
  bygone::le32 found;
  std::memcpy(&found, block.data(), sizeof found);
  if (found != signature) return;
  std::memset(block.data() + 4, 0, 4);
  const bygone::le32 checksum = bygone::crc32c(block);
  std::memcpy(block.data() + 4, &checksum, sizeof checksum);
  bytes.write(offset, block);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bygone;
  namespace vhdx = spec::vhdx;
  if (size < 2) return 0;
  const bool is_read_only = (data[0] & 1) != 0;
  disk::SparseBytes bytes = disk::file_from_runs({data + 1, size - 1});
  bytes.resize((bytes.size() + vhdx::kMebibyte - 1) / vhdx::kMebibyte * vhdx::kMebibyte);
  for (const std::uint64_t offset : vhdx::kHeaderOffsets) fix_checksum(bytes, offset, vhdx::kHeaderBytes, vhdx::kHeaderSignature);
  for (const std::uint64_t offset : vhdx::kRegionTableOffsets) {
    fix_checksum(bytes, offset, vhdx::kRegionTableBytes, vhdx::kRegionTableSignature);
  }
  disk::use_image<disk::VhdxLayout>(std::move(bytes), is_read_only);
  return 0;
}
