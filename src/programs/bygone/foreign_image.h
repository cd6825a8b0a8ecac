// Images that only qemu-img reads (qcow2, vmdk, …): made raw first, in a file that goes away again.
#pragma once

#include <string>

#include "disk/tools/progress.h"
#include "programs/bygone/command_context.h"

namespace bygone::programs {

class ReadableSource {
 public:
  ReadableSource(std::string path, bool is_temporary) : path_(std::move(path)), is_temporary_(is_temporary) {}
  ReadableSource(ReadableSource&& other) noexcept
      : path_(std::move(other.path_)), is_temporary_(std::exchange(other.is_temporary_, false)) {}
  ReadableSource& operator=(ReadableSource&&) = delete;
  ~ReadableSource();
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool is_temporary_;
};

/// `source` itself, or a raw copy of it in the folder of `target`. Says so when it takes qemu-img.
/// Errors: kNotFound (no qemu-img), kIo (what qemu-img says), kCancelled.
[[nodiscard]] Result<ReadableSource> make_readable(const std::string& source, const std::string& target, CommandContext& context,
                                                   const disk::Progress& progress);

}  // namespace bygone::programs
