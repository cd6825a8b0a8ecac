#include "library/library.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/file.h>

#include <fstream>

#include "library/document_lines.h"
#include "support/unique_fd.h"

namespace bygone::library {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kWhole = R"({
  "version": 1,
  "name": "XP",
  "id": "99221fa0-24ad-11e2-be98-001aa01bbf6e",
  "guest": "legacy-windows",
  "engine": "software",
  "cpu_model": "legacy",
  "code_cache": "32M",
  "processors": 2,
  "memory": "512M",
  "boot": {"order": "dvd,disk", "kernel": "vmlinuz", "initrd": "initrd", "command_line": "quiet"},
  "disks": [{"path": "XP.vhdx"}, {"path": "/data/d.vhdx"}],
  "dvds": [{}, {"path": "xp.iso"}],
  "network": [{"connection": "nat", "mac": "00:15:5d:01:02:03"}],
  "com2": "file:log",
  "video": {"width": 800, "height": 600},
  "integration": {"sockets": false, "heartbeat": false},
  "notes": "kept"
})";

std::string error_of(std::string_view text) {
  const auto read = read_definition(text, "XP.json");
  return read ? "no error" : read.error().message;
}

TEST(Definition, every_field_arrives) {
  const auto read = read_definition(kWhole, "XP.json");
  ASSERT_TRUE(read) << read.error().message;
  const Definition& xp = read->definition;
  EXPECT_EQ(xp.name, "XP");
  EXPECT_EQ(xp.id.text(), "99221fa0-24ad-11e2-be98-001aa01bbf6e");
  EXPECT_EQ(xp.guest, "legacy-windows");
  EXPECT_EQ(xp.engine, "software");
  EXPECT_EQ(xp.cpu_model, "legacy");
  EXPECT_EQ(xp.code_cache_bytes, 32U << 20);
  EXPECT_EQ(xp.processors, 2U);
  EXPECT_EQ(xp.memory_bytes, 512U << 20);
  EXPECT_EQ(xp.boot.order, "dvd,disk");
  EXPECT_EQ(xp.boot.kernel, "vmlinuz");
  EXPECT_EQ(xp.boot.command_line, "quiet");
  ASSERT_EQ(xp.disks.size(), 2U);
  EXPECT_EQ(xp.disks[1].path, "/data/d.vhdx");
  EXPECT_THAT(xp.dvds, ElementsAre("", "xp.iso"));
  EXPECT_EQ(xp.network.at(0).mac, "00:15:5d:01:02:03");
  EXPECT_EQ(xp.com1, "console");
  EXPECT_EQ(xp.com2, "file:log");
  EXPECT_EQ(xp.width, 800);
  EXPECT_FALSE(xp.has_sockets);
  EXPECT_FALSE(xp.integration.has_heartbeat);
  EXPECT_TRUE(xp.integration.has_shutdown && xp.integration.has_time && xp.integration.has_key_values);
  EXPECT_EQ(xp.notes, "kept");
  EXPECT_THAT(read->warnings, IsEmpty());
}

TEST(Definition, unknown_key_is_kept_and_warned_about_with_its_line) {
  const auto read = read_definition("{\n \"version\": 1,\n \"name\": \"XP\",\n \"video\": {\n  \"color\": 1}}", "XP.json");
  ASSERT_TRUE(read);
  ASSERT_EQ(read->warnings.size(), 1U);
  EXPECT_THAT(read->warnings[0], HasSubstr("XP.json, line 5: video.color: unknown key"));
  EXPECT_THAT(write_document(read->document), HasSubstr("\"color\": 1"));
}

TEST(Definition, a_secret_is_refused) {
  const std::string said = error_of("{\n\"version\": 1, \"name\": \"XP\",\n\"logon\": {\"user\": \"me\",\n \"password\": \"1234\"}}");
  EXPECT_THAT(said, HasSubstr("XP.json, line 4: logon.password: a definition holds no secrets"));
  EXPECT_THAT(said, testing::Not(HasSubstr("1234")));
}

TEST(Definition, errors_point_at_the_line) {
  EXPECT_THAT(error_of("{\n\"version\": 1,\n\"name\": \"XP\",\n\"processors\": 65\n}"), HasSubstr("XP.json, line 4: processors: a whole number from 1 to 64"));
  EXPECT_THAT(error_of("{\n\"version\": 1,\n\"name\": \"XP\",\n\"disks\": [\n{\"path\": \"a\"},\n{}]}"), HasSubstr("line 6: disks.1: \"path\" is missing"));
  EXPECT_THAT(error_of("{\n\"version\": 1,\n\"name\" \"XP\"}"), HasSubstr("XP.json, line 3: not JSON: unexpected string literal; expected ':'"));
  EXPECT_THAT(error_of("{\n\"version\": 1,\n\"name\": \"XP\",\n\"memory\": 1e999}"), HasSubstr("XP.json, line 4: 1e999 is a larger number than there is"));
  EXPECT_THAT(error_of("{\"version\": 1,\n\"name\": \"../XP\"}"), HasSubstr("line 2: name: a machine's name has"));
  EXPECT_THAT(error_of("{\"version\": 1, \"name\": \"XP\",\n\n\"memory\": \"31M\"}"), HasSubstr("line 3: memory: 31 MiB is not from 32 MiB to 1 TiB"));
  EXPECT_THAT(error_of("{\"version\": 1, \"name\": \"XP\",\n\"guest\": \"dos\"}"), HasSubstr("line 2: guest: \"dos\" is not one of linux, windows, legacy-windows"));
  EXPECT_THAT(error_of("{\"name\": \"XP\"}"), HasSubstr("\"version\" is missing"));
  EXPECT_THAT(error_of("[]"), HasSubstr("an object"));
  EXPECT_THAT(error_of(""), HasSubstr("not JSON"));
}

TEST(Definition, nesting_is_bounded_outside_of_texts) {
  const auto nested = [](std::size_t depth) {
    return R"({"version": 1, "name": "XP", "notes": "\"[[{{)" + std::string(200, '[') + "\",\n\"x\": " + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_TRUE(read_definition(nested(99), "XP.json").has_value());
  EXPECT_THAT(error_of(nested(100)), HasSubstr("XP.json, line 2: nested too deep"));
  EXPECT_THAT(error_of(nested(400000)), HasSubstr("nested too deep"));
}

TEST(DocumentLines, the_last_of_equal_keys_counts_and_nesting_is_walked) {
  constexpr std::string_view kText = "{\"a\": {\"x\": \"}\\\"\"},\n\"b\": [1,\n[2, {\"k\":\n3}]],\n\"b\\u0063\": 4,\n\"a\": 5}";
  EXPECT_EQ(line_of(kText, {"a"}), 6U);
  EXPECT_EQ(line_of(kText, {"b", "1", "1", "k"}), 4U);
  EXPECT_EQ(line_of(kText, {"bc"}), 5U);
  EXPECT_EQ(line_of(kText, {"b", "7"}), 2U);
}

// What the schema allows at a field's bounds the reader takes, and what lies beyond it refuses: both come from one table, and this is
// the test that the reader really holds to it.
Document with(const std::string& path, Document value) {
  Document document = {{"version", 1}, {"name", "XP"}};
  document[Document::json_pointer(path)] = std::move(value);
  return document;
}
bool is_read(const Document& document) { return read_definition(write_document(document), "XP.json").has_value(); }

void check_schema(const Document& properties, const std::string& path) {
  for (const auto& [key, schema] : properties.items()) {
    const std::string here = fmt::format("{}/{}", path, key);
    if (here == "/name" || here == "/id" || here == "/version") continue;  // these have rules of their own, tested above
    if (schema.contains("enum")) {
      for (const Document& choice : schema["enum"]) EXPECT_TRUE(is_read(with(here, choice))) << here << choice;
      EXPECT_FALSE(is_read(with(here, "no such"))) << here;
    } else if (schema["type"] == "string") {
      const auto longest = schema["maxLength"].get<std::size_t>();
      EXPECT_TRUE(is_read(with(here, std::string(longest, 'x')))) << here;
      EXPECT_FALSE(is_read(with(here, std::string(longest + 1, 'x')))) << here;
      EXPECT_FALSE(is_read(with(here, 1))) << here;
    } else if (schema["type"] == "boolean") {
      EXPECT_TRUE(is_read(with(here, true))) << here;
      EXPECT_FALSE(is_read(with(here, "true"))) << here;
    } else if (schema["type"] == "object") {
      EXPECT_TRUE(is_read(with(here, Document::object()))) << here;
      EXPECT_FALSE(is_read(with(here, Document::array()))) << here;
      check_schema(schema["properties"], here);
    } else if (schema["type"] == "array") {
      EXPECT_TRUE(is_read(with(here, Document::array()))) << here;
      EXPECT_FALSE(is_read(with(here, Document::object()))) << here;
      EXPECT_FALSE(is_read(with(here, Document(std::vector<Document>(schema["maxItems"].get<std::size_t>() + 1, Document::object()))))) << here;
    } else {
      for (const char* bound : {"minimum", "maximum"}) EXPECT_TRUE(is_read(with(here, schema[bound]))) << here << bound;
      EXPECT_FALSE(is_read(with(here, schema["minimum"].get<std::int64_t>() - 1))) << here;
      EXPECT_FALSE(is_read(with(here, schema["maximum"].get<std::int64_t>() + 1))) << here;
    }
  }
}

TEST(Schema, the_reader_holds_to_it) { check_schema(definition_schema()["properties"], ""); }

TEST(Schema, the_published_file_is_this_one) {
  std::ifstream file(std::string(BYGONE_SOURCE) + "/docs/machine.schema.json");
  const std::string published(std::istreambuf_iterator<char>(file), {});
  EXPECT_EQ(published, write_document(definition_schema())) << "write it anew: bygone show --schema > docs/machine.schema.json";
}

TEST(Fields, values_are_parsed_by_kind) {
  EXPECT_EQ(parse_value(*find_field("processors"), "4").value(), 4);
  EXPECT_FALSE(parse_value(*find_field("processors"), "four"));
  EXPECT_EQ(parse_value(*find_field("integration.sockets"), "off").value(), false);
  EXPECT_EQ(parse_value(*find_field("memory"), "2G").value(), "2G");
  EXPECT_FALSE(parse_value(*find_field("memory"), "much"));
  EXPECT_EQ(parse_value(*find_field("dvds"), "[{}]").value().size(), 1U);
  EXPECT_NE(find_field("disks.0.path"), nullptr);
  EXPECT_EQ(find_field("disks.path"), nullptr);
  EXPECT_EQ(find_field("disks.x.path"), nullptr);
  EXPECT_EQ(find_field("nothing"), nullptr);
}

class LibraryTest : public testing::Test {
 protected:
  LibraryTest() {
    std::string pattern = testing::TempDir() + "/library-XXXXXX";
    root_ = fs::path(::mkdtemp(pattern.data())).lexically_normal();
  }
  ~LibraryTest() override { fs::remove_all(root_); }
  static Document definition(const std::string& name) { return {{"version", 1}, {"name", name}}; }
  fs::path root_;
};

TEST_F(LibraryTest, what_is_created_is_found_and_listed) {
  const Library library(root_ / "config.json", {root_ / "one", root_ / "two"});
  ASSERT_TRUE(create(root_ / "two", definition("B b")));
  ASSERT_TRUE(create(root_ / "one", definition("A")));
  std::vector<std::string> names;
  for (const MachineFolder& machine : library.list()) names.push_back(machine.name);
  EXPECT_THAT(names, ElementsAre("A", "B b"));
  EXPECT_EQ(library.find("B b")->folder, root_ / "two/B b");
  EXPECT_EQ(library.find((root_ / "two/B b/B b.json").string())->name, "B b");
  EXPECT_EQ(library.find("C").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(create(root_ / "one", definition("A")).error().code, ErrorCode::kAlreadyExists);
}

TEST_F(LibraryTest, a_creation_that_fails_leaves_nothing) {
  const auto outcome = create(root_, definition("A"), [](const fs::path& folder) -> Result<void> {
    std::ofstream(folder / "half") << "half";
    return fail(ErrorCode::kNoSpace, "full");
  });
  EXPECT_EQ(outcome.error().code, ErrorCode::kNoSpace);
  EXPECT_TRUE(fs::is_empty(root_));
}

TEST_F(LibraryTest, what_killed_processes_left_is_swept) {
  for (const char* name : {".new-Old-abcdef", ".gone-Old-77", ".new-Young-abcdef", ".new-Busy-abcdef", ".news"}) {
    fs::create_directory(root_ / name);
    std::ofstream(root_ / name / "disk.vhdx") << "half";
    if (!std::string_view(name).starts_with(".new-Young")) fs::last_write_time(root_ / name, fs::file_time_type::clock::now() - std::chrono::hours(1));
  }
  const UniqueFd busy(::open((root_ / ".new-Busy-abcdef").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::flock(busy.get(), LOCK_EX), 0);
  ASSERT_TRUE(create(root_, definition("A")));
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(root_)) left.push_back(entry.path().filename().string());
  EXPECT_THAT(left, testing::UnorderedElementsAre("A", ".new-Young-abcdef", ".new-Busy-abcdef", ".news"));
}

TEST_F(LibraryTest, a_definition_of_another_name_is_refused) {
  const auto machine = create(root_, definition("A"));
  ASSERT_TRUE(machine);
  fs::copy(machine->folder, root_ / "B", fs::copy_options::recursive);
  fs::rename(root_ / "B/A.json", root_ / "B/B.json");
  EXPECT_THAT(load({root_ / "B", "B"}).error().message, HasSubstr("must be its folder's name"));
}

TEST_F(LibraryTest, a_bad_document_is_not_stored) {
  const auto machine = create(root_, definition("A"));
  ASSERT_TRUE(machine);
  Document bad = definition("A");
  bad["processors"] = 0;
  EXPECT_FALSE(store(*machine, bad));
  EXPECT_TRUE(load(*machine));
}

TEST_F(LibraryTest, places_are_remembered) {
  Library library(root_ / "config/config.json", {root_ / "one"});
  ASSERT_TRUE(library.add_place(root_ / "two"));
  std::ifstream file(root_ / "config/config.json");
  const Document document = Document::parse(file);
  EXPECT_THAT(document["places"].get<std::vector<std::string>>(), ElementsAre((root_ / "one").string(), (root_ / "two").string()));
}

}  // namespace
}  // namespace bygone::library
