// Making VHDX files.
#pragma once

#include "disk/file.h"
#include "disk/vhdx/vhdx_metadata.h"

namespace bygone::disk {

/// Writes an image without content into the empty `file`, durably. With `leaves_blocks_allocated` (a fixed image) every block gets
/// its place and the host's space is reserved. `data_write_guid`: what children find it by; a random one when zero.
/// Errors: kInvalidArgument, kNoSpace, kIo.
[[nodiscard]] Result<void> create_vhdx(File& file, const VhdxMetadata& metadata, Guid data_write_guid = {});

}  // namespace bygone::disk
