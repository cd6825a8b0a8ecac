#include "desktop_entries.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <system_error>
#include <utility>

namespace bygone::agent {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaximumFileSize = 256 << 10;

[[nodiscard]] std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

/// The escapes of string values: \s \n \t \r and a doubled backslash.
[[nodiscard]] std::string unescape(std::string_view value) {
  std::string result;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] != '\\' || i + 1 == value.size()) {
      result += value[i];
      continue;
    }
    switch (value[++i]) {
      case 's': result += ' '; break;
      case 'n': result += '\n'; break;
      case 't': result += '\t'; break;
      case 'r': result += '\r'; break;
      case '\\': result += '\\'; break;
      default:
        result += '\\';
        result += value[i];
    }
  }
  return result;
}

/// The keys of the group [Desktop Entry].
[[nodiscard]] std::map<std::string, std::string, std::less<>> main_group(std::string_view text) {
  std::map<std::string, std::string, std::less<>> keys;
  bool inside = false;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const std::string_view line = trim(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    if (line.empty() || line.front() == '#') continue;
    if (line.front() == '[') {
      inside = line == "[Desktop Entry]";
      continue;
    }
    const auto equals = line.find('=');
    if (!inside || equals == std::string_view::npos) continue;
    keys.try_emplace(std::string(trim(line.substr(0, equals))), trim(line.substr(equals + 1)));
  }
  return keys;
}

[[nodiscard]] std::string read_text(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (error || size > kMaximumFileSize) return {};
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

[[nodiscard]] bool is_in_path(const std::string& program) {
  std::error_code error;
  if (program.find('/') != std::string::npos) return fs::exists(program, error);
  for (const char* folder : {"/usr/local/bin", "/usr/bin", "/bin", "/usr/games"}) {
    if (fs::exists(fs::path(folder) / program, error)) return true;
  }
  return false;
}

/// Splits an Exec value into words. The quoting rules are its own: double quotes, in which a backslash escapes `"`, a
/// backquote, `$` and itself. Empty when a quote is not closed.
[[nodiscard]] std::vector<std::string> split_exec(std::string_view exec) {
  std::vector<std::string> words;
  std::string word;
  bool has_word = false;
  bool quoted = false;
  for (std::size_t i = 0; i < exec.size(); ++i) {
    const char c = exec[i];
    if (c == '"') {
      quoted = !quoted;
      has_word = true;
    } else if (c == '\\' && i + 1 < exec.size() && (quoted ? std::string_view("\"`$\\").contains(exec[i + 1]) : true)) {
      word += exec[++i];
      has_word = true;
    } else if ((c == ' ' || c == '\t') && !quoted) {
      if (has_word) words.push_back(std::exchange(word, {}));
      has_word = false;
    } else {
      word += c;
      has_word = true;
    }
  }
  if (quoted) return {};
  if (has_word) words.push_back(word);
  return words;
}

}  // namespace

std::optional<DesktopEntry> parse_desktop_entry(std::string_view text, std::string_view id, std::string_view locale) {
  const auto keys = main_group(text);
  const auto value = [&keys](std::string_view key) {
    const auto found = keys.find(key);
    return found == keys.end() ? std::string() : unescape(found->second);
  };
  const auto localized = [&](const std::string& key) {
    const std::string_view language = locale.substr(0, locale.find('_'));
    for (const std::string_view tag : {locale, language}) {
      if (tag.empty()) continue;
      const auto found = keys.find(key + "[" + std::string(tag) + "]");
      if (found != keys.end()) return unescape(found->second);
    }
    return value(key);
  };
  if (value("Type") != "Application" || value("NoDisplay") == "true" || value("Hidden") == "true" || value("Terminal") == "true") {
    return std::nullopt;
  }
  DesktopEntry entry{.id = std::string(id), .name = localized("Name"), .comment = localized("Comment"), .exec = value("Exec"),
                     .try_exec = value("TryExec"), .icon = localized("Icon"), .path = value("Path")};
  if (entry.name.empty() || entry.exec.empty() || entry.exec.size() > spec::agent::kMaximumTextSize) return std::nullopt;
  for (std::string* field : {&entry.name, &entry.comment}) {
    if (field->size() > spec::agent::kMaximumTextSize) field->resize(spec::agent::kMaximumTextSize);
    std::erase(*field, '\0');
  }
  return entry;
}

std::vector<std::string> expand_exec(const DesktopEntry& entry, const std::vector<std::string>& files) {
  std::vector<std::string> command;
  for (const std::string& word : split_exec(entry.exec)) {
    if (word == "%F" || word == "%U") {
      command.insert(command.end(), files.begin(), files.end());
      continue;
    }
    if (word == "%i") {
      if (!entry.icon.empty()) command.insert(command.end(), {"--icon", entry.icon});
      continue;
    }
    if ((word == "%f" || word == "%u") && files.empty()) continue;
    std::string expanded;
    for (std::size_t i = 0; i < word.size(); ++i) {
      if (word[i] != '%' || i + 1 == word.size()) {
        expanded += word[i];
        continue;
      }
      switch (word[++i]) {
        case '%': expanded += '%'; break;
        case 'f':
        case 'u': expanded += files.empty() ? std::string() : files.front(); break;
        case 'c': expanded += entry.name; break;
        default: break;  // deprecated codes stand for nothing
      }
    }
    command.push_back(std::move(expanded));
  }
  // A program without a place for files gets them at its end: better than opening nothing.
  if (!command.empty() && !files.empty() && entry.exec.find("%f") == std::string::npos && entry.exec.find("%u") == std::string::npos &&
      entry.exec.find("%F") == std::string::npos && entry.exec.find("%U") == std::string::npos) {
    command.insert(command.end(), files.begin(), files.end());
  }
  return command;
}

bool is_windows_program(const DesktopEntry& entry) {
  for (const std::string& word : split_exec(entry.exec)) {
    if (word == "env" || word.find('=') != std::string::npos) continue;
    const std::string program = fs::path(word).filename();
    return program == "wine" || program == "wine64" || program == "wine-stable" || program == "wineloader";
  }
  return false;
}

std::vector<DesktopEntry> list_entries(const DataDirectories& where, std::string_view locale) {
  std::vector<DesktopEntry> entries;
  std::set<std::string> seen;
  for (const fs::path& data : where.directories) {
    const fs::path applications = data / "applications";
    std::error_code error;
    auto walk = fs::recursive_directory_iterator(applications, fs::directory_options::skip_permission_denied, error);
    for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
      if (walk.depth() > 6) walk.disable_recursion_pending();
      const fs::path& path = walk->path();
      if (path.extension() != ".desktop") continue;
      std::string id = path.lexically_relative(applications).string();
      std::ranges::replace(id, '/', '-');
      // The first one of an id counts, even when it hides the program.
      if (id.size() > spec::agent::kMaximumTextSize || !seen.insert(id).second) continue;
      auto entry = parse_desktop_entry(read_text(path), id, locale);
      if (!entry || (!entry->try_exec.empty() && !is_in_path(entry->try_exec))) continue;
      if (entries.size() < spec::agent::kMaximumPrograms) entries.push_back(std::move(*entry));
    }
  }
  std::ranges::sort(entries, {}, [](const DesktopEntry& entry) { return std::tie(entry.name, entry.id); });
  return entries;
}

std::string media_type_of(const fs::path& icon) {
  const std::string ending = icon.extension();
  if (ending == ".png") return "image/png";
  if (ending == ".svg") return "image/svg+xml";
  if (ending == ".xpm") return "image/x-xpixmap";
  if (ending == ".ico") return "image/vnd.microsoft.icon";
  return {};
}

std::optional<fs::path> find_icon(const DataDirectories& where, const std::string& icon, unsigned size) {
  std::error_code error;
  if (icon.starts_with('/')) {
    if (!media_type_of(icon).empty() && fs::is_regular_file(icon, error)) return icon;
    return std::nullopt;
  }
  if (icon.empty() || icon.find('/') != std::string::npos) return std::nullopt;

  // The smallest that is large enough, else the largest; a drawing beats a picture that must be enlarged.
  constexpr std::array<unsigned, 12> kSizes{16, 22, 24, 32, 36, 48, 64, 72, 96, 128, 256, 512};
  std::vector<unsigned> order;
  for (const unsigned each : kSizes) {
    if (each >= size) order.push_back(each);
  }
  order.push_back(0);  // scalable
  for (auto each = kSizes.rbegin(); each != kSizes.rend(); ++each) {
    if (*each < size) order.push_back(*each);
  }
  for (const unsigned each : order) {
    const std::string folder = each == 0 ? "scalable" : std::to_string(each) + "x" + std::to_string(each);
    for (const fs::path& data : where.directories) {
      for (const char* ending : {".png", ".svg", ".xpm", ".ico"}) {
        fs::path candidate = data / "icons" / "hicolor" / folder / "apps" / (icon + ending);
        if (fs::is_regular_file(candidate, error)) return candidate;
      }
    }
  }
  for (const fs::path& data : where.directories) {
    for (const char* ending : {".png", ".svg", ".xpm", ".ico"}) {
      fs::path candidate = data / "pixmaps" / (icon + ending);
      if (fs::is_regular_file(candidate, error)) return candidate;
    }
  }
  return std::nullopt;
}

}  // namespace bygone::agent
