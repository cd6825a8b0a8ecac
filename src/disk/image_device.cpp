#include "disk/image_device.h"

#include <algorithm>
#include <atomic>

#include "disk/io_vector.h"

namespace bygone::disk {
/// A request on its way; its pieces complete in any order.
struct ImageDevice::Operation {
  BlockRequest request;
  std::atomic<std::uint32_t> remaining = 1;  // one for the planner itself
  std::mutex mutex;
  Result<void> result;  // the first failure; guarded by mutex
};

/// A run of a request that lies together in one place.
struct ImageDevice::Piece {
  enum class Target { kFile, kFileZero, kFileDiscard, kParent, kNothing };
  Target target = Target::kFile;
  File* file = nullptr;
  std::uint64_t offset = 0;  // on the disk
  std::uint64_t length = 0;
  std::uint64_t file_offset = 0;
  std::vector<iovec> buffers;
  bool is_write = false;
  bool is_reported = false;
  bool is_counted = false;  // in blocks_in_use_
};

namespace {
ImageDevice* as_readable_image(BlockDevice* device) {
  auto* image = dynamic_cast<ImageDevice*>(device);
  return image != nullptr && image->info().is_read_only ? image : nullptr;
}
}  // namespace

ImageDevice::ImageDevice(std::unique_ptr<File> file, std::unique_ptr<ImageLayout> layout, std::shared_ptr<BlockDevice> parent)
    : file_(std::move(file)),
      layout_(std::move(layout)),
      parent_(std::move(parent)),
      readable_parent_(as_readable_image(parent_.get())),
      block_bytes_(layout_->block_bytes()),
      info_(layout_->info()),
      worker_([this] { work(); }) {}

ImageDevice::~ImageDevice() { [[maybe_unused]] const Result<void> unreported = close(); }

BlockDeviceInfo ImageDevice::info() const { return info_; }

std::string ImageDevice::content_stamp() {
  const std::lock_guard lock(mutex_);
  std::string stamp = layout_->stamp_content();
  return stamp.empty() ? file_->change_stamp() : stamp;
}

void ImageDevice::submit(BlockRequest request) {
  {
    const std::lock_guard lock(mutex_);
    ++in_flight_;
  }
  if (Result<void> shape = check_request(info_, request); !shape) return complete(request, std::move(shape));
  if (request.operation == BlockOperation::kFlush) return queue_flush(std::move(request));
  if (request.length == 0) return complete(request, {});
  auto operation = std::make_shared<Operation>();
  operation->request = std::move(request);
  const bool is_transfer =
      operation->request.operation == BlockOperation::kRead || operation->request.operation == BlockOperation::kWrite;
  is_transfer ? start_transfer(operation) : start_zeroing(operation);
}

Result<Extent> ImageDevice::find(std::uint64_t offset, std::uint64_t length) {
  const std::lock_guard lock(mutex_);
  return layout_->find(offset, length);
}

Result<ImageDevice::Place> ImageDevice::locate(std::uint64_t offset, std::uint64_t length) {
  if (offset >= info_.size_bytes) return Place{{Extent::Kind::kZero, length, 0}, nullptr};  // a child may be larger
  const std::lock_guard lock(mutex_);
  return locate_locked(offset, std::min(length, info_.size_bytes - offset));
}

Result<ImageDevice::Place> ImageDevice::locate_locked(std::uint64_t offset, std::uint64_t length) {
  BYGONE_ASSIGN(const Extent extent, layout_->find(offset, length));
  if (extent.kind == Extent::Kind::kParent && readable_parent_ != nullptr) {
    return locate_in_ancestors(offset, extent.length);
  }
  return Place{extent, file_.get()};
}

/// A chain of any length costs one look-up where its ancestors were asked before.
Result<ImageDevice::Place> ImageDevice::locate_in_ancestors(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t number = offset / kStretchBytes;
  const std::uint64_t inside = offset % kStretchBytes;
  if (stretches_.empty()) stretches_.resize(kStretches);
  AncestorStretch& stretch = stretches_[number % kStretches];
  if (stretch.number != number) {
    const Result<Place> found = readable_parent_->locate(number * kStretchBytes, kStretchBytes);
    stretch.is_one_run = found && found->extent.length >= kStretchBytes && found->extent.kind != Extent::Kind::kParent;
    if (found) stretch.place = *found;
    stretch.number = number;
  }
  if (!stretch.is_one_run) return readable_parent_->locate(offset, length);
  Place place = stretch.place;
  place.extent.length = std::min(length, kStretchBytes - inside);
  if (place.extent.kind == Extent::Kind::kFile) place.extent.file_offset += inside;
  return place;
}

void ImageDevice::start_transfer(const std::shared_ptr<Operation>& operation) {
  std::vector<Piece> pieces;
  Result<void> planned = plan_transfer(*operation, pieces);
  run_pieces(operation, std::move(pieces));
  release_operation(*operation, std::move(planned));
}

Result<void> ImageDevice::plan_transfer(Operation& operation, std::vector<Piece>& pieces) {
  const BlockRequest& request = operation.request;
  const bool is_write = request.operation == BlockOperation::kWrite;
  IoVectorReader buffers(request.buffers);
  const std::lock_guard lock(mutex_);
  for (std::uint64_t done = 0; done < request.length;) {
    Piece piece;
    piece.offset = request.offset + done;
    piece.is_write = is_write;
    piece.file = file_.get();
    if (is_write) {
      BYGONE_ASSIGN(const WriteTarget target, layout_->prepare_write(piece.offset, request.length - done));
      piece.length = target.length;
      piece.file_offset = target.file_offset;
      piece.is_reported = target.is_reported;
    } else {
      BYGONE_ASSIGN(const Place place, locate_locked(piece.offset, request.length - done));
      const Extent& extent = place.extent;
      piece.file = place.file;
      piece.length = extent.length;
      piece.file_offset = extent.file_offset;
      piece.target = extent.kind == Extent::Kind::kFile     ? Piece::Target::kFile
                     : extent.kind == Extent::Kind::kParent ? Piece::Target::kParent
                                                            : Piece::Target::kNothing;
    }
    piece.buffers = buffers.take(piece.length);
    if (piece.target == Piece::Target::kFile && piece.file == file_.get() && block_bytes_ != 0) {
      enter_block(piece.offset);
      piece.is_counted = true;
    }
    done += piece.length;
    pieces.push_back(std::move(piece));
  }
  return {};
}

void ImageDevice::start_zeroing(const std::shared_ptr<Operation>& operation) {
  std::vector<Piece> pieces;
  Result<void> planned = plan_zeroing(*operation, pieces);
  run_pieces(operation, std::move(pieces));
  release_operation(*operation, std::move(planned));
}

Result<void> ImageDevice::plan_zeroing(Operation& operation, std::vector<Piece>& pieces) {
  const BlockRequest& request = operation.request;
  const bool is_hint = request.operation == BlockOperation::kUnmap;
  const std::lock_guard lock(mutex_);
  for (std::uint64_t done = 0; done < request.length;) {
    Piece piece;
    piece.offset = request.offset + done;
    piece.is_write = true;
    piece.file = file_.get();
    BYGONE_ASSIGN(const ZeroTarget target, layout_->prepare_zero(piece.offset, request.length - done, is_hint,
                                                                 is_block_in_use(piece.offset)));
    piece.length = target.length;
    piece.file_offset = target.file_offset;
    piece.is_reported = target.is_reported;
    switch (target.action) {
      case ZeroTarget::Action::kNothing: piece.target = Piece::Target::kNothing; break;
      case ZeroTarget::Action::kZeroFile: piece.target = Piece::Target::kFileZero; break;
      case ZeroTarget::Action::kDiscardFile: piece.target = Piece::Target::kFileDiscard; break;
    }
    if (piece.target != Piece::Target::kNothing && block_bytes_ != 0) {
      enter_block(piece.offset);
      piece.is_counted = true;
    }
    done += piece.length;
    pieces.push_back(std::move(piece));
  }
  return {};
}

void ImageDevice::run_pieces(const std::shared_ptr<Operation>& operation, std::vector<Piece> pieces) {
  operation->remaining.fetch_add(static_cast<std::uint32_t>(pieces.size()), std::memory_order_relaxed);
  for (Piece& piece : pieces) run_piece(operation, std::move(piece));
}

void ImageDevice::run_piece(const std::shared_ptr<Operation>& operation, Piece piece) {
  if (piece.target == Piece::Target::kNothing) {
    if (!piece.is_write) fill_with_zeros(piece.buffers);
    return finish_piece(*operation, piece, {});
  }
  if (piece.target == Piece::Target::kParent) return read_parent(operation, std::move(piece));
  File* const file = piece.file;
  FileRequest request;
  request.operation = piece.target == Piece::Target::kFileZero      ? FileOperation::kZero
                      : piece.target == Piece::Target::kFileDiscard ? FileOperation::kDiscard
                      : piece.is_write                              ? FileOperation::kWrite
                                                                    : FileOperation::kRead;
  request.offset = piece.file_offset;
  request.length = piece.length;
  request.buffers = std::move(piece.buffers);
  request.done = [this, operation, piece = std::move(piece)](Result<void> result) {
    finish_piece(*operation, piece, std::move(result));
  };
  file->submit(std::move(request));
}

void ImageDevice::read_parent(const std::shared_ptr<Operation>& operation, Piece piece) {
  const std::uint64_t parent_size = parent_ ? parent_->info().size_bytes : 0;
  const std::uint64_t there =
      piece.offset >= parent_size ? 0 : std::min(piece.length, parent_size - piece.offset);  // a child may be larger
  IoVectorReader buffers(piece.buffers);
  BlockRequest request;
  request.operation = BlockOperation::kRead;
  request.offset = piece.offset;
  request.length = there;
  request.buffers = buffers.take(there);
  fill_with_zeros(buffers.take(piece.length - there));
  if (there == 0) return finish_piece(*operation, piece, {});
  request.done = [this, operation, piece = std::move(piece)](Result<void> result) {
    finish_piece(*operation, piece, std::move(result));
  };
  parent_->submit(std::move(request));
}

void ImageDevice::finish_piece(Operation& operation, const Piece& piece, Result<void> result) {
  if (piece.is_counted || piece.is_reported) {
    const std::lock_guard lock(mutex_);
    if (piece.is_reported && result) result = layout_->finish_write(piece.offset, piece.length);
    if (piece.is_counted) leave_block(piece.offset);
  }
  release_operation(operation, std::move(result));
}

void ImageDevice::release_operation(Operation& operation, Result<void> result) {
  if (!result) {
    const std::lock_guard lock(operation.mutex);
    if (operation.result) operation.result = std::move(result);
  }
  if (operation.remaining.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  BlockRequest& request = operation.request;
  if (request.operation != BlockOperation::kRead && request.force_unit_access && operation.result) {
    return queue_flush(std::move(request));
  }
  complete(request, std::move(operation.result));
}

void ImageDevice::complete(BlockRequest& request, Result<void> result) {
  if (request.done) request.done(std::move(result));
  const std::lock_guard lock(mutex_);
  if (!is_commit_wanted_ && layout_->wants_commit()) {
    is_commit_wanted_ = true;
    work_.notify_one();
  }
  if (--in_flight_ == 0) idle_.notify_all();
}

void ImageDevice::enter_block(std::uint64_t offset) { ++blocks_in_use_[offset / block_bytes_]; }

void ImageDevice::leave_block(std::uint64_t offset) {
  const auto found = blocks_in_use_.find(offset / block_bytes_);
  if (--found->second == 0) blocks_in_use_.erase(found);
}

bool ImageDevice::is_block_in_use(std::uint64_t offset) const {
  return block_bytes_ != 0 && blocks_in_use_.contains(offset / block_bytes_);
}

void ImageDevice::queue_flush(BlockRequest request) {
  const std::lock_guard lock(mutex_);
  flushes_.push_back(std::move(request));
  work_.notify_one();
}

void ImageDevice::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return is_stopping_ || is_commit_wanted_ || !flushes_.empty(); });
    if (is_stopping_ && flushes_.empty()) return;
    std::deque<BlockRequest> served;
    served.swap(flushes_);
    is_commit_wanted_ = false;
    lock.unlock();
    const Result<void> result = info_.is_read_only ? Result<void>{} : commit();
    for (BlockRequest& request : served) complete(request, result);
    lock.lock();
  }
}

Result<void> ImageDevice::commit() {
  std::unique_ptr<LayoutCommit> changes;
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) return failure_;
    changes = layout_->begin_commit();
  }
  // What the changes speak of (payload, the file's new size) was in the file before they were taken, so this flush covers it.
  Result<void> result = file_->flush();
  const bool is_payload_durable = result.has_value();
  if (changes && is_payload_durable) result = changes->write();
  const std::lock_guard lock(mutex_);
  if (changes) layout_->end_commit(*changes, result.has_value());
  // After a failed fdatasync the kernel forgets the pages; a later success would say nothing about them.
  if (!result && result.error().code == ErrorCode::kIo) failure_ = result;
  return result;
}

Result<void> ImageDevice::close() {
  {
    std::unique_lock lock(mutex_);
    if (is_closed_) return {};
    is_closed_ = true;
    idle_.wait(lock, [this] { return in_flight_ == 0; });
    is_stopping_ = true;
    work_.notify_one();
  }
  worker_.join();
  if (info_.is_read_only) return {};
  BYGONE_CHECK(commit());
  const std::lock_guard lock(mutex_);
  return layout_->close();
}

}  // namespace bygone::disk
