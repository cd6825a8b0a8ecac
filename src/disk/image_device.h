// A disk in an image file: the BlockDevice over a File and the ImageLayout that knows its format.
//
//   submit → under the lock: the layout maps the request to runs (allocating for writes) → outside it: each run goes from the
//   caller's own buffers to the file, to the parent image or is zero → the last run completes the request.
//   flush → the worker: payload is flushed, then the layout's tables are made durable; flushes that wait share one.
//
// Threading: as BlockDevice. Lock order: this device's lock before its parent's; no lock is held while completions run.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "disk/block_device.h"
#include "disk/image_layout.h"

namespace bygone::disk {

class ImageDevice final : public BlockDevice {
 public:
  /// `parent` may be null; it is read where the layout says so. `file` is the layout's own.
  ImageDevice(std::unique_ptr<File> file, std::unique_ptr<ImageLayout> layout, std::shared_ptr<BlockDevice> parent);
  /// Closes; what fails then is lost to the caller, who calls close() first when it matters.
  ~ImageDevice() override;

  [[nodiscard]] BlockDeviceInfo info() const override;
  void submit(BlockRequest request) override;
  [[nodiscard]] std::string content_stamp() override;

  /// Waits for all requests, makes everything durable and marks the file as closed in order. Nothing may be submitted afterwards.
  [[nodiscard]] Result<void> close();

  /// The first run of [offset, offset + length), and where it is kept; for tools.
  [[nodiscard]] Result<Extent> find(std::uint64_t offset, std::uint64_t length);
  [[nodiscard]] File& file() { return *file_; }
  [[nodiscard]] ImageLayout& layout() { return *layout_; }
  [[nodiscard]] BlockDevice* parent() { return parent_.get(); }

 private:
  struct Operation;
  struct Piece;
  /// A run in this image or in one of the ancestors that it can look into.
  struct Place {
    Extent extent;
    File* file = nullptr;
  };
  /// What the read-only ancestors hold of one stretch of the disk, when that is one run: it never changes while they are open.
  struct AncestorStretch {
    std::uint64_t number = ~std::uint64_t{0};  // of the stretch; its offset in units of kStretchBytes
    bool is_one_run = false;
    Place place;  // from the stretch's beginning
  };
  static constexpr std::uint64_t kStretchBytes = 256U << 10;
  static constexpr std::size_t kStretches = 4096;
  [[nodiscard]] Result<Place> locate(std::uint64_t offset, std::uint64_t length);
  [[nodiscard]] Result<Place> locate_locked(std::uint64_t offset, std::uint64_t length);
  [[nodiscard]] Result<Place> locate_in_ancestors(std::uint64_t offset, std::uint64_t length);
  void start_transfer(const std::shared_ptr<Operation>& operation);
  void start_zeroing(const std::shared_ptr<Operation>& operation);
  Result<void> plan_transfer(Operation& operation, std::vector<Piece>& pieces);
  Result<void> plan_zeroing(Operation& operation, std::vector<Piece>& pieces);
  void run_pieces(const std::shared_ptr<Operation>& operation, std::vector<Piece> pieces);
  void run_piece(const std::shared_ptr<Operation>& operation, Piece piece);
  void read_parent(const std::shared_ptr<Operation>& operation, Piece piece);
  void finish_piece(Operation& operation, const Piece& piece, Result<void> result);
  void release_operation(Operation& operation, Result<void> result);
  void complete(BlockRequest& request, Result<void> result);
  void enter_block(std::uint64_t offset);
  void leave_block(std::uint64_t offset);
  bool is_block_in_use(std::uint64_t offset) const;
  void queue_flush(BlockRequest request);
  void work();
  Result<void> commit();

  std::unique_ptr<File> file_;
  std::unique_ptr<ImageLayout> layout_;
  std::shared_ptr<BlockDevice> parent_;
  // The parent when it is a read-only image, whose blocks never move: its runs are then read from here, without a request to it.
  ImageDevice* const readable_parent_;
  const std::uint64_t block_bytes_;
  const BlockDeviceInfo info_;

  mutable std::mutex mutex_;  // guards layout_ and what follows
  std::condition_variable work_;  // there is some for worker_, which a request that ends does not wake
  std::condition_variable idle_;  // no request is on its way
  std::unordered_map<std::uint64_t, std::uint32_t> blocks_in_use_;  // pieces in flight by block
  std::vector<AncestorStretch> stretches_;                          // by number modulo kStretches; empty until one is looked up
  std::uint64_t in_flight_ = 0;                                     // requests
  std::deque<BlockRequest> flushes_;
  bool is_commit_wanted_ = false;
  bool is_stopping_ = false;
  bool is_closed_ = false;
  Result<void> failure_;  // a flush of the host's that failed: what it covered can't be known any more
  std::thread worker_;
};

}  // namespace bygone::disk
