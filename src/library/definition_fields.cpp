#include "library/definition_fields.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "support/size_text.h"

namespace bygone::library {
namespace {

constexpr std::int64_t kMebibyte = 1 << 20;
constexpr std::int64_t kTebibyte = std::int64_t{1} << 40;
constexpr std::int64_t kPathLength = 4096;

using Choices = std::string_view;
constexpr Choices kGuests[] = {"linux", "windows", "legacy-windows"};
constexpr Choices kCpuModels[] = {"host", "legacy"};
constexpr Choices kEngines[] = {"auto", "kvm", "software"};

constexpr Field kBoot[] = {
    {.name = "firmware", .description = "A Generation 2 UEFI firmware image; absent: Bygone's own", .maximum = kPathLength},
    {.name = "order", .description = "Drives that the firmware tries first, at every start: disk, disk2, dvd, divided by commas; absent: as the guest or an earlier order has left it", .maximum = 1024},
    {.name = "secure_boot", .kind = FieldKind::kBoolean, .description = "Only signed boot programs. This version's firmware checks no signatures: with true the machine is not started"},
    {.name = "kernel", .description = "A Linux kernel (bzImage) to start instead of firmware", .maximum = kPathLength},
    {.name = "initrd", .description = "The kernel's initial RAM disk", .maximum = kPathLength},
    {.name = "command_line", .description = "The kernel's command line", .maximum = 2047},
};
constexpr Field kDisk[] = {
    {.name = "path", .description = "The image; relative to the machine's folder", .minimum = 1, .maximum = kPathLength, .is_required = true},
    {.name = "undo", .kind = FieldKind::kBoolean, .description = "Keep changes apart until they are committed. This version cannot: with true the machine is not started"},
};
constexpr Field kDvd[] = {
    {.name = "path", .description = "The image in the drive; absent: an empty drive", .maximum = kPathLength},
};
constexpr Field kAdapter[] = {
    {.name = "connection", .description = "What the adapter is connected to, as bygone boot --network takes it: nat, nat,forward=tcp:2222:22, tap:NAME, unplugged", .minimum = 1, .maximum = 4096, .is_required = true},
    {.name = "mac", .description = "Its address, such as 02:15:5d:01:02:03; absent: made from the machine's id", .maximum = 17},
};
constexpr Field kVideo[] = {
    {.name = "width", .kind = FieldKind::kInteger, .description = "Pixels that the guest is told to prefer", .minimum = kLeastScreenWidth, .maximum = kMostScreenWidth},
    {.name = "height", .kind = FieldKind::kInteger, .description = "Lines that the guest is told to prefer", .minimum = kLeastScreenHeight, .maximum = kMostScreenHeight},
    {.name = "memory", .kind = FieldKind::kInteger, .description = "Video memory in MiB: 64, the default, hold 5120x2880, 128 hold 7680x4320", .minimum = kLeastVideoMegabytes, .maximum = kMostVideoMegabytes},
};
constexpr Field kIntegration[] = {
    {.name = "shutdown", .kind = FieldKind::kBoolean, .description = "The guest finds the service by which the host asks it to shut down; without it the power button is pressed"},
    {.name = "heartbeat", .kind = FieldKind::kBoolean, .description = "The guest tells that it is alive"},
    {.name = "time", .kind = FieldKind::kBoolean, .description = "The guest's clock follows the host's"},
    {.name = "key_values", .kind = FieldKind::kBoolean, .description = "Guest and host tell each other names and values: the host's name, the guest's addresses"},
    {.name = "sockets", .kind = FieldKind::kBoolean, .description = "Programs of guest and host talk through sockets"},
};
constexpr Field kLogon[] = {
    {.name = "user", .description = "The account of the guest that applications are opened with; its password is never kept here", .maximum = 256, .is_kept_only = true},
    {.name = "password", .description = "Belongs in the Secret Service", .is_secret = true},
};

constexpr Field kDefinition[] = {
    {.name = "$schema", .description = "Where the schema of this file is", .maximum = kPathLength},
    {.name = "version", .kind = FieldKind::kInteger, .description = "The version of this format", .minimum = 1, .maximum = 1, .is_required = true},
    {.name = "name", .description = "The machine's name; also that of its folder and of this file", .minimum = 1, .maximum = 64, .is_required = true},
    {.name = "id", .description = "A GUID that stays the machine's own; the guest sees it", .maximum = 38},
    {.name = "generation", .kind = FieldKind::kInteger, .description = "The kind of machine; only Hyper-V's Generation 2 there is", .minimum = 2, .maximum = 2},
    {.name = "guest", .description = "What the machine is to please", .choices = kGuests},
    {.name = "enlightenments", .description = "Other enlightenments than those of the guest's kind, as bygone boot --enlightenments takes them: -tlb-flush,+tsc-invariant", .maximum = 1024},
    {.name = "engine", .description = "What runs the processors", .choices = kEngines},
    {.name = "processors", .kind = FieldKind::kInteger, .description = "How many virtual processors", .minimum = 1, .maximum = 64},
    {.name = "cpu_model", .description = "The processor that the guest sees: all of the host's, or one that Windows XP to 7 know", .choices = kCpuModels},
    {.name = "code_cache", .kind = FieldKind::kSize, .description = "Memory that the software processor may fill with translated code", .minimum = kMebibyte, .maximum = 1024 * kMebibyte},
    {.name = "memory", .kind = FieldKind::kSize, .description = "Memory, such as \"512M\" or \"2G\"", .minimum = 32 * kMebibyte, .maximum = kTebibyte},
    {.name = "memory_maximum", .kind = FieldKind::kSize, .description = "What memory may grow to", .minimum = 32 * kMebibyte, .maximum = kTebibyte, .is_kept_only = true},
    {.name = "huge_pages", .kind = FieldKind::kBoolean, .description = "Back memory with the host's huge pages, if it has any"},
    {.name = "boot", .kind = FieldKind::kObject, .description = "How the machine starts", .fields = kBoot},
    {.name = "disks", .kind = FieldKind::kList, .description = "Disks, in the order of their SCSI units", .maximum = 62, .fields = kDisk},
    {.name = "dvds", .kind = FieldKind::kList, .description = "DVD drives, after the disks", .maximum = 2, .fields = kDvd},
    {.name = "network", .kind = FieldKind::kList, .description = "Network adapters", .maximum = 8, .fields = kAdapter},
    {.name = "com1", .description = "The first serial port: console (bygone console), none, null, pty, file:PATH or socket:PATH", .maximum = kPathLength},
    {.name = "com2", .description = "The second serial port: none, null, pty, file:PATH or socket:PATH", .maximum = kPathLength},
    {.name = "video", .kind = FieldKind::kObject, .description = "The screen", .fields = kVideo},
    {.name = "integration", .kind = FieldKind::kObject, .description = "Integration features, one by one", .fields = kIntegration},
    {.name = "seconds_to_save", .kind = FieldKind::kInteger, .description = "How long an application's machine stays up unused before it is saved", .minimum = 0, .maximum = 86400, .is_kept_only = true},
    {.name = "auto_publish", .kind = FieldKind::kBoolean, .description = "The guest's programs appear in the host's menu", .is_kept_only = true},
    {.name = "logon", .kind = FieldKind::kObject, .description = "Who logs on", .fields = kLogon},
    {.name = "notes", .description = "Whatever you like", .maximum = 65536},
};

Document schema_of(const Field& field);

Document object_schema(std::span<const Field> fields) {
  Document properties = Document::object(), required = Document::array();
  for (const Field& field : fields) {
    if (field.is_secret) continue;
    properties[std::string(field.name)] = schema_of(field);
    if (field.is_required) required.push_back(field.name);
  }
  Document schema = {{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

Document schema_of(const Field& field) {
  Document schema = Document::object();
  switch (field.kind) {
    case FieldKind::kText:
      schema = {{"type", "string"}};
      if (!field.choices.empty()) {
        schema["enum"] = field.choices;
      } else {
        if (field.minimum > 0) schema["minLength"] = field.minimum;
        schema["maxLength"] = field.maximum;
      }
      break;
    case FieldKind::kInteger: schema = {{"type", "integer"}, {"minimum", field.minimum}, {"maximum", field.maximum}}; break;
    case FieldKind::kBoolean: schema = {{"type", "boolean"}}; break;
    case FieldKind::kSize:
      schema = {{"type", Document::array({"string", "integer"})},
                {"pattern", "^[0-9]+(\\.[0-9]+)? *([KMGTPkmgtp]([iI]?[bB])?|[bB])?$"},
                {"minimum", field.minimum},
                {"maximum", field.maximum}};
      break;
    case FieldKind::kObject: schema = object_schema(field.fields); break;
    case FieldKind::kList: schema = {{"type", "array"}, {"maxItems", field.maximum}, {"items", object_schema(field.fields)}}; break;
  }
  schema["description"] = std::string(field.description) + (field.is_kept_only ? ". Kept; without effect in this version" : "");
  return schema;
}

}  // namespace

std::span<const Field> definition_fields() { return kDefinition; }

const Field* find_field(std::string_view path) {
  std::span<const Field> fields = kDefinition;
  for (;;) {
    const std::size_t dot = path.find('.');
    const auto field = std::ranges::find(fields, path.substr(0, dot), &Field::name);
    if (field == fields.end()) return nullptr;
    if (dot == std::string_view::npos) return &*field;
    path.remove_prefix(dot + 1);
    if (field->kind == FieldKind::kList) {
      const std::size_t end = path.find('.');
      const std::string_view index = path.substr(0, end);
      if (end == std::string_view::npos || index.empty() || index.find_first_not_of("0123456789") != std::string_view::npos) return nullptr;
      path.remove_prefix(end + 1);
    }
    fields = field->fields;
  }
}

Result<Document> parse_value(const Field& field, std::string_view text) {
  switch (field.kind) {
    case FieldKind::kText: return Document(text);
    case FieldKind::kSize: {
      BYGONE_CHECK(parse_size(text));
      return Document(text);
    }
    case FieldKind::kInteger: {
      std::int64_t value = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc() || end != text.data() + text.size()) {
        return fail(ErrorCode::kInvalidArgument, "{} is a whole number from {} to {}, not \"{}\"", field.name, field.minimum, field.maximum, text);
      }
      return Document(value);
    }
    case FieldKind::kBoolean:
      if (text == "true" || text == "yes" || text == "on") return Document(true);
      if (text == "false" || text == "no" || text == "off") return Document(false);
      return fail(ErrorCode::kInvalidArgument, "{} is true or false, not \"{}\"", field.name, text);
    case FieldKind::kObject:
    case FieldKind::kList: {
      Document value = Document::parse(text, nullptr, false);
      if (!value.is_discarded()) return value;
      return fail(ErrorCode::kInvalidArgument, "{} is {}, written as JSON; \"{}\" is not JSON", field.name,
                  field.kind == FieldKind::kList ? "a list" : "an object", text);
    }
  }
  return fail(ErrorCode::kInternal, "{} has no kind", field.name);
}

Document definition_schema() {
  Document schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                     {"title", "Bygone machine definition"},
                     {"description", "NAME/NAME.json in a Virtual Machines folder. Unknown keys are kept and warned about."}};
  schema.update(object_schema(kDefinition));
  return schema;
}

}  // namespace bygone::library
