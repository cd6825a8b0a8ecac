#include "devices/storage/scsi_dvd.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "devices/storage/inquiry.h"
#include "devices/storage/scsi_disk.h"

namespace bygone::devices::storage {

namespace scsi = spec::scsi;
using scsi::Opcode;

namespace {

constexpr std::uint32_t kSectorBytes = 2048;
/// MMC-6 5.3.1: discs up to this many sectors pass for a CD-ROM, larger ones for a DVD-ROM.
constexpr std::uint64_t kLargestCd = 360'000;
constexpr std::uint16_t kProfileCdRom = 0x0008;
constexpr std::uint16_t kProfileDvdRom = 0x0010;

ScsiOutcome illegal() { return check_condition(scsi::kSenseIllegalRequest, scsi::kInvalidFieldInCdb); }
ScsiOutcome no_medium() { return check_condition(scsi::kSenseNotReady, scsi::kMediumNotPresent); }

/// A block address as MMC writes it: sectors, or minutes, seconds and frames.
void put_address(std::vector<std::uint8_t>& data, std::uint64_t sector, bool msf) {
  if (msf) {
    const std::uint64_t frames = sector + 150;
    const auto minutes = static_cast<std::uint8_t>(std::min<std::uint64_t>(frames / (75 * 60), 255));
    data.insert(data.end(), {std::uint8_t{0}, minutes, static_cast<std::uint8_t>(frames / 75 % 60),
                             static_cast<std::uint8_t>(frames % 75)});
    return;
  }
  for (int shift = 24; shift >= 0; shift -= 8) data.push_back(static_cast<std::uint8_t>(sector >> shift));
}

ScsiOutcome reply_bytes(const ScsiCommand& command, const std::vector<std::uint8_t>& data, std::uint64_t allocation) {
  return reply(command, std::as_bytes(std::span(data)), allocation);
}

}  // namespace

ScsiDvd::ScsiDvd(Medium medium, std::function<void()> ejected)
    : medium_(std::move(medium)), ejected_(std::move(ejected)) {}

std::uint64_t ScsiDvd::blocks() const { return medium_.device ? medium_.device->info().size_bytes / kSectorBytes : 0; }

void ScsiDvd::insert(Medium medium) {
  medium_ = std::move(medium);
  tray_open_ = false;
  event_ = MediaEvent::kNewMedia;
  attention_ = scsi::kMediumMayHaveChanged;
}

Result<void> ScsiDvd::eject(Force force) {
  if (locked_ && medium_.device && force == Force::kRespectLock) {
    event_ = MediaEvent::kEjectRequest;
    return fail(ErrorCode::kBusy, "the guest has locked the tray; eject the disc in the guest, or force the tray open");
  }
  medium_ = {};
  locked_ = false;
  tray_open_ = true;
  event_ = MediaEvent::kMediaRemoval;
  attention_ = scsi::kMediumMayHaveChanged;
  return {};
}

void ScsiDvd::execute(const ScsiCommand& command, Done done) {
  const Opcode opcode = command.opcode();
  const bool asks_who = opcode == Opcode::kInquiry || opcode == Opcode::kRequestSense ||
                        opcode == Opcode::kGetEventStatusNotification || opcode == Opcode::kGetConfiguration;
  if (attention_ && !asks_who) {
    return done(check_condition(scsi::kSenseUnitAttention, *std::exchange(attention_, std::nullopt)));
  }
  if (auto outcome = answer(command)) return done(*std::move(outcome));
  if (opcode == Opcode::kRead10 || opcode == Opcode::kRead12 || opcode == Opcode::kRead16) return read(command, std::move(done));
  done(check_condition(scsi::kSenseIllegalRequest, scsi::kInvalidOpcode));
}

std::optional<ScsiOutcome> ScsiDvd::answer(const ScsiCommand& command) {
  switch (command.opcode()) {
    case Opcode::kInquiry: return inquire(command, {scsi::kTypeDvd, "Virtual DVD-ROM", {}, std::nullopt});
    case Opcode::kTestUnitReady: return medium_.device ? good() : no_medium();
    case Opcode::kRequestSense: {
      if ((command.cdb[1] & 1) != 0) return illegal();  // SPC-4 6.39: descriptor format, which we do not have
      ScsiOutcome pending = attention_ ? check_condition(scsi::kSenseUnitAttention, *attention_) : good();
      attention_.reset();
      return reply(command, bytes_of(pending.sense), command.cdb[4]);
    }
    case Opcode::kStartStopUnit: return start_stop(command);
    case Opcode::kPreventAllowMediumRemoval:
      locked_ = (command.cdb[4] & 1) != 0;
      return good();
    case Opcode::kModeSense6:
    case Opcode::kModeSense10: return mode_sense(command);
    case Opcode::kGetConfiguration: return get_configuration(command);
    case Opcode::kGetEventStatusNotification: return get_event_status(command);
    case Opcode::kSetCdSpeed: return good();
    case Opcode::kMechanismStatus:
      return reply_bytes(command, {0, static_cast<std::uint8_t>(tray_open_ ? 0x10 : 0), 0, 0, 0, 0, 0, 0},
                         command.field<be16>(8));
    default: return answer_about_medium(command);
  }
}

std::optional<ScsiOutcome> ScsiDvd::answer_about_medium(const ScsiCommand& command) {
  switch (command.opcode()) {
    case Opcode::kReadCapacity10: {
      if (!medium_.device) return no_medium();
      scsi::ReadCapacity10Data data;
      data.last_block = static_cast<std::uint32_t>(blocks() == 0 ? 0 : blocks() - 1);
      data.block_bytes = kSectorBytes;
      return reply(command, bytes_of(data), sizeof data);
    }
    case Opcode::kReadToc: return medium_.device ? read_toc(command) : no_medium();
    case Opcode::kReadDiscInformation: return medium_.device ? read_disc_information(command) : no_medium();
    case Opcode::kReadDiscStructure: return medium_.device ? read_disc_structure(command) : no_medium();
    case Opcode::kVerify10:
    case Opcode::kSynchronizeCache10: return medium_.device ? good() : no_medium();
    default: return std::nullopt;
  }
}

/// MMC-6 6.42: LOEJ 2, START 1.
ScsiOutcome ScsiDvd::start_stop(const ScsiCommand& command) {
  if ((command.cdb[4] & 2) == 0) return good();
  if ((command.cdb[4] & 1) != 0) {  // load: there is only what the host puts in
    tray_open_ = false;
    return medium_.device ? good() : no_medium();
  }
  if (locked_) return check_condition(scsi::kSenseIllegalRequest, scsi::kMediumRemovalPrevented);
  const bool had_medium = medium_.device != nullptr;
  medium_ = {};
  tray_open_ = true;
  if (had_medium) {
    event_ = MediaEvent::kMediaRemoval;
    if (ejected_) ejected_();
  }
  return good();
}

/// MMC-6 6.25: one data track, as formats 0 (tracks), 1 (sessions) and 2 (everything) tell it.
ScsiOutcome ScsiDvd::read_toc(const ScsiCommand& command) const {
  const bool msf = (command.cdb[1] & 2) != 0;
  std::uint8_t format = command.cdb[2] & 0x0F;
  if (format == 0) format = command.cdb[9] >> 6;  // where older guests put it
  const std::uint8_t track = command.cdb[6];
  std::vector<std::uint8_t> data = {0, 0, 1, 1};
  if (format == 0) {
    if (track > 1 && track != 0xAA) return illegal();
    if (track <= 1) {
      data.insert(data.end(), {std::uint8_t{0}, std::uint8_t{0x14}, std::uint8_t{1}, std::uint8_t{0}});
      put_address(data, 0, msf);
    }
    data.insert(data.end(), {std::uint8_t{0}, std::uint8_t{0x14}, std::uint8_t{0xAA}, std::uint8_t{0}});
    put_address(data, blocks(), msf);
  } else if (format == 1) {
    data.insert(data.end(), {std::uint8_t{0}, std::uint8_t{0x14}, std::uint8_t{1}, std::uint8_t{0}});
    put_address(data, 0, msf);
  } else if (format == 2) {
    const auto entry = [&](std::uint8_t point, std::uint8_t minute, std::uint64_t sector, bool address) {
      data.insert(data.end(), {std::uint8_t{1}, std::uint8_t{0x14}, std::uint8_t{0}, point, std::uint8_t{0}, std::uint8_t{0},
                               std::uint8_t{0}});
      if (address) {
        put_address(data, sector, true);
      } else {
        data.insert(data.end(), {std::uint8_t{0}, minute, std::uint8_t{0}, std::uint8_t{0}});
      }
    };
    entry(0xA0, 1, 0, false);
    entry(0xA1, 1, 0, false);
    entry(0xA2, 0, blocks(), true);
    entry(1, 0, 0, true);
  } else {
    return illegal();
  }
  const std::size_t length = data.size() - 2;
  data[0] = static_cast<std::uint8_t>(length >> 8);
  data[1] = static_cast<std::uint8_t>(length);
  return reply_bytes(command, data, command.field<be16>(7));
}

/// MMC-6 6.6 and 5.3: the profiles and the features that a read-only drive has.
ScsiOutcome ScsiDvd::get_configuration(const ScsiCommand& command) const {
  const std::uint8_t request_type = command.cdb[1] & 3;
  const std::uint16_t first = command.field<be16>(2);
  const std::uint16_t profile = !medium_.device ? std::uint16_t{0} : blocks() > kLargestCd ? kProfileDvdRom : kProfileCdRom;
  std::vector<std::uint8_t> data = {0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(profile >> 8), static_cast<std::uint8_t>(profile)};
  const auto feature = [&](std::uint16_t code, std::uint8_t version_and_flags, bool current, std::vector<std::uint8_t> body) {
    const bool wanted = request_type == 2 ? code == first : code >= first && (request_type == 0 || current);
    if (!wanted) return;
    data.insert(data.end(), {static_cast<std::uint8_t>(code >> 8), static_cast<std::uint8_t>(code),
                             static_cast<std::uint8_t>(version_and_flags | (current ? 1 : 0)),
                             static_cast<std::uint8_t>(body.size())});
    data.insert(data.end(), body.begin(), body.end());
  };
  const bool cd = profile == kProfileCdRom, dvd = profile == kProfileDvdRom;
  feature(0x0000, 0x02, true, {0x00, 0x10, static_cast<std::uint8_t>(dvd), 0, 0x00, 0x08, static_cast<std::uint8_t>(cd), 0});
  feature(0x0001, 0x0A, true, {0, 0, 0, 1, 1, 0, 0, 0});                       // core: SCSI
  feature(0x0002, 0x06, true, {2, 0, 0, 0});                                   // morphing: asynchronous events
  feature(0x0003, 0x02, true, {0x29, 0, 0, 0});                                // tray that locks and ejects
  feature(0x0010, 0x00, medium_.device != nullptr, {0, 0, 0x08, 0, 0, 1, 1, 0});  // random readable: 2048 bytes
  feature(0x001D, 0x00, cd, {});                                               // multi-read
  feature(0x001E, 0x08, cd, {0, 0, 0, 0});                                     // CD read
  feature(0x001F, 0x00, dvd, {0, 0, 0, 0});                                    // DVD read
  const std::size_t length = data.size() - 4;
  data[2] = static_cast<std::uint8_t>(length >> 8);
  data[3] = static_cast<std::uint8_t>(length);
  return reply_bytes(command, data, command.field<be16>(7));
}

/// MMC-6 6.7: only polled, only the media class (4).
ScsiOutcome ScsiDvd::get_event_status(const ScsiCommand& command) {
  if ((command.cdb[1] & 1) == 0) return illegal();
  constexpr std::uint8_t kMediaClass = 1U << 4;
  if ((command.cdb[4] & kMediaClass) == 0) return reply_bytes(command, {0, 2, 0x80, kMediaClass}, command.field<be16>(7));
  const auto status = static_cast<std::uint8_t>((medium_.device ? 2 : 0) | (tray_open_ ? 1 : 0));
  const auto event = static_cast<std::uint8_t>(std::exchange(event_, MediaEvent::kNone));
  return reply_bytes(command, {0, 6, 4, kMediaClass, event, status, 0, 0}, command.field<be16>(7));
}

/// MMC-6 6.22: a finished disc of one session.
ScsiOutcome ScsiDvd::read_disc_information(const ScsiCommand& command) const {
  std::vector<std::uint8_t> data(34);
  data[1] = 32;
  data[2] = 0x0E;  // complete disc, complete last session
  data[3] = data[4] = data[5] = data[6] = 1;
  data[7] = 0x20;  // unrestricted use
  return reply_bytes(command, data, command.field<be16>(7));
}

/// MMC-6 6.23: the physical format and the absence of copy protection.
ScsiOutcome ScsiDvd::read_disc_structure(const ScsiCommand& command) const {
  if (blocks() <= kLargestCd) return illegal();
  std::vector<std::uint8_t> data;
  if (command.cdb[7] == 0) {
    data.assign(4 + 2048, 0);
    data[4] = 0x01;  // DVD-ROM, part version 1
    data[5] = 0x0F;  // 120 mm, no maximum rate given
    data[6] = 0x01;  // one layer, embossed
    const std::uint64_t end = 0x30000 + blocks() - 1;
    data[9] = 0x03;  // data begins at 0x030000
    data[13] = static_cast<std::uint8_t>(end >> 16);
    data[14] = static_cast<std::uint8_t>(end >> 8);
    data[15] = static_cast<std::uint8_t>(end);
  } else if (command.cdb[7] == 1) {
    data.assign(8, 0);
  } else {
    return illegal();
  }
  const std::size_t length = data.size() - 2;
  data[0] = static_cast<std::uint8_t>(length >> 8);
  data[1] = static_cast<std::uint8_t>(length);
  return reply_bytes(command, data, command.field<be16>(8));
}

ScsiOutcome ScsiDvd::mode_sense(const ScsiCommand& command) const {
  const bool ten = command.opcode() == Opcode::kModeSense10;
  const std::uint8_t page = command.cdb[2] & 0x3F;
  std::vector<std::uint8_t> pages;
  if (page == scsi::kModePageErrorRecovery || page == scsi::kModePageAll) {
    const std::array<std::uint8_t, 12> recovery = {scsi::kModePageErrorRecovery, 10};
    pages.insert(pages.end(), recovery.begin(), recovery.end());
  }
  if (page == scsi::kModePageCapabilities || page == scsi::kModePageAll) {
    std::array<std::uint8_t, 22> capabilities = {scsi::kModePageCapabilities, 20};
    capabilities[2] = 0x0B;                                                 // reads CD-R, CD-RW, DVD-ROM
    capabilities[4] = 0x70;                                                 // mode 2 forms, sessions
    capabilities[6] = static_cast<std::uint8_t>(0x29 | (locked_ ? 2 : 0));  // tray, eject, lock
    capabilities[8] = 0x16;                                                 // speed
    capabilities[14] = 0x16;
    pages.insert(pages.end(), capabilities.begin(), capabilities.end());
  }
  if (pages.empty()) return illegal();
  std::vector<std::uint8_t> data;
  if (ten) {
    data = {0, static_cast<std::uint8_t>(pages.size() + 6), 0, 0, 0, 0, 0, 0};
  } else {
    data = {static_cast<std::uint8_t>(pages.size() + 3), 0, scsi::kModeWriteProtected, 0};
  }
  data.insert(data.end(), pages.begin(), pages.end());
  return reply_bytes(command, data, ten ? command.field<be16>(7) : command.cdb[4]);
}

void ScsiDvd::read(const ScsiCommand& command, Done done) {
  if (!medium_.device) return done(no_medium());
  const BlockRange range = block_range(command);
  if (range.first > blocks() || range.count > blocks() - range.first) {
    return done(check_condition(scsi::kSenseIllegalRequest, scsi::kLbaOutOfRange));
  }
  const std::uint64_t length = range.count * kSectorBytes;
  if (length == 0) return done(good());
  if (length > command.data.size()) return done(overrun());
  auto buffers = command.data.host_ranges(length);
  if (!buffers) return done(check_condition(scsi::kSenseHardwareError, scsi::kInternalTargetFailure));
  disk::BlockRequest request;
  request.operation = disk::BlockOperation::kRead;
  request.offset = range.first * kSectorBytes;
  request.length = length;
  request.buffers = *std::move(buffers);
  // The medium stays until its last read is done, ejected or not.
  request.done = [length, medium = medium_.device, done = std::move(done)](Result<void> result) mutable {
    ScsiOutcome outcome = result ? good(length) : outcome_of(result.error(), false);
    outcome.written_in_place = length;
    outcome.keep = std::move(medium);
    done(std::move(outcome));
  };
  medium_.device->submit(std::move(request));
}

void ScsiDvd::reset() {
  locked_ = false;
  event_ = MediaEvent::kNone;
  attention_.reset();
}

nlohmann::json ScsiDvd::save() const {
  nlohmann::json state = {{"type", "dvd"}, {"locked", locked_}, {"tray_open", tray_open_},
                          {"event", static_cast<std::uint8_t>(event_)}};
  if (attention_) state["attention"] = {attention_->code, attention_->qualifier};
  return state;
}

Result<void> ScsiDvd::restore(const nlohmann::json& state) {
  try {
    locked_ = state.at("locked").get<bool>();
    tray_open_ = state.at("tray_open").get<bool>();
    event_ = static_cast<MediaEvent>(std::min<std::uint8_t>(state.at("event").get<std::uint8_t>(), 3));
    attention_.reset();
    if (const auto found = state.find("attention"); found != state.end()) {
      attention_ = scsi::AdditionalSense{found->at(0).get<std::uint8_t>(), found->at(1).get<std::uint8_t>()};
    }
  } catch (const nlohmann::json::exception& error) {
    return fail(ErrorCode::kCorrupt, "the saved state of a DVD drive: {}", error.what());
  }
  return {};
}

nlohmann::json ScsiDvd::inspect() const {
  return {{"type", "dvd"}, {"medium", medium_.device != nullptr}, {"locked", locked_}, {"tray_open", tray_open_}};
}

}  // namespace bygone::devices::storage
