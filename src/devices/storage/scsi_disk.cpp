#include "devices/storage/scsi_disk.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>

namespace bygone::devices::storage {

namespace scsi = spec::scsi;
using disk::BlockDeviceInfo;
using disk::BlockOperation;
using disk::BlockRequest;
using scsi::Opcode;

namespace {

/// The unmap list of one command may be this long: 256 descriptors.
constexpr std::size_t kMaximumUnmapList = sizeof(scsi::UnmapHeader) + 256 * sizeof(scsi::UnmapDescriptor);
constexpr std::uint8_t kForceUnitAccess = 0x08;  // byte 1 of READ and WRITE 10 to 16
constexpr std::uint8_t kWriteSameUnmap = 0x08;   // byte 1 of WRITE SAME
constexpr std::uint8_t kWriteSameNoData = 0x01;  // byte 1 of WRITE SAME(16): NDOB

ScsiOutcome illegal(scsi::AdditionalSense what) { return check_condition(scsi::kSenseIllegalRequest, what); }

bool fits(const BlockRange& range, const BlockDeviceInfo& info) {
  const std::uint64_t blocks = info.size_bytes / info.logical_sector_bytes;
  return range.first <= blocks && range.count <= blocks - range.first;
}

ScsiOutcome read_capacity_10(const ScsiCommand& command, const BlockDeviceInfo& info) {
  const std::uint64_t blocks = info.size_bytes / info.logical_sector_bytes;
  scsi::ReadCapacity10Data data;
  data.last_block = static_cast<std::uint32_t>(std::min<std::uint64_t>(blocks == 0 ? 0 : blocks - 1, 0xFFFF'FFFF));
  data.block_bytes = info.logical_sector_bytes;
  return reply(command, bytes_of(data), sizeof data);
}

ScsiOutcome read_capacity_16(const ScsiCommand& command, const BlockDeviceInfo& info) {
  const std::uint64_t blocks = info.size_bytes / info.logical_sector_bytes;
  scsi::ReadCapacity16Data data;
  data.last_block = blocks == 0 ? 0 : blocks - 1;
  data.block_bytes = info.logical_sector_bytes;
  const std::uint32_t ratio = std::max(1U, info.physical_sector_bytes / info.logical_sector_bytes);
  data.physical_exponent = static_cast<std::uint8_t>(std::bit_width(ratio) - 1);
  if (info.optimal_unmap_bytes != 0 && !info.is_read_only) {
    data.provisioning = static_cast<std::uint16_t>(0x8000 | (info.reads_zero_after_unmap ? 0x4000 : 0));
  }
  return reply(command, bytes_of(data), command.field<be32>(10));
}

/// SPC-4 7.5.10 and SBC-3 6.5: there is a write cache, FUA works, and nothing can be changed.
ScsiOutcome mode_sense(const ScsiCommand& command, const BlockDeviceInfo& info) {
  const bool ten = command.opcode() == Opcode::kModeSense10;
  const std::uint8_t page = command.cdb[2] & 0x3F;
  const bool changeable = (command.cdb[2] >> 6) == 1;
  if ((command.cdb[2] >> 6) == 3) return illegal({0x39, 0x00});  // saved values: not supported
  std::vector<std::uint8_t> pages;
  if (page == scsi::kModePageCaching || page == scsi::kModePageAll) {
    std::array<std::uint8_t, 20> caching = {scsi::kModePageCaching, 18};
    if (!changeable) caching[2] = 0x04;  // WCE
    pages.insert(pages.end(), caching.begin(), caching.end());
  }
  if (page == scsi::kModePageControl || page == scsi::kModePageAll) {
    std::array<std::uint8_t, 12> control = {scsi::kModePageControl, 10};
    if (!changeable) control[3] = 0x10;  // unrestricted reordering
    pages.insert(pages.end(), control.begin(), control.end());
  }
  if (page == scsi::kModePageErrorRecovery || page == scsi::kModePageAll) {
    const std::array<std::uint8_t, 12> recovery = {scsi::kModePageErrorRecovery, 10};
    pages.insert(pages.end(), recovery.begin(), recovery.end());
  }
  if (pages.empty()) return illegal(scsi::kInvalidFieldInCdb);
  const auto device_specific =
      static_cast<std::uint8_t>(scsi::kModeDpoFua | (info.is_read_only ? scsi::kModeWriteProtected : 0));
  std::vector<std::uint8_t> data;
  if (ten) {
    const auto length = static_cast<std::uint16_t>(pages.size() + 6);
    data = {static_cast<std::uint8_t>(length >> 8), static_cast<std::uint8_t>(length), 0, device_specific, 0, 0, 0, 0};
  } else {
    data = {static_cast<std::uint8_t>(pages.size() + 3), 0, device_specific, 0};
  }
  data.insert(data.end(), pages.begin(), pages.end());
  return reply(command, std::as_bytes(std::span(data)), ten ? command.field<be16>(7) : command.cdb[4]);
}

}  // namespace

BlockRange block_range(const ScsiCommand& command) {
  switch (command.cdb[0] >> 5) {  // the command's group
    case 0: {
      const std::uint64_t first = command.field<be32>(0) & 0x1F'FFFF;
      return {first, command.cdb[4] == 0 ? 256U : command.cdb[4]};
    }
    case 4: return {command.field<be64>(2), command.field<be32>(10)};
    case 5: return {command.field<be32>(2), command.field<be32>(6)};
    default: return {command.field<be32>(2), command.field<be16>(7)};
  }
}

void ScsiDisk::execute(const ScsiCommand& command, Done done) {
  const BlockDeviceInfo info = device_->info();
  const Opcode opcode = command.opcode();
  // SPC-4 5.14: attention is told with any command but INQUIRY, REPORT LUNS and REQUEST SENSE.
  if (attention_ && opcode != Opcode::kInquiry && opcode != Opcode::kRequestSense) {
    return done(check_condition(scsi::kSenseUnitAttention, *std::exchange(attention_, std::nullopt)));
  }
  if (auto outcome = answer(command, info)) return done(*std::move(outcome));
  switch (opcode) {
    case Opcode::kRead6:
    case Opcode::kRead10:
    case Opcode::kRead12:
    case Opcode::kRead16:
    case Opcode::kWrite6:
    case Opcode::kWrite10:
    case Opcode::kWrite12:
    case Opcode::kWrite16: return transfer(command, info, std::move(done));
    case Opcode::kSynchronizeCache10:
    case Opcode::kSynchronizeCache16:
      // SBC-3 5.22: all of it is written whatever is asked for, but what is not there is an error.
      if (!fits(block_range(command), info)) return done(illegal(scsi::kLbaOutOfRange));
      return flush(std::move(done));
    case Opcode::kWriteSame10:
    case Opcode::kWriteSame16: return write_same(command, info, std::move(done));
    case Opcode::kUnmap: return unmap(command, info, std::move(done));
    default: return done(illegal(scsi::kInvalidOpcode));
  }
}

std::optional<ScsiOutcome> ScsiDisk::answer(const ScsiCommand& command, const BlockDeviceInfo& info) {
  switch (command.opcode()) {
    case Opcode::kTestUnitReady:
    case Opcode::kStartStopUnit:
    case Opcode::kPreventAllowMediumRemoval:
    case Opcode::kReserve6:
    case Opcode::kRelease6:
    case Opcode::kReserve10:
    case Opcode::kRelease10:
    case Opcode::kSeek10: return good();
    case Opcode::kInquiry:
      return inquire(command, {scsi::kTypeDisk, "Virtual Disk", info.identity, info});
    case Opcode::kRequestSense: {
      if ((command.cdb[1] & 1) != 0) return illegal(scsi::kInvalidFieldInCdb);  // SPC-4 6.39: descriptor format, which we do not have
      ScsiOutcome pending = attention_ ? check_condition(scsi::kSenseUnitAttention, *attention_) : good();
      attention_.reset();
      return reply(command, bytes_of(pending.sense), command.cdb[4]);
    }
    case Opcode::kModeSense6:
    case Opcode::kModeSense10: return mode_sense(command, info);
    case Opcode::kReadCapacity10: return read_capacity_10(command, info);
    case Opcode::kServiceActionIn16:
      if ((command.cdb[1] & 0x1F) != scsi::kServiceActionReadCapacity16) return illegal(scsi::kInvalidFieldInCdb);
      return read_capacity_16(command, info);
    case Opcode::kVerify10:
    case Opcode::kVerify16:
      if ((command.cdb[1] & 0x06) != 0) return illegal(scsi::kInvalidFieldInCdb);  // no comparison with the guest's bytes
      return fits(block_range(command), info) ? good() : illegal(scsi::kLbaOutOfRange);
    default: return std::nullopt;
  }
}

void ScsiDisk::transfer(const ScsiCommand& command, const BlockDeviceInfo& info, Done done) {
  const bool is_write = command.opcode() == Opcode::kWrite6 || command.opcode() == Opcode::kWrite10 ||
                        command.opcode() == Opcode::kWrite12 || command.opcode() == Opcode::kWrite16;
  const BlockRange range = block_range(command);
  if (!fits(range, info)) return done(illegal(scsi::kLbaOutOfRange));
  if (is_write && info.is_read_only) return done(check_condition(scsi::kSenseDataProtect, scsi::kWriteProtected));
  const std::uint64_t length = range.count * info.logical_sector_bytes;
  if (length == 0) return done(good());
  if (length > command.data.size()) return done(overrun());
  auto buffers = command.data.host_ranges(length);
  if (!buffers) return done(check_condition(scsi::kSenseHardwareError, scsi::kInternalTargetFailure));
  BlockRequest request;
  request.operation = is_write ? BlockOperation::kWrite : BlockOperation::kRead;
  const bool six = command.opcode() == Opcode::kRead6 || command.opcode() == Opcode::kWrite6;
  request.force_unit_access = is_write && !six && (command.cdb[1] & kForceUnitAccess) != 0;
  request.offset = range.first * info.logical_sector_bytes;
  request.length = length;
  request.buffers = *std::move(buffers);
  request.done = [length, is_write, done = std::move(done)](Result<void> result) mutable {
    ScsiOutcome outcome = result ? good(length) : outcome_of(result.error(), is_write);
    outcome.written_in_place = is_write ? 0 : length;
    done(std::move(outcome));
  };
  device_->submit(std::move(request));
}

void ScsiDisk::flush(Done done) {
  BlockRequest request;
  request.operation = BlockOperation::kFlush;
  request.done = [done = std::move(done)](Result<void> result) mutable {
    done(result ? good() : outcome_of(result.error(), true));
  };
  device_->submit(std::move(request));
}

void ScsiDisk::write_same(const ScsiCommand& command, const BlockDeviceInfo& info, Done done) {
  const BlockRange range = block_range(command);
  // SBC-3 5.44: no blocks means to the end; we say in the block limits page that we do not.
  if (range.count == 0) return done(illegal(scsi::kInvalidFieldInCdb));
  if (!fits(range, info)) return done(illegal(scsi::kLbaOutOfRange));
  if (info.is_read_only) return done(check_condition(scsi::kSenseDataProtect, scsi::kWriteProtected));
  const bool no_data = command.opcode() == Opcode::kWriteSame16 && (command.cdb[1] & kWriteSameNoData) != 0;
  if (!no_data) {
    if (command.data.size() < info.logical_sector_bytes) return done(overrun());
    std::vector<std::byte> pattern(info.logical_sector_bytes);
    if (auto read = command.data.read(0, pattern); !read) {
      return done(check_condition(scsi::kSenseHardwareError, scsi::kInternalTargetFailure));
    }
    if (std::ranges::any_of(pattern, [](std::byte byte) { return byte != std::byte{0}; })) {
      return write_pattern(range, info, pattern, std::move(done));
    }
  }
  BlockRequest request;
  const bool unmap = (command.cdb[1] & kWriteSameUnmap) != 0 && info.reads_zero_after_unmap && info.optimal_unmap_bytes != 0;
  request.operation = unmap ? BlockOperation::kUnmap : BlockOperation::kWriteZeroes;
  request.offset = range.first * info.logical_sector_bytes;
  request.length = range.count * info.logical_sector_bytes;
  const std::uint64_t moved = no_data ? 0 : info.logical_sector_bytes;
  request.done = [moved, done = std::move(done)](Result<void> result) mutable {
    done(result ? good(moved) : outcome_of(result.error(), true));
  };
  device_->submit(std::move(request));
}

void ScsiDisk::write_pattern(const BlockRange& range, const BlockDeviceInfo& info, std::span<const std::byte> pattern, Done done) {
  const std::uint64_t length = range.count * info.logical_sector_bytes;
  if (length > kMaximumSameBytes) return done(illegal(scsi::kInvalidFieldInCdb));
  auto repeated = std::make_unique<std::array<std::byte, kRepeatedBytes>>();
  const std::size_t filled = std::min<std::uint64_t>(length, kRepeatedBytes);
  for (std::size_t at = 0; at < filled; at += pattern.size()) std::ranges::copy(pattern, repeated->begin() + static_cast<std::ptrdiff_t>(at));
  BlockRequest request;
  request.operation = BlockOperation::kWrite;
  request.offset = range.first * info.logical_sector_bytes;
  request.length = length;
  for (std::uint64_t at = 0; at < length; at += kRepeatedBytes) {
    request.buffers.push_back({repeated->data(), std::min<std::uint64_t>(length - at, kRepeatedBytes)});
  }
  request.done = [moved = pattern.size(), repeated = std::move(repeated), done = std::move(done)](Result<void> result) mutable {
    done(result ? good(moved) : outcome_of(result.error(), true));
  };
  device_->submit(std::move(request));
}

void ScsiDisk::unmap(const ScsiCommand& command, const BlockDeviceInfo& info, Done done) {
  if (info.is_read_only) return done(check_condition(scsi::kSenseDataProtect, scsi::kWriteProtected));
  if (info.optimal_unmap_bytes == 0) return done(illegal(scsi::kInvalidOpcode));
  const std::size_t length = command.field<be16>(7);
  if (length == 0) return done(good());
  if (length < sizeof(scsi::UnmapHeader) || length > kMaximumUnmapList) return done(illegal(scsi::kParameterListLength));
  if (length > command.data.size()) return done(overrun());
  std::vector<std::byte> list(length);
  if (auto read = command.data.read(0, list); !read) {
    return done(check_condition(scsi::kSenseHardwareError, scsi::kInternalTargetFailure));
  }
  scsi::UnmapHeader header;
  std::memcpy(&header, list.data(), sizeof header);
  const std::size_t count =
      std::min<std::size_t>(header.descriptor_bytes, length - sizeof header) / sizeof(scsi::UnmapDescriptor);
  std::vector<BlockRange> ranges;
  for (std::size_t i = 0; i < count; ++i) {
    scsi::UnmapDescriptor descriptor;
    std::memcpy(&descriptor, list.data() + sizeof header + i * sizeof descriptor, sizeof descriptor);
    const BlockRange range = {descriptor.first_block, descriptor.block_count};
    if (!fits(range, info)) return done(illegal(scsi::kLbaOutOfRange));
    if (range.count != 0) ranges.push_back(range);
  }
  if (ranges.empty()) return done(good(length));

  struct Pending {
    std::mutex mutex;
    std::size_t left = 0;
    ScsiOutcome outcome;
    Done done;
  };
  auto pending = std::make_shared<Pending>();
  pending->left = ranges.size();
  pending->outcome = good(length);
  pending->done = std::move(done);
  for (const BlockRange& range : ranges) {
    BlockRequest request;
    request.operation = BlockOperation::kUnmap;
    request.offset = range.first * info.logical_sector_bytes;
    request.length = range.count * info.logical_sector_bytes;
    request.done = [pending](Result<void> result) {
      std::unique_lock lock(pending->mutex);
      if (!result) pending->outcome = outcome_of(result.error(), true);
      if (--pending->left != 0) return;
      lock.unlock();
      pending->done(std::move(pending->outcome));
    };
    device_->submit(std::move(request));
  }
}

nlohmann::json ScsiDisk::save() const {
  nlohmann::json state = {{"type", "disk"}};
  if (attention_) state["attention"] = {attention_->code, attention_->qualifier};
  return state;
}

Result<void> ScsiDisk::restore(const nlohmann::json& state) {
  attention_.reset();
  const auto found = state.find("attention");
  if (found == state.end()) return {};
  if (!found->is_array() || found->size() != 2 || !(*found)[0].is_number_unsigned() || !(*found)[1].is_number_unsigned()) {
    return fail(ErrorCode::kCorrupt, "the saved state of a disk has no sense in its attention");
  }
  attention_ = scsi::AdditionalSense{(*found)[0].get<std::uint8_t>(), (*found)[1].get<std::uint8_t>()};
  return {};
}

nlohmann::json ScsiDisk::inspect() const {
  const BlockDeviceInfo info = device_->info();
  return {{"type", "disk"}, {"size_bytes", info.size_bytes}, {"sector_bytes", info.logical_sector_bytes},
          {"read_only", info.is_read_only}};
}

}  // namespace bygone::devices::storage
