#include "library/library.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <map>

#include "library/document_lines.h"
#include "support/file.h"
#include "support/unique_fd.h"

namespace bygone::library {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaximumConfigurationBytes = 1 << 20;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string text_of_bytes(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_machine(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_regular_file(folder / (folder.filename().string() + ".json"), ignored);
}

/// Removes what killed processes have left half made or half removed. Who works on such a folder holds its lock; the age is for the moment
/// between making it and locking it.
void sweep(const fs::path& place) {
  constexpr std::time_t kOldEnough = 60;
  std::error_code ignored;
  for (fs::directory_iterator entry(place, ignored), end; !ignored && entry != end; entry.increment(ignored)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kUnfinished) && !name.starts_with(kGone)) continue;
    const UniqueFd folder(::open(entry->path().c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat about = {};
    if (!folder || ::fstat(folder.get(), &about) != 0 || about.st_uid != ::geteuid() || about.st_mtime + kOldEnough > std::time(nullptr) ||
        ::flock(folder.get(), LOCK_EX | LOCK_NB) != 0) {
      continue;
    }
    std::error_code failed;
    fs::remove_all(entry->path(), failed);
  }
}

Result<std::vector<fs::path>> read_places(const fs::path& configuration) {
  std::error_code ignored;
  if (!fs::exists(configuration, ignored)) return std::vector<fs::path>();
  BYGONE_ASSIGN(const auto bytes, read_file(configuration, kMaximumConfigurationBytes));
  const Document document = Document::parse(text_of_bytes(bytes), nullptr, false);
  const auto list = document.is_object() ? document.find("places") : document.end();
  std::vector<fs::path> places;
  if (document.is_object() && list == document.end()) return places;
  if (document.is_object() && list->is_array()) {
    for (const Document& place : *list) {
      if (place.is_string()) places.emplace_back(place.get<std::string>());
    }
    if (places.size() == list->size()) return places;
  }
  return std::unexpected(Error{ErrorCode::kCorrupt, configuration.string() + " is not {\"places\": [folders]}", "Correct or remove it"});
}

}  // namespace

Result<Library> Library::of_user() {
  if (const std::string only = environment("BYGONE_MACHINES"); !only.empty()) return Library({}, {fs::absolute(only)});
  const std::string home = environment("HOME"), config_home = environment("XDG_CONFIG_HOME");
  if (home.empty() || home[0] != '/') {
    return std::unexpected(Error{ErrorCode::kNotFound, "HOME is not set", "Set HOME, or BYGONE_MACHINES to the folder of your machines"});
  }
  const fs::path configuration = (config_home.starts_with('/') ? fs::path(config_home) : fs::path(home) / ".config") / "bygone/config.json";
  BYGONE_ASSIGN(auto places, read_places(configuration));
  if (places.empty()) places.push_back(fs::path(home) / "Virtual Machines");
  return Library(configuration, std::move(places));
}

Result<void> Library::add_place(const fs::path& place) {
  const fs::path absolute = fs::absolute(place).lexically_normal();
  if (std::ranges::find(places_, absolute) != places_.end() || configuration_.empty()) return {};
  places_.push_back(absolute);
  Document list = Document::array();
  for (const fs::path& each : places_) list.push_back(each.string());
  std::error_code error;
  fs::create_directories(configuration_.parent_path(), error);
  if (error) return fail_errno(error.value(), "creating " + configuration_.parent_path().string());
  Document document = Document::object();
  if (const auto bytes = read_file(configuration_, kMaximumConfigurationBytes)) {
    Document old = Document::parse(text_of_bytes(*bytes), nullptr, false);
    if (old.is_object()) document = std::move(old);
  }
  document["places"] = std::move(list);
  return replace_text_file(configuration_, write_document(document));
}

std::vector<MachineFolder> Library::list() const {
  std::map<std::string, MachineFolder> found;
  for (const fs::path& place : places_) {
    std::error_code ignored;
    for (fs::directory_iterator entry(place, ignored), end; !ignored && entry != end; entry.increment(ignored)) {
      const fs::path folder = entry->path();
      const std::string name = folder.filename().string();
      if (check_name(name) && is_machine(folder)) found.try_emplace(name, MachineFolder{folder, name});
    }
  }
  std::vector<MachineFolder> machines;
  machines.reserve(found.size());
  for (auto& [name, machine] : found) machines.push_back(std::move(machine));
  return machines;
}

Result<MachineFolder> Library::find(const std::string& name) const {
  if (name.find('/') != std::string::npos) {
    fs::path folder = fs::absolute(name).lexically_normal();
    if (!folder.has_filename()) folder = folder.parent_path();
    if (folder.extension() == ".json") folder = folder.parent_path();
    if (is_machine(folder)) return MachineFolder{folder, folder.filename().string()};
    return fail(ErrorCode::kNotFound, "{} is not a machine's folder: it has no {}.json", folder.string(), folder.filename().string());
  }
  BYGONE_CHECK(check_name(name));
  for (const fs::path& place : places_) {
    if (is_machine(place / name)) return MachineFolder{place / name, name};
  }
  return std::unexpected(Error{ErrorCode::kNotFound, fmt::format("there is no machine \"{}\" in {}", name, default_place().string()),
                               "bygone list shows the machines that there are; bygone create makes one"});
}

Result<ReadDefinition> load(const MachineFolder& machine) {
  BYGONE_ASSIGN(const auto bytes, read_file(machine.definition(), kMaximumDefinitionBytes));
  BYGONE_ASSIGN(auto read, read_definition(text_of_bytes(bytes), machine.definition().filename().string()));
  if (read.definition.name != machine.name) {
    return fail(ErrorCode::kCorrupt, "{} calls the machine \"{}\"; it must be its folder's name, \"{}\"", machine.definition().string(),
                read.definition.name, machine.name);
  }
  return read;
}

std::string place_in_definition(const MachineFolder& machine, const std::vector<std::string>& path) {
  const auto bytes = read_file(machine.definition(), kMaximumDefinitionBytes);
  const std::string line = bytes ? fmt::format(", line {}", line_of(text_of_bytes(*bytes), path)) : "";
  return fmt::format("{}{}: {}", machine.definition().filename().string(), line, fmt::join(path, "."));
}

Result<void> store(const MachineFolder& machine, const Document& document) {
  const std::string text = write_document(document);
  BYGONE_CHECK(read_definition(text, machine.definition().filename().string()));
  return replace_text_file(machine.definition(), text);
}

Result<MachineFolder> create(const fs::path& place, const Document& document, const std::function<Result<void>(const fs::path&)>& prepare) {
  const std::string text = write_document(document);
  BYGONE_ASSIGN(const auto read, read_definition(text, "the definition"));
  MachineFolder machine{place / read.definition.name, read.definition.name};
  std::error_code error;
  fs::create_directories(place, error);
  if (error) return fail_errno(error.value(), "creating " + place.string());
  if (fs::exists(machine.folder, error)) {
    return std::unexpected(Error{ErrorCode::kAlreadyExists, machine.folder.string() + " exists already", "Choose another name or place"});
  }
  sweep(place);
  // A name that starts with a dot is no machine's: what a killed process leaves here is never taken for one.
  std::string unfinished = (place / (std::string(kUnfinished) + machine.name + "-XXXXXX")).string();
  if (::mkdtemp(unfinished.data()) == nullptr) return fail_errno(errno, "creating a folder in " + place.string());
  const UniqueFd held(::open(unfinished.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!held || ::flock(held.get(), LOCK_EX | LOCK_NB) != 0) return fail_errno(errno, "locking " + unfinished);
  auto outcome = prepare ? prepare(unfinished) : Result<void>();
  if (outcome) outcome = replace_text_file(fs::path(unfinished) / (machine.name + ".json"), text);
  if (outcome && ::rename(unfinished.c_str(), machine.folder.c_str()) != 0) outcome = fail_errno(errno, "creating " + machine.folder.string());
  if (!outcome) {
    fs::remove_all(unfinished, error);
    return std::unexpected(std::move(outcome).error());
  }
  return machine;
}

}  // namespace bygone::library
