#include "devices/storage/scsi_target.h"

#include <algorithm>

namespace bygone::devices::storage {

namespace scsi = spec::scsi;

Result<void> DataBuffer::read(std::uint64_t offset, std::span<std::byte> into) const {
  if (offset > size_ || into.size() > size_ - offset) return fail(ErrorCode::kOutOfRange, "the command's buffer is too short");
  if (into.empty()) return {};
  return ranges_->read(*memory_, offset, into);
}

Result<void> DataBuffer::write(std::uint64_t offset, std::span<const std::byte> from) const {
  if (offset > size_ || from.size() > size_ - offset) return fail(ErrorCode::kOutOfRange, "the command's buffer is too short");
  if (from.empty()) return {};
  return ranges_->write(*memory_, offset, from);
}

Result<std::vector<iovec>> DataBuffer::host_ranges(std::uint64_t length) const {
  if (length > size_) return fail(ErrorCode::kOutOfRange, "the command's buffer is too short");
  std::vector<iovec> ranges;
  if (length != 0) BYGONE_CHECK(ranges_->host_ranges(*memory_, 0, length, ranges));
  return ranges;
}

ScsiOutcome good(std::uint64_t transferred) {
  ScsiOutcome outcome;
  outcome.transferred = transferred;
  return outcome;
}

ScsiOutcome check_condition(std::uint8_t key, scsi::AdditionalSense additional) {
  ScsiOutcome outcome;
  outcome.status = scsi::kStatusCheckCondition;
  outcome.sense.key = key;
  outcome.sense.additional_code = additional.code;
  outcome.sense.additional_qualifier = additional.qualifier;
  return outcome;
}

ScsiOutcome overrun() {
  ScsiOutcome outcome;
  outcome.overrun = true;
  return outcome;
}

ScsiOutcome outcome_of(const Error& error, bool is_write) {
  const auto failed = [&](std::uint8_t key, scsi::AdditionalSense additional) {
    ScsiOutcome outcome = check_condition(key, additional);
    outcome.host_failure = error.text();
    return outcome;
  };
  switch (error.code) {
    case ErrorCode::kOutOfRange: return check_condition(scsi::kSenseIllegalRequest, scsi::kLbaOutOfRange);
    case ErrorCode::kPermissionDenied: return check_condition(scsi::kSenseDataProtect, scsi::kWriteProtected);
    case ErrorCode::kInvalidArgument: return check_condition(scsi::kSenseIllegalRequest, scsi::kInvalidFieldInCdb);
    case ErrorCode::kNoSpace: return failed(scsi::kSenseDataProtect, scsi::kSpaceAllocationFailed);
    case ErrorCode::kIo:
    case ErrorCode::kCorrupt: return failed(scsi::kSenseMediumError, is_write ? scsi::kWriteError : scsi::kUnrecoveredReadError);
    default: return failed(scsi::kSenseHardwareError, scsi::kInternalTargetFailure);
  }
}

ScsiOutcome reply(const ScsiCommand& command, std::span<const std::byte> bytes, std::uint64_t allocation_length) {
  const auto length = std::min({std::uint64_t{bytes.size()}, allocation_length, command.data.size()});
  if (auto written = command.data.write(0, bytes.first(length)); !written) {
    return check_condition(scsi::kSenseHardwareError, scsi::kInternalTargetFailure);
  }
  return good(length);
}

}  // namespace bygone::devices::storage
