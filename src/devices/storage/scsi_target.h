// What stands behind a LUN: something that executes SCSI commands.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "spec/scsi/scsi.h"
#include "support/result.h"
#include "vmbus/page_ranges.h"

namespace bygone::devices::storage {

/// The guest's buffer of one command. Offsets and lengths are within size(); what lies beyond is refused.
class DataBuffer {
 public:
  DataBuffer() = default;
  DataBuffer(memory::GuestMemory& memory, const vmbus::PageRanges& ranges, std::uint64_t size)
      : memory_(&memory), ranges_(&ranges), size_(size) {}

  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<std::byte> into) const;
  [[nodiscard]] Result<void> write(std::uint64_t offset, std::span<const std::byte> from) const;
  [[nodiscard]] Result<std::vector<iovec>> host_ranges(std::uint64_t length) const;

 private:
  memory::GuestMemory* memory_ = nullptr;
  const vmbus::PageRanges* ranges_ = nullptr;
  std::uint64_t size_ = 0;
};

struct ScsiCommand {
  std::array<std::uint8_t, 16> cdb = {};
  DataBuffer data;  ///< valid until the command is done

  [[nodiscard]] spec::scsi::Opcode opcode() const { return static_cast<spec::scsi::Opcode>(cdb[0]); }
  template <typename T>  // be16, be32, be64
  [[nodiscard]] auto field(std::size_t offset) const {
    T value;
    std::memcpy(&value, cdb.data() + offset, sizeof value);
    return value.value();
  }
};

struct ScsiOutcome {
  std::uint8_t status = spec::scsi::kStatusGood;
  spec::scsi::FixedSense sense = {};      ///< with kStatusCheckCondition
  std::uint64_t transferred = 0;          ///< bytes moved from or to the guest's buffer
  /// Bytes of the buffer that may have been written through host_ranges(), also when the command failed: nobody noticed yet.
  std::uint64_t written_in_place = 0;
  std::shared_ptr<void> keep = nullptr;   ///< released on the controller's loop, never on a block device's own thread
  std::string host_failure = {};          ///< what went wrong on the host, for its people; empty: the guest's own mistake, or nothing
  bool overrun = false;                   ///< the command moves more than the guest's buffer holds; nothing was done
};

[[nodiscard]] ScsiOutcome good(std::uint64_t transferred = 0);
[[nodiscard]] ScsiOutcome check_condition(std::uint8_t key, spec::scsi::AdditionalSense additional);
[[nodiscard]] ScsiOutcome overrun();
/// The sense data that tells a guest of a host's error.
[[nodiscard]] ScsiOutcome outcome_of(const Error& error, bool is_write);
/// Writes a data-in answer, cut to the allocation length and the buffer.
[[nodiscard]] ScsiOutcome reply(const ScsiCommand& command, std::span<const std::byte> bytes, std::uint64_t allocation_length);

/// Threading: the controller's loop; `done` may be called on any thread, also inside execute().
class ScsiTarget {
 public:
  using Done = std::move_only_function<void(ScsiOutcome)>;
  virtual ~ScsiTarget() = default;
  /// Every command but REPORT LUNS, which the controller answers.
  virtual void execute(const ScsiCommand& command, Done done) = 0;
  /// To be told with the next command: kCapacityChanged, kMediumMayHaveChanged…
  virtual void raise_attention(spec::scsi::AdditionalSense what) = 0;
  /// The machine resets: what the guest asked for or had not heard means nothing to the next one.
  virtual void reset() = 0;
  [[nodiscard]] virtual nlohmann::json save() const = 0;
  [[nodiscard]] virtual Result<void> restore(const nlohmann::json& state) = 0;
  [[nodiscard]] virtual nlohmann::json inspect() const = 0;
};

}  // namespace bygone::devices::storage
