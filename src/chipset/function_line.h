// An interrupt line that calls a function: for tests, and for lines that lead somewhere other than an interrupt controller.
// Threading: as the function.
#pragma once

#include <functional>
#include <utility>

#include "chipset/port_device.h"

namespace bygone::chipset {

class FunctionLine final : public InterruptLine {
 public:
  explicit FunctionLine(std::function<void(bool is_high)> sink) : sink_(std::move(sink)) {}
  void set_level(bool is_high) override { sink_(is_high); }

 private:
  std::function<void(bool)> sink_;
};

}  // namespace bygone::chipset
