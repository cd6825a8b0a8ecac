#include "machine/gen2/option_text.h"

#include <array>
#include <charconv>

namespace bygone::machine::gen2 {
namespace {

Result<std::uint8_t> parse_drive(std::string_view text, std::size_t disks, std::size_t dvds) {
  const bool is_dvd = text.starts_with("dvd");
  const std::string_view digits = text.substr(std::min<std::size_t>(is_dvd ? 3 : 4, text.size()));
  std::size_t number = 1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  const bool is_number = digits.empty() || (error == std::errc() && end == digits.data() + digits.size());
  if ((!is_dvd && !text.starts_with("disk")) || !is_number || number == 0) {
    return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a drive to boot from; use disk, disk2, dvd, dvd2 and so on", text);
  }
  const std::size_t count = is_dvd ? dvds : disks;
  if (number > count) {
    return fail(ErrorCode::kInvalidArgument, "the boot order names {}, and there are {} of its kind", text, count);
  }
  return static_cast<std::uint8_t>((is_dvd ? disks : 0) + number - 1);
}

}  // namespace

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

Result<std::vector<std::uint8_t>> parse_boot_order(std::string_view text, std::size_t disks, std::size_t dvds) {
  std::vector<std::uint8_t> places;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    BYGONE_ASSIGN(const std::uint8_t place, parse_drive(text.substr(begin, end - begin), disks, dvds));
    places.push_back(place);
    begin = end + 1;
  }
  return places;
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
