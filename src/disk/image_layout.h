// How a format lays a disk's blocks out in its file: the part of an image that differs between raw, VHD and VHDX. A layout
// answers where bytes are and keeps the tables; it never sees payload. ImageDevice (image_device.h) does the rest.
//
// Threading: none of its own; the device calls every function with its lock held, except LayoutCommit::write().
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "disk/block_device.h"
#include "disk/file.h"
#include "support/result.h"

namespace bygone::disk {

/// Where a run of the disk is to be read from.
struct Extent {
  enum class Kind { kFile, kZero, kParent };
  Kind kind = Kind::kZero;
  std::uint64_t length = 0;
  std::uint64_t file_offset = 0;  ///< kFile
};

/// Where a run of the disk is to be written to.
struct WriteTarget {
  std::uint64_t length = 0;
  std::uint64_t file_offset = 0;
  bool is_reported = false;  ///< finish_write() is wanted once the payload is in the file
};

/// What makes a run of the disk read as zero.
struct ZeroTarget {
  enum class Action {
    kNothing,      ///< done by the tables, or zero already
    kZeroFile,     ///< the range of the file becomes zero and stays allocated
    kDiscardFile,  ///< the range of the file becomes zero and its space is given back
  };
  Action action = Action::kNothing;
  std::uint64_t length = 0;
  std::uint64_t file_offset = 0;
  bool is_reported = false;  ///< finish_write() is wanted once the file is zero there
};

/// The parent that a differencing image names.
struct ParentReference {
  std::vector<std::string> paths;  ///< relative to the child's folder or absolute, best first, as the host writes them
  std::vector<Guid> identities;    ///< any of them
  /// When the parent was last written to, in seconds since 1970; nothing when the format doesn't say.
  std::optional<std::int64_t> written_at;
};

/// Changes of the tables on their way to the file.
class LayoutCommit {
 public:
  virtual ~LayoutCommit() = default;
  /// Makes the changes durable; blocks. The payload they speak of is durable already. Called without the device's lock.
  [[nodiscard]] virtual Result<void> write() = 0;
};

class ImageLayout {
 public:
  virtual ~ImageLayout() = default;
  [[nodiscard]] virtual BlockDeviceInfo info() const = 0;
  /// "VHDX, dynamic"
  [[nodiscard]] virtual std::string_view kind() const = 0;
  /// The unit of allocation in which requests in flight are counted; 0 when space never moves.
  [[nodiscard]] virtual std::uint64_t block_bytes() const { return 0; }

  /// Empty when the image stands alone.
  [[nodiscard]] virtual std::optional<ParentReference> parent() const { return {}; }
  /// What children call this image by; it changes when the content does (VHDX) or never (VHD).
  [[nodiscard]] virtual Guid link_identity() const { return {}; }
  /// A name for the present content, which the next write gives another; empty: the format has no such thing.
  [[nodiscard]] virtual std::string stamp_content() { return {}; }

  /// The first run of [offset, offset + length): 1 to `length` bytes, inside one block.
  [[nodiscard]] virtual Result<Extent> find(std::uint64_t offset, std::uint64_t length) = 0;
  /// The same for writing; allocates.
  [[nodiscard]] virtual Result<WriteTarget> prepare_write(std::uint64_t offset, std::uint64_t length) = 0;
  virtual Result<void> finish_write(std::uint64_t /*offset*/, std::uint64_t /*length*/) { return {}; }
  /// The same for zeros. `is_hint`: a trim, which may do nothing; `is_in_use`: other requests use the block's space right now.
  [[nodiscard]] virtual Result<ZeroTarget> prepare_zero(std::uint64_t offset, std::uint64_t length, bool is_hint,
                                                        bool is_in_use) = 0;

  /// Takes the changes since the last commit; nothing when there are none.
  [[nodiscard]] virtual std::unique_ptr<LayoutCommit> begin_commit() { return nullptr; }
  /// Ends the commit that begin_commit() gave; after a failure its changes are due again.
  virtual void end_commit(LayoutCommit& /*commit*/, bool /*is_durable*/) {}
  /// Many changes wait: a commit would be good even though nobody asked for a flush.
  [[nodiscard]] virtual bool wants_commit() const { return false; }
  /// After the last commit: marks the file as closed in order.
  [[nodiscard]] virtual Result<void> close() { return {}; }
};

}  // namespace bygone::disk
