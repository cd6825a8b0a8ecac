// Diagnostics for people: one line an event, with a level and the part it comes from.
// Threading: Log may be used from any thread; lines never interleave.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace bygone {

enum class LogLevel { kError, kWarning, kInfo, kDebug };
[[nodiscard]] std::string_view to_string(LogLevel level);

/// Where lines go; called under the log's lock.
using LogSink = std::function<void(LogLevel level, std::string_view part, std::string_view text)>;

class Log {
 public:
  /// A log that drops everything; for tests and defaults.
  Log();
  explicit Log(LogSink sink, LogLevel level = LogLevel::kInfo);
  /// Lines "warning: part: text" on standard error.
  [[nodiscard]] static Log to_standard_error(LogLevel level = LogLevel::kInfo);
  /// The same log under another part's name.
  [[nodiscard]] Log part(std::string name) const;

  [[nodiscard]] bool is_enabled(LogLevel level) const;
  void write(LogLevel level, std::string_view text) const;

  template <typename... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) const {
    format_line(LogLevel::kError, format, std::forward<Args>(args)...);
  }
  template <typename... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) const {
    format_line(LogLevel::kWarning, format, std::forward<Args>(args)...);
  }
  template <typename... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    format_line(LogLevel::kInfo, format, std::forward<Args>(args)...);
  }
  template <typename... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) const {
    format_line(LogLevel::kDebug, format, std::forward<Args>(args)...);
  }

 private:
  struct Shared;
  template <typename... Args>
  void format_line(LogLevel level, fmt::format_string<Args...> format, Args&&... args) const {
    if (is_enabled(level)) write(level, fmt::format(format, std::forward<Args>(args)...));
  }
  std::shared_ptr<Shared> shared_;
  std::string part_;
};

/// Lets at most `burst` events through in each `window`; a guest that misbehaves in a loop must not fill the disk.
/// Threading: any thread.
class RateLimit {
 public:
  explicit RateLimit(std::uint32_t burst = 10, std::chrono::seconds window = std::chrono::seconds(10))
      : burst_(burst), window_(window) {}
  /// True when the event may be reported now.
  [[nodiscard]] bool allow();

 private:
  std::uint32_t burst_;
  std::chrono::seconds window_;
  std::atomic<std::int64_t> window_start_ = 0;
  std::atomic<std::uint32_t> used_ = 0;
};

}  // namespace bygone
