#include "desktop_entries.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace bygone::agent {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::string_view kViewer = R"([Desktop Entry]
# a comment
Type=Application
Name=Document Viewer
Name[de]=Dokumentenbetrachter
Name[de_AT]=Dokumentenschauer
Comment=Looks at things
Exec=viewer --new "%c" %U
Icon=viewer
Path=/tmp

[Desktop Action print]
Name=Print
Exec=viewer --print
)";

DesktopEntry entry_with(std::string exec) {
  DesktopEntry entry;
  entry.exec = std::move(exec);
  return entry;
}

class DesktopFolder : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "bygone-agent-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { fs::remove_all(root_); }
  void write(const fs::path& path, std::string_view text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  fs::path root_;
};

TEST(desktop_entry, reads_the_main_group_only) {
  const auto entry = parse_desktop_entry(kViewer, "viewer.desktop", "");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->name, "Document Viewer");
  EXPECT_EQ(entry->exec, "viewer --new \"%c\" %U");
  EXPECT_EQ(entry->path, "/tmp");
}

TEST(desktop_entry, takes_the_name_of_the_locale_or_its_language) {
  EXPECT_EQ(parse_desktop_entry(kViewer, "", "de_AT")->name, "Dokumentenschauer");
  EXPECT_EQ(parse_desktop_entry(kViewer, "", "de_DE")->name, "Dokumentenbetrachter");
  EXPECT_EQ(parse_desktop_entry(kViewer, "", "fr_FR")->name, "Document Viewer");
}

TEST(desktop_entry, leaves_out_what_a_menu_does_not_show) {
  const std::string visible = "[Desktop Entry]\nType=Application\nName=A\nExec=a\n";
  EXPECT_TRUE(parse_desktop_entry(visible, "", ""));
  EXPECT_FALSE(parse_desktop_entry(visible + "NoDisplay=true\n", "", ""));
  EXPECT_FALSE(parse_desktop_entry(visible + "Hidden=true\n", "", ""));
  EXPECT_FALSE(parse_desktop_entry(visible + "Terminal=true\n", "", ""));
  EXPECT_FALSE(parse_desktop_entry("[Desktop Entry]\nType=Link\nName=A\nExec=a\n", "", ""));
  EXPECT_FALSE(parse_desktop_entry("[Desktop Entry]\nType=Application\nName=A\n", "", ""));
  EXPECT_FALSE(parse_desktop_entry("", "", ""));
}

TEST(expand_exec, replaces_field_codes) {
  const auto entry = parse_desktop_entry(kViewer, "", "");
  EXPECT_THAT(expand_exec(*entry, {}), ElementsAre("viewer", "--new", "Document Viewer"));
  EXPECT_THAT(expand_exec(*entry, {"/a b.pdf", "/c.pdf"}), ElementsAre("viewer", "--new", "Document Viewer", "/a b.pdf", "/c.pdf"));
}

TEST(expand_exec, follows_the_quoting_of_wine_entries) {
  const auto entry = parse_desktop_entry(
      "[Desktop Entry]\nType=Application\nName=Sumatra\n"
      "Exec=env WINEPREFIX=\"/home/demo/.wine\" wine C:\\\\\\\\Program\\\\ Files\\\\\\\\x.exe\n",
      "", "");
  ASSERT_TRUE(entry);
  EXPECT_THAT(expand_exec(*entry, {}), ElementsAre("env", "WINEPREFIX=/home/demo/.wine", "wine", "C:\\Program Files\\x.exe"));
  EXPECT_TRUE(is_windows_program(*entry));
}

TEST(expand_exec, files_go_to_the_end_when_there_is_no_place_for_them) {
  EXPECT_THAT(expand_exec(entry_with("wine x.exe"), {"a.pdf"}), ElementsAre("wine", "x.exe", "a.pdf"));
  EXPECT_THAT(expand_exec(entry_with("x --open=%f"), {"a.pdf"}), ElementsAre("x", "--open=a.pdf"));
  EXPECT_THAT(expand_exec(entry_with("x 100%%"), {}), ElementsAre("x", "100%"));
}

TEST(expand_exec, open_quote_gives_nothing) { EXPECT_THAT(expand_exec(entry_with("x \"abc"), {}), IsEmpty()); }

TEST(is_windows_program, only_when_wine_is_the_program) {
  EXPECT_TRUE(is_windows_program(entry_with("wine x.exe")));
  EXPECT_TRUE(is_windows_program(entry_with("/usr/lib/wine/wine64 x.exe")));
  EXPECT_FALSE(is_windows_program(entry_with("xterm -e wine")));
  EXPECT_FALSE(is_windows_program(entry_with("")));
}

TEST_F(DesktopFolder, list_is_sorted_and_the_first_of_an_identifier_counts) {
  const auto entry = [](std::string_view name) { return fmt::format("[Desktop Entry]\nType=Application\nName={}\nExec=x\n", name); };
  write("home/applications/wine/Programs/Zebra.desktop", entry("Zebra"));
  write("home/applications/a.desktop", entry("Mine"));
  write("system/applications/a.desktop", entry("Theirs"));
  write("system/applications/b.desktop", entry("Apple"));
  write("system/applications/c.desktop", entry("Broken") + "TryExec=/does/not/exist\n");
  write("system/applications/readme.txt", entry("Not one"));

  std::vector<std::string> seen;
  for (const DesktopEntry& each : list_entries({{root_ / "home", root_ / "system", root_ / "missing"}}, "")) {
    seen.push_back(each.id + "=" + each.name);
  }
  EXPECT_THAT(seen, ElementsAre("b.desktop=Apple", "a.desktop=Mine", "wine-Programs-Zebra.desktop=Zebra"));
}

TEST_F(DesktopFolder, hidden_entry_of_the_user_hides_the_system_one) {
  write("home/applications/a.desktop", "[Desktop Entry]\nType=Application\nName=A\nExec=a\nHidden=true\n");
  write("system/applications/a.desktop", "[Desktop Entry]\nType=Application\nName=A\nExec=a\n");
  EXPECT_THAT(list_entries({{root_ / "home", root_ / "system"}}, ""), IsEmpty());
}

TEST_F(DesktopFolder, icon_is_the_smallest_that_is_large_enough) {
  for (const char* size : {"16x16", "32x32", "256x256"}) write(fs::path("d/icons/hicolor") / size / "apps/x.png", "");
  const DataDirectories where{{root_ / "d"}};
  EXPECT_EQ(find_icon(where, "x", 32)->parent_path().parent_path().filename(), "32x32");
  EXPECT_EQ(find_icon(where, "x", 48)->parent_path().parent_path().filename(), "256x256");
  EXPECT_EQ(find_icon(where, "x", 1000)->parent_path().parent_path().filename(), "256x256");
  EXPECT_FALSE(find_icon(where, "y", 48));
  EXPECT_FALSE(find_icon(where, "../x", 48));
  EXPECT_FALSE(find_icon(where, "", 48));
}

TEST_F(DesktopFolder, icon_with_a_path_must_be_a_picture) {
  write("secret.txt", "x");
  write("x.ico", "x");
  EXPECT_FALSE(find_icon({}, root_ / "secret.txt", 48));
  EXPECT_EQ(find_icon({}, root_ / "x.ico", 48), root_ / "x.ico");
  EXPECT_EQ(media_type_of(root_ / "x.ico"), "image/vnd.microsoft.icon");
}

}  // namespace
}  // namespace bygone::agent
