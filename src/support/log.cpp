#include "support/log.h"

#include <unistd.h>

#include <mutex>

namespace bygone {

std::string_view to_string(LogLevel level) {
  switch (level) {
    case LogLevel::kError: return "error";
    case LogLevel::kWarning: return "warning";
    case LogLevel::kInfo: return "info";
    case LogLevel::kDebug: return "debug";
  }
  return "note";
}

struct Log::Shared {
  LogSink sink;
  LogLevel level;
  std::mutex mutex;
};

Log::Log() = default;

Log::Log(LogSink sink, LogLevel level) : shared_(std::make_shared<Shared>()) {
  shared_->sink = std::move(sink);
  shared_->level = level;
}

Log Log::to_standard_error(LogLevel level) {
  return Log(
      [](LogLevel line_level, std::string_view part, std::string_view text) {
        const std::string line = part.empty() ? fmt::format("{}: {}\n", to_string(line_level), text)
                                              : fmt::format("{}: {}: {}\n", to_string(line_level), part, text);
        [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, line.data(), line.size());
      },
      level);
}

Log Log::part(std::string name) const {
  Log copy = *this;
  copy.part_ = std::move(name);
  return copy;
}

bool Log::is_enabled(LogLevel level) const { return shared_ && level <= shared_->level; }

void Log::write(LogLevel level, std::string_view text) const {
  if (!is_enabled(level)) return;
  const std::lock_guard lock(shared_->mutex);
  shared_->sink(level, part_, text);
}

bool RateLimit::allow() {
  using std::chrono::steady_clock;
  const std::int64_t now =
      std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now().time_since_epoch()).count();
  std::int64_t start = window_start_.load(std::memory_order_relaxed);
  if (start == 0 || now - start >= std::chrono::milliseconds(window_).count()) {
    if (window_start_.compare_exchange_strong(start, now, std::memory_order_relaxed)) {
      used_.store(0, std::memory_order_relaxed);
    }
  }
  return used_.fetch_add(1, std::memory_order_relaxed) < burst_;
}

}  // namespace bygone
