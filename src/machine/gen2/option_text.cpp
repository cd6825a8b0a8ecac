#include "machine/gen2/option_text.h"

#include <array>

namespace bygone::machine::gen2 {

Result<SerialOptions> parse_serial(const std::string& text) {
  using Kind = SerialOptions::Kind;
  const std::size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon), path = colon == std::string::npos ? "" : text.substr(colon + 1);
  if (text.empty() || text == "none") return SerialOptions{};
  if (text == "null") return SerialOptions{Kind::kNull, {}, -1, -1};
  if (text == "pty") return SerialOptions{Kind::kPty, {}, -1, -1};
  if (kind == "file" && !path.empty()) return SerialOptions{Kind::kFile, path, -1, -1};
  if (kind == "socket" && !path.empty()) return SerialOptions{Kind::kSocket, path, -1, -1};
  return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a serial port; use none, null, pty, file:PATH or socket:PATH", text);
}

Result<GuestProfile> parse_profile(std::string_view text) {
  for (const GuestProfile profile : {GuestProfile::kLinux, GuestProfile::kWindows, GuestProfile::kLegacyWindows}) {
    if (to_string(profile) == text) return profile;
  }
  return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a kind of guest; use linux, windows or legacy-windows", text);
}

Result<std::string> find_firmware() {
  std::error_code ignored;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const auto prefix = program.parent_path().parent_path();
  const std::array candidates = {prefix / "share/bygone/bygone.fd", prefix.parent_path() / "firmware/bygone.fd"};
  for (const std::filesystem::path& candidate : candidates) {
    if (std::filesystem::is_regular_file(candidate, ignored)) return candidate.string();
  }
  return std::unexpected(Error{ErrorCode::kNotFound,
                               fmt::format("there is no firmware at {} or {}", candidates[0].string(), candidates[1].string()),
                               "Build it with firmware/build, or name one with --firmware"});
}

}  // namespace bygone::machine::gen2
