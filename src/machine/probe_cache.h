// Remembers how fast an engine was found to be, so that only the first start on a host pays for measuring. A result counts as
// long as kernel, microcode and processor stay the same.
// Threading: one thread; two processes may share the file, the last writer wins.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "cpu/partition.h"

namespace bygone::machine {

class ProbeCache {
 public:
  /// An empty `file` remembers nothing. `host` names what a result depends on.
  ProbeCache(std::filesystem::path file, std::string host) : file_(std::move(file)), host_(std::move(host)) {}
  /// The user's cache ($XDG_CACHE_HOME/bygone/engines.json) for this host as it runs now.
  [[nodiscard]] static ProbeCache of_user();

  /// nullopt when nothing is known or the file is none of ours.
  [[nodiscard]] std::optional<cpu::EngineStatus> find(std::string_view engine) const;
  /// Keeps a status that was measured (one with a rate). That it could not be written is no error: it is measured again.
  void keep(std::string_view engine, const cpu::EngineStatus& status) const;

 private:
  std::filesystem::path file_;
  std::string host_;
};

}  // namespace bygone::machine
