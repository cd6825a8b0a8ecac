// The firmware's helper ports 0x28-0x2F: variables, generation id, boot progress, last words.
// docs/firmware-interface.md, "Helper ports". Everything read from the guest's descriptors is hostile.
// Threading: port accesses from any vCPU thread; calls are serialised inside.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "firmware/uefi/variable_store.h"
#include "memory/guest_memory.h"
#include "spec/uefi/handover.h"
#include "support/log.h"

namespace bygone::firmware {

class HelperPorts {
 public:
  struct Events {
    std::function<void()> boot_finalized;  ///< the firmware has found its memory and begins (both images say so once, early)
    std::function<void(std::uint64_t gpa)> generation_id_placed;
  };

  HelperPorts(memory::GuestMemory& memory, VariableStore& variables, Events events, Log log);

  /// Accesses at `port` 0x28-0x2F. Only aligned 32-bit ones mean anything; others read all-ones and write nothing.
  [[nodiscard]] std::uint32_t read(std::uint16_t port, std::uint8_t size);
  void write(std::uint16_t port, std::uint8_t size, std::uint32_t value);
  void reset();
  /// The variables come along when no file keeps them.
  [[nodiscard]] nlohmann::json save() const;
  /// Errors: kCorrupt, kUnsupported; then nothing changed.
  [[nodiscard]] Result<void> restore(const nlohmann::json& state);
  [[nodiscard]] nlohmann::json inspect() const;

 private:
  void write_data(std::uint32_t value);
  void run_nvram(memory::Gpa descriptor);
  void run_crypto(memory::Gpa descriptor);
  spec::uefi::Status get(spec::uefi::NvramDescriptor& descriptor);
  spec::uefi::Status set(const spec::uefi::NvramDescriptor& descriptor);
  spec::uefi::Status next_name(spec::uefi::NvramDescriptor& descriptor, bool is_first);
  [[nodiscard]] std::optional<std::u16string> read_name(const spec::uefi::NvramDescriptor& descriptor) const;
  [[nodiscard]] bool is_visible(const Variable& variable) const;
  void log_debug_string(memory::Gpa address);

  memory::GuestMemory& memory_;
  VariableStore& variables_;
  Events events_;
  Log log_;
  RateLimit log_limit_;
  mutable std::mutex mutex_;
  std::uint32_t selector_ = 0;
  std::uint32_t generation_id_low_ = 0;
  bool is_runtime_ = false;
};

}  // namespace bygone::firmware
