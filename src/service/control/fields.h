// Checked access to the fields of a message. Threading: pure functions.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "support/result.h"

namespace bygone::service::control {

/// Reads fields and remembers the first that was missing or wrong.
class FieldReader {
 public:
  explicit FieldReader(const nlohmann::json& object) : object_(object) {}

  /// A whole number of T within [minimum, maximum].
  template <std::integral T>
  void read(std::string_view name, T& into, T minimum = std::numeric_limits<T>::min(), T maximum = std::numeric_limits<T>::max()) {
    const auto* value = find(name);
    if (value == nullptr) return;
    if (value->is_number_unsigned()) {
      const auto number = value->get<std::uint64_t>();
      if (std::cmp_less_equal(number, maximum) && std::cmp_greater_equal(number, minimum)) return void(into = static_cast<T>(number));
    } else if (value->is_number_integer()) {
      const auto number = value->get<std::int64_t>();
      if (std::cmp_less_equal(number, maximum) && std::cmp_greater_equal(number, minimum)) return void(into = static_cast<T>(number));
    }
    refuse(name);
  }
  void read(std::string_view name, bool& into) {
    const auto* value = find(name);
    if (value == nullptr) return;
    if (!value->is_boolean()) return refuse(name);
    into = value->get<bool>();
  }
  void read(std::string_view name, std::string& into, std::size_t maximum_bytes) {
    const auto* value = find(name);
    if (value == nullptr) return;
    if (!value->is_string() || value->get_ref<const std::string&>().size() > maximum_bytes) return refuse(name);
    into = value->get<std::string>();
  }
  /// From now on what is missing keeps its value.
  FieldReader& optional() {
    is_optional_ = true;
    return *this;
  }
  FieldReader& required() {
    is_optional_ = false;
    return *this;
  }
  void refuse(std::string_view name) {
    if (wrong_.empty()) wrong_ = name;
  }
  [[nodiscard]] Result<void> outcome() const {
    if (wrong_.empty()) return {};
    return fail(ErrorCode::kCorrupt, "the field \"{}\" is missing or wrong", wrong_);
  }

 private:
  const nlohmann::json* find(std::string_view name) {
    const auto found = object_.find(name);
    if (found != object_.end()) return &*found;
    if (!is_optional_) refuse(name);
    return nullptr;
  }

  const nlohmann::json& object_;
  bool is_optional_ = false;
  std::string wrong_;
};

}  // namespace bygone::service::control
