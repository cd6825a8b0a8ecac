#include "machine/probe_cache.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace bygone::machine {
namespace {

using nlohmann::json;

std::filesystem::path user_file() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return std::filesystem::path(cache) / "bygone" / "engines.json";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    return std::filesystem::path(home) / ".cache" / "bygone" / "engines.json";
  }
  return {};
}

/// The value of the first line of /proc/cpuinfo that begins with `name`.
std::string processor_field(std::string_view name) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const std::size_t colon = line.find(':');
    if (line.starts_with(name) && colon != std::string::npos) return line.substr(std::min(colon + 2, line.size()));
  }
  return {};
}

std::string describe_host() {
  utsname kernel = {};
  if (::uname(&kernel) != 0) return {};
  return fmt::format("{} {}; {}; microcode {}", kernel.release, kernel.version, processor_field("model name"),
                     processor_field("microcode"));
}

json load(const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) return json::object();
  json content = json::parse(stream, nullptr, /*allow_exceptions=*/false);
  return content.is_object() ? content : json::object();
}

template <typename T>
std::optional<T> member(const json& object, const char* name, bool (json::*is_right)() const noexcept) {
  const auto found = object.find(name);
  if (found == object.end() || !((*found).*is_right)()) return std::nullopt;
  return found->get<T>();
}

}  // namespace

ProbeCache ProbeCache::of_user() { return {user_file(), describe_host()}; }

std::optional<cpu::EngineStatus> ProbeCache::find(std::string_view engine) const {
  if (file_.empty() || host_.empty()) return std::nullopt;
  const json content = load(file_);
  if (member<std::string>(content, "host", &json::is_string) != host_) return std::nullopt;
  const auto engines = content.find("engines");
  if (engines == content.end() || !engines->is_object()) return std::nullopt;
  const auto found = engines->find(std::string(engine));
  if (found == engines->end() || !found->is_object()) return std::nullopt;
  const auto usable = member<bool>(*found, "usable", &json::is_boolean);
  const auto rate = member<double>(*found, "million_instructions_per_second", &json::is_number);
  const auto reason = member<std::string>(*found, "reason", &json::is_string);
  const auto hint = member<std::string>(*found, "hint", &json::is_string);
  if (!usable || !rate || !reason || !hint) return std::nullopt;
  return cpu::EngineStatus{*usable, *rate, *reason, *hint};
}

void ProbeCache::keep(std::string_view engine, const cpu::EngineStatus& status) const {
  if (file_.empty() || host_.empty() || status.million_instructions_per_second <= 0) return;
  json content = load(file_);
  if (member<std::string>(content, "host", &json::is_string) != host_) content = {{"host", host_}};
  if (!content["engines"].is_object()) content["engines"] = json::object();
  content["engines"][std::string(engine)] = {
      {"usable", status.is_usable},
      {"million_instructions_per_second", status.million_instructions_per_second},
      {"reason", status.reason},
      {"hint", status.hint}};
  std::error_code ignored;
  std::filesystem::create_directories(file_.parent_path(), ignored);
  const std::filesystem::path fresh = fmt::format("{}.{}", file_.string(), ::getpid());
  if (std::ofstream stream(fresh); !(stream << content.dump(2, ' ', false, json::error_handler_t::replace) << '\n')) {
    std::filesystem::remove(fresh, ignored);
    return;
  }
  std::filesystem::rename(fresh, file_, ignored);
}

}  // namespace bygone::machine
