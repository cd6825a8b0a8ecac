#include "library/definition.h"

#include <algorithm>

#include "library/document_lines.h"
#include "support/size_text.h"

namespace bygone::library {
namespace {

using Path = std::vector<std::string>;

std::string dotted(const Path& path) { return fmt::format("{}", fmt::join(path, ".")); }

/// Holds a document against the table of fields.
class Checker {
 public:
  Checker(std::string_view text, std::string_view file) : text_(text), file_(file) {}

  Result<void> check_members(const Document& object, std::span<const Field> fields) {
    for (const auto& [key, value] : object.items()) {
      path_.push_back(key);
      const auto field = std::ranges::find(fields, key, &Field::name);
      if (field == fields.end()) {
        warn("unknown key; it is kept, and means nothing here");
      } else {
        if (field->is_secret) return wrong("a definition holds no secrets: whoever reads or copies the file would have them; take it out");
        BYGONE_CHECK(check(value, *field));
        if (field->is_kept_only) warn("kept, but without effect in this version");
      }
      path_.pop_back();
    }
    for (const Field& field : fields) {
      if (field.is_required && !object.contains(field.name)) return wrong("\"{}\" is missing", field.name);
    }
    return {};
  }

  template <typename... Args>
  std::unexpected<Error> wrong(fmt::format_string<Args...> format, Args&&... args) const {
    const std::string what = fmt::format(format, std::forward<Args>(args)...);
    return fail(ErrorCode::kCorrupt, "{}: {}", where(), what);
  }
  void warn(std::string_view what) { warnings_.push_back(fmt::format("{}: {}", where(), what)); }
  void at(Path path) { path_ = std::move(path); }
  [[nodiscard]] std::vector<std::string> take_warnings() { return std::move(warnings_); }

 private:
  [[nodiscard]] std::string where() const {
    return fmt::format("{}, line {}{}{}", file_, line_of(text_, path_), path_.empty() ? "" : ": ", dotted(path_));
  }

  Result<void> check(const Document& value, const Field& field) {
    switch (field.kind) {
      case FieldKind::kText: return check_text(value, field);
      case FieldKind::kBoolean: return value.is_boolean() ? Result<void>() : wrong("true or false is wanted");
      case FieldKind::kInteger:
        if (!value.is_number_integer() || value < field.minimum || value > field.maximum) {
          return wrong("a whole number from {} to {} is wanted", field.minimum, field.maximum);
        }
        return {};
      case FieldKind::kSize: return check_size(value, field);
      case FieldKind::kObject: return value.is_object() ? check_members(value, field.fields) : wrong("an object, {{…}}, is wanted");
      case FieldKind::kList: return check_list(value, field);
    }
    return {};
  }

  Result<void> check_text(const Document& value, const Field& field) {
    if (!value.is_string()) return wrong("a text is wanted");
    const auto& text = value.get_ref<const std::string&>();
    if (!field.choices.empty()) {
      if (std::ranges::find(field.choices, text) != field.choices.end()) return {};
      return wrong("\"{}\" is not one of {}", text, fmt::join(field.choices, ", "));
    }
    if (std::cmp_less(text.size(), field.minimum) || std::cmp_greater(text.size(), field.maximum)) {
      return wrong("a text of {} to {} bytes is wanted", field.minimum, field.maximum);
    }
    if (text.find('\0') != std::string::npos) return wrong("a text without NUL is wanted");
    return {};
  }

  Result<void> check_size(const Document& value, const Field& field) {
    const bool is_number = value.is_number_unsigned();
    if (!is_number && !value.is_string()) return wrong("a size such as \"2G\" is wanted");
    const auto bytes = is_number ? Result<std::uint64_t>(value.get<std::uint64_t>()) : parse_size(value.get_ref<const std::string&>());
    if (!bytes) return wrong("{}", bytes.error().message);
    if (std::cmp_less(*bytes, field.minimum) || std::cmp_greater(*bytes, field.maximum)) {
      return wrong("{} is not from {} to {}", size_text(*bytes), size_text(static_cast<std::uint64_t>(field.minimum)),
                   size_text(static_cast<std::uint64_t>(field.maximum)));
    }
    return {};
  }

  Result<void> check_list(const Document& value, const Field& field) {
    if (!value.is_array()) return wrong("a list, […], is wanted");
    if (std::cmp_greater(value.size(), field.maximum)) return wrong("{} are too many; at most {}", value.size(), field.maximum);
    for (std::size_t index = 0; index < value.size(); ++index) {
      path_.push_back(std::to_string(index));
      if (!value[index].is_object()) return wrong("an object, {{…}}, is wanted");
      BYGONE_CHECK(check_members(value[index], field.fields));
      path_.pop_back();
    }
    return {};
  }

  std::string_view text_, file_;
  Path path_;
  std::vector<std::string> warnings_;
};

// From here on the document has the table's form.
std::string text_of(const Document& object, std::string_view key, std::string otherwise = {}) {
  const auto found = object.find(key);
  return found == object.end() ? std::move(otherwise) : found->get<std::string>();
}
template <typename T>
void take(const Document& object, std::string_view key, T& into) {
  if (const auto found = object.find(key); found != object.end()) into = found->get<T>();
}
void take_size(const Document& object, std::string_view key, std::uint64_t& into) {
  const auto found = object.find(key);
  if (found == object.end()) return;
  into = found->is_string() ? parse_size(found->get_ref<const std::string&>()).value_or(0) : found->get<std::uint64_t>();
}
const Document& member(const Document& object, std::string_view key) {
  static const Document kNothing = Document::object();
  const auto found = object.find(key);
  return found == object.end() ? kNothing : *found;
}

/// Where a text nests deeper than any definition does, or npos. Whoever writes or walks a document goes down as deep as it is.
std::size_t find_too_deep(std::string_view text) {
  constexpr int kMaximumDepth = 100;
  int depth = 0;
  bool is_in_text = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (is_in_text && c == '\\') {
      ++at;
    } else if (c == '"') {
      is_in_text = !is_in_text;
    } else if (!is_in_text && (c == '[' || c == '{')) {
      if (++depth > kMaximumDepth) return at;
    } else if (!is_in_text && (c == ']' || c == '}')) {
      --depth;
    }
  }
  return std::string_view::npos;
}

/// The document of a text. Errors point at the line.
Result<Document> parse_document(std::string_view text, std::string_view file) {
  const auto refuse = [&](std::size_t offset, std::string_view what) { return fail(ErrorCode::kCorrupt, "{}, line {}: {}", file, line_at(text, offset), what); };
  if (const std::size_t deep = find_too_deep(text); deep != std::string_view::npos) return refuse(deep, "nested too deep");
  try {
    return Document::parse(text);
  } catch (const Document::parse_error& error) {
    // "… parse error at line 2, column 3: syntax error while parsing object - unexpected …; expected …", or "… - invalid …; last read: …",
    // whose end is the file's own bytes.
    std::string_view what = error.what();
    if (const std::size_t reason = what.find(" - "); reason != std::string_view::npos) what.remove_prefix(reason + 3);
    what = what.substr(0, what.find("; last read: "));
    return refuse(error.byte == 0 ? 0 : error.byte - 1, fmt::format("not JSON: {}", what));
  } catch (const Document::exception& error) {
    // A number that is too large is told without its place: "… number overflow parsing '1e999'"
    const std::string_view what = error.what();
    const std::size_t start = std::min(what.find('\''), what.size() - 1) + 1;
    const std::string_view number = what.substr(start, what.find('\'', start) - start);
    return refuse(std::min(text.find(number), text.size()), fmt::format("{} is a larger number than there is", number));
  }
}

Definition extract(const Document& document) {
  Definition machine;
  machine.name = text_of(document, "name");
  machine.guest = text_of(document, "guest", machine.guest);
  machine.enlightenments = text_of(document, "enlightenments");
  machine.engine = text_of(document, "engine", machine.engine);
  machine.cpu_model = text_of(document, "cpu_model", machine.cpu_model);
  take(document, "processors", machine.processors);
  take_size(document, "memory", machine.memory_bytes);
  take(document, "huge_pages", machine.uses_huge_pages);
  take_size(document, "code_cache", machine.code_cache_bytes);
  const Document& boot = member(document, "boot");
  machine.boot = {text_of(boot, "firmware"), text_of(boot, "order"), text_of(boot, "kernel"), text_of(boot, "initrd"), text_of(boot, "command_line")};
  for (const Document& disk : member(document, "disks")) {
    machine.disks.push_back({text_of(disk, "path"), false});
    take(disk, "undo", machine.disks.back().undo);
  }
  for (const Document& dvd : member(document, "dvds")) machine.dvds.push_back(text_of(dvd, "path"));
  for (const Document& adapter : member(document, "network")) {
    machine.network.push_back({text_of(adapter, "connection"), text_of(adapter, "mac")});
  }
  machine.com1 = text_of(document, "com1", machine.com1);
  machine.com2 = text_of(document, "com2", machine.com2);
  take(member(document, "video"), "width", machine.width);
  take(member(document, "video"), "height", machine.height);
  take(member(document, "video"), "memory", machine.video_megabytes);
  const Document& integration = member(document, "integration");
  take(integration, "shutdown", machine.integration.has_shutdown);
  take(integration, "heartbeat", machine.integration.has_heartbeat);
  take(integration, "time", machine.integration.has_time);
  take(integration, "key_values", machine.integration.has_key_values);
  take(integration, "sockets", machine.has_sockets);
  take(boot, "secure_boot", machine.wants_secure_boot);
  machine.notes = text_of(document, "notes");
  return machine;
}

}  // namespace

Result<ReadDefinition> read_definition(std::string_view text, std::string_view file) {
  if (text.size() > kMaximumDefinitionBytes) {
    return fail(ErrorCode::kCorrupt, "{}: longer than {}", file, size_text(kMaximumDefinitionBytes));
  }
  ReadDefinition result;
  BYGONE_ASSIGN(result.document, parse_document(text, file));
  Checker checker(text, file);
  if (!result.document.is_object()) return checker.wrong("an object, {{…}}, is wanted");
  BYGONE_CHECK(checker.check_members(result.document, definition_fields()));
  checker.at({"name"});
  if (auto named = check_name(text_of(result.document, "name")); !named) return checker.wrong("{}", named.error().message);
  checker.at({"id"});
  Guid id;
  if (const std::string written = text_of(result.document, "id"); !written.empty()) {
    const auto parsed = Guid::parse(written);
    if (!parsed) return checker.wrong("{}", parsed.error().message);
    id = *parsed;
  }
  result.warnings = checker.take_warnings();
  result.definition = extract(result.document);
  result.definition.id = id;
  return result;
}

std::string write_document(const Document& document) {
  return document.dump(2, ' ', false, Document::error_handler_t::replace) + "\n";
}

Result<void> check_name(std::string_view name) {
  const auto is_bad = [](char c) { return c == '/' || static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  if (name.empty() || name.size() > 64 || name.front() == '.' || name.front() == '-' || name.front() == ' ' || name.back() == ' ' ||
      std::ranges::any_of(name, is_bad)) {
    return fail(ErrorCode::kInvalidArgument,
                "a machine's name has 1 to 64 bytes, no slash or control character, no dot, hyphen or space first and no space last; \"{}\" does not do",
                name);
  }
  return {};
}

}  // namespace bygone::library
