// A device's place in saved state and in the inspection tree.
#pragma once

#include <nlohmann/json.hpp>

#include "support/result.h"

namespace bygone::chipset {

/// Threading: the machine pauses time and processors around save, restore and reset; inspect() comes at any time.
class Savable {
 public:
  virtual ~Savable() = default;
  [[nodiscard]] virtual nlohmann::json save() const = 0;
  /// Errors: kCorrupt, kUnsupported; the device is unchanged then.
  [[nodiscard]] virtual Result<void> restore(const nlohmann::json& state) = 0;
  /// As a reset of the machine does.
  virtual void reset() = 0;
  [[nodiscard]] virtual nlohmann::json inspect() const { return save(); }
};

}  // namespace bygone::chipset
