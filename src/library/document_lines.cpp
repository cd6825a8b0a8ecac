#include "library/document_lines.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace bygone::library {
namespace {

/// Walks over valid JSON without building it; on text that is not, it ends early and never runs past the end.
class Walker {
 public:
  explicit Walker(std::string_view text) : text_(text) {}

  /// The offset of the value at `path`, as far as it goes.
  std::size_t find(const std::vector<std::string>& path) {
    skip_space();
    std::size_t found = position_;
    for (const std::string& step : path) {
      if (!enter(step)) break;
      found = position_;
    }
    return found;
  }

 private:
  [[nodiscard]] char peek() const { return position_ < text_.size() ? text_[position_] : '\0'; }
  void skip_space() {
    while (position_ < text_.size() && std::string_view(" \t\r\n,:").find(text_[position_]) != std::string_view::npos) ++position_;
  }
  std::string_view skip_string() {
    const std::size_t start = position_++;
    while (position_ < text_.size() && text_[position_] != '"') position_ += text_[position_] == '\\' ? 2 : 1;
    position_ = std::min(position_ + 1, text_.size());
    return text_.substr(start, position_ - start);
  }
  /// Over one value, however deep, without recursion.
  void skip_value() {
    std::size_t depth = 0;
    do {
      skip_space();
      const char c = peek();
      if (c == '\0') return;
      if (c == '"') {
        skip_string();
      } else {
        if (c == '{' || c == '[') ++depth;
        if ((c == '}' || c == ']') && depth > 0) --depth;
        ++position_;
        if (depth == 0 && c != '}' && c != ']') {
          while (position_ < text_.size() && std::string_view(" \t\r\n,:]}").find(text_[position_]) == std::string_view::npos) ++position_;
        }
      }
    } while (depth > 0);
  }
  /// From a container's first byte to the value of its member `step`; of equal keys the last, which is the one that a parser keeps.
  bool enter(const std::string& step) {
    const bool is_object = peek() == '{';
    if (!is_object && peek() != '[') return false;
    const std::size_t start = position_++;
    std::size_t found = std::string_view::npos;
    for (std::size_t index = 0;; ++index) {
      skip_space();
      if (peek() == '}' || peek() == ']' || peek() == '\0') break;
      bool is_it = !is_object && std::to_string(index) == step;
      if (is_object) {
        if (peek() != '"') break;
        const auto key = nlohmann::json::parse(skip_string(), nullptr, false);
        is_it = key.is_string() && key.get_ref<const std::string&>() == step;
        skip_space();
      }
      if (is_it) found = position_;
      skip_value();
    }
    position_ = found == std::string_view::npos ? start : found;
    return found != std::string_view::npos;
  }

  std::string_view text_;
  std::size_t position_ = 0;
};

}  // namespace

std::size_t line_at(std::string_view text, std::size_t offset) {
  return 1 + static_cast<std::size_t>(std::ranges::count(text.substr(0, offset), '\n'));
}

std::size_t line_of(std::string_view text, const std::vector<std::string>& path) { return line_at(text, Walker(text).find(path)); }

}  // namespace bygone::library
