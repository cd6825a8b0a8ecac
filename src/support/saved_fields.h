// Reading a device's saved state. Every field is looked for, typed and range-checked; the first thing wrong is the error.
// Read everything into locals, ask finish(), and only then touch the device: a state is never half applied.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/result.h"

namespace bygone {

class SavedFields {
 public:
  /// `part` names the device in errors; `version` is the one this build writes and reads.
  SavedFields(const nlohmann::json& state, std::string_view part, std::uint32_t version) : state_(state), part_(part) {
    std::uint32_t found = 0;
    read("version", found);
    if (!error_ && found != version) {
      error_ = Error{ErrorCode::kUnsupported, fmt::format("saved state of {} has version {}, this build reads {}", part_, found, version),
                     "Restore it with the version of Bygone that saved it"};
    }
  }

  void read(const char* name, bool& into) {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return;
    if (field->is_boolean()) {
      into = field->get<bool>();
    } else {
      complain(name, "is not a yes or no");
    }
  }
  template <typename T>
    requires std::is_integral_v<T>
  void read(const char* name, T& into) {
    if (const nlohmann::json* field = find(name)) read_integer(*field, name, into);
  }
  void read(const char* name, std::string& into) {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return;
    if (field->is_string()) {
      into = field->get<std::string>();
    } else {
      complain(name, "is not a text");
    }
  }
  /// An array of exactly the container's size.
  template <typename T, std::size_t N>
  void read(const char* name, std::array<T, N>& into) {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return;
    if (!field->is_array() || field->size() != N) {
      complain(name, "is not a list of the right length");
      return;
    }
    for (std::size_t i = 0; i < N; ++i) read_integer((*field)[i], name, into[i]);
  }
  template <typename T>
  void read(const char* name, std::vector<T>& into, std::size_t limit) {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return;
    if (!field->is_array() || field->size() > limit) {
      complain(name, "is not a list or too long");
      return;
    }
    into.assign(field->size(), T{});
    for (std::size_t i = 0; i < into.size(); ++i) read_integer((*field)[i], name, into[i]);
  }
  /// A nested object or array for further reading; nullptr when missing.
  [[nodiscard]] const nlohmann::json* nested(const char* name) { return find(name); }
  /// For rules that hold between fields.
  void require(bool holds, std::string_view rule) {
    if (!holds && !error_) error_ = Error{ErrorCode::kCorrupt, fmt::format("saved state of {}: {}", part_, rule), {}};
  }

  [[nodiscard]] Result<void> finish() {
    if (error_) return std::unexpected(std::move(*error_));
    return {};
  }

 private:
  const nlohmann::json* find(const char* name) {
    if (error_) return nullptr;
    if (!state_.is_object() || !state_.contains(name)) {
      complain(name, "is missing");
      return nullptr;
    }
    return &state_[name];
  }
  void complain(const char* name, std::string_view what) {
    if (!error_) error_ = Error{ErrorCode::kCorrupt, fmt::format("saved state of {}: field {} {}", part_, name, what), {}};
  }
  template <typename T>
  void read_integer(const nlohmann::json& field, const char* name, T& into) {
    if (field.is_number_unsigned()) {
      const auto value = field.get<std::uint64_t>();
      if (std::in_range<T>(value)) {
        into = static_cast<T>(value);
        return;
      }
    } else if (field.is_number_integer()) {
      const auto value = field.get<std::int64_t>();
      if (std::in_range<T>(value)) {
        into = static_cast<T>(value);
        return;
      }
    }
    complain(name, "is not a number in range");
  }

  const nlohmann::json& state_;
  std::string part_;
  std::optional<Error> error_;
};

}  // namespace bygone
