// A machine as it is defined: NAME/NAME.json. The file is the only place; nothing is hidden elsewhere, and a machine's folder can be
// copied to another host and started there.
// Threading: values and pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "library/definition_fields.h"
#include "support/guid.h"
#include "support/result.h"

namespace bygone::library {

inline constexpr std::size_t kMaximumDefinitionBytes = 1 << 20;

struct Definition {
  struct Boot {
    std::string firmware, order, kernel, initrd, command_line;
  };
  struct Disk {
    std::string path;
    bool undo = false;
  };
  struct Adapter {
    std::string connection, mac;
  };
  std::string name;
  Guid id;  ///< zero: the file has none
  std::string guest = "linux";
  std::string enlightenments;  ///< changes to what `guest` stands for
  std::string engine = "auto";
  std::string cpu_model = "host";
  std::uint32_t processors = 1;
  std::uint64_t memory_bytes = 1ULL << 30;
  bool uses_huge_pages = false;
  std::uint64_t code_cache_bytes = 128ULL << 20;
  Boot boot;
  std::vector<Disk> disks;
  std::vector<std::string> dvds;  ///< an empty text: an empty drive
  std::vector<Adapter> network;
  std::string com1 = "console", com2 = "none";
  std::uint16_t video_megabytes = 64;
  std::uint16_t width = 1024, height = 768;
  struct Integration {
    bool has_shutdown = true, has_heartbeat = true, has_time = true, has_key_values = true;
  } integration;
  bool has_sockets = true;
  bool wants_secure_boot = false;
  std::string notes;
};

/// A file that was read: what it means, and all that it says, unknown keys too.
struct ReadDefinition {
  Definition definition;
  Document document;
  std::vector<std::string> warnings;  ///< "XP.json, line 7: …"
};

/// `file` is what the text is called in messages. Errors: kCorrupt, with the line.
[[nodiscard]] Result<ReadDefinition> read_definition(std::string_view text, std::string_view file);

/// As a person would write it, with the final line break.
[[nodiscard]] std::string write_document(const Document& document);

/// Errors: kInvalidArgument when a machine can't have that name.
[[nodiscard]] Result<void> check_name(std::string_view name);

}  // namespace bygone::library
