// A File on the host: two descriptors (through the page cache, and past it where asked and possible), an advisory lock against
// a second writer, and an IoBackend for the payload.
#pragma once

#include <memory>
#include <string>

#include "disk/file.h"
#include "disk/io_backend.h"

namespace bygone::disk {

struct HostFileOptions {
  bool is_read_only = false;
  bool is_created = false;      ///< must not exist yet
  bool bypasses_cache = false;  ///< O_DIRECT for aligned requests; quietly not where the file system has none
  bool ignores_lock = false;    ///< for looking at an image that a machine has open
  int opened = -1;              ///< a descriptor that is used (a copy of it) where the path cannot be opened, which then only names it
};

/// Errors: kNotFound, kPermissionDenied, kAlreadyExists, kBusy (open elsewhere).
[[nodiscard]] Result<std::unique_ptr<File>> open_host_file(const std::string& path, const HostFileOptions& options,
                                                           std::shared_ptr<IoBackend> backend);

}  // namespace bygone::disk
