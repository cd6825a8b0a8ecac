// What a machine definition may say: one table of fields from which the reader's checks, the published JSON schema
// (docs/machine.schema.json) and `bygone set` are made.
// Threading: constants and pure functions.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "support/result.h"

namespace bygone::library {

/// What a machine's screen may be, in pixels, and the video memory that it must fit, in MiB.
inline constexpr std::uint16_t kLeastScreenWidth = 640, kMostScreenWidth = 7680, kLeastScreenHeight = 480, kMostScreenHeight = 4320;
inline constexpr std::uint16_t kLeastVideoMegabytes = 8, kMostVideoMegabytes = 256;

/// Keeps the order of keys, as people wrote them.
using Document = nlohmann::ordered_json;

enum class FieldKind { kText, kInteger, kBoolean, kSize, kObject, kList };

struct Field {  // NOLINT(clang-analyzer-optin.performance.Padding): in the order in which its tables are read
  std::string_view name;
  FieldKind kind = FieldKind::kText;
  std::string_view description;
  std::int64_t minimum = 0, maximum = 0;            ///< kInteger, kSize (bytes); kText and kList: of the length
  std::span<const std::string_view> choices = {};   ///< kText: the values it takes; empty: any
  std::span<const Field> fields = {};               ///< kObject: its members; kList: those of each element
  bool is_required = false;
  bool is_secret = false;     ///< what people may think belongs here, and doesn't: refused, and not in the schema
  bool is_kept_only = false;  ///< read and kept, and nothing in this version acts on it
};

/// The members of the whole document.
[[nodiscard]] std::span<const Field> definition_fields();

/// The field at a dotted path such as "boot.kernel" or "disks.0.path"; null: there is none.
[[nodiscard]] const Field* find_field(std::string_view path);

/// The value that `text` means for a field ("2", "true", "1G", JSON for objects and lists). Errors: kInvalidArgument, with what it takes.
[[nodiscard]] Result<Document> parse_value(const Field& field, std::string_view text);

/// The JSON schema (draft 2020-12) of a definition.
[[nodiscard]] Document definition_schema();

}  // namespace bygone::library
