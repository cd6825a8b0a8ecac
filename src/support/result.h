// Errors as values. Fallible work returns Result<T>; an Error says what, where and why, and `hint` what to do about it.
// Threading: values, no shared state.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <expected>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace bygone {

enum class ErrorCode {
  kInvalidArgument,  ///< the caller's request makes no sense
  kNotFound,
  kAlreadyExists,
  kPermissionDenied,
  kUnsupported,  ///< understood, and not to be had here
  kCorrupt,      ///< a file or a peer broke its format
  kOutOfRange,
  kNoSpace,
  kBusy,  ///< somebody else holds it
  kCancelled,
  kExhausted,  ///< a stated bound was reached
  kIo,
  kInternal,  ///< a defect of ours
};

/// The name of a code as users and logs see it, such as "not found".
[[nodiscard]] std::string_view to_string(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;  ///< what, where and why, one sentence without a final stop
  std::string hint;     ///< what to do; may be empty

  /// The same error seen from further out: "opening disk.vhdx: the log is corrupt".
  [[nodiscard]] Error within(std::string_view context) && {
    message = fmt::format("{}: {}", context, message);
    return std::move(*this);
  }
  [[nodiscard]] std::string text() const { return hint.empty() ? message : fmt::format("{}. {}", message, hint); }
};

template <typename T>
using Result = std::expected<T, Error>;

template <typename... Args>
[[nodiscard]] std::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...), {}});
}

/// An Error from an errno value, with the code that fits it; `what` names the call and the thing it was done to.
[[nodiscard]] Error error_from_errno(int error_number, std::string_view what);
[[nodiscard]] inline std::unexpected<Error> fail_errno(int error_number, std::string_view what) {
  return std::unexpected(error_from_errno(error_number, what));
}

}  // namespace bygone

#define BYGONE_CONCAT_INNER(a, b) a##b
#define BYGONE_CONCAT(a, b) BYGONE_CONCAT_INNER(a, b)

/// BYGONE_CHECK(expression): returns the error of a Result from the enclosing function.
#define BYGONE_CHECK(...)                                                             \
  do {                                                                                \
    if (auto bygone_check = (__VA_ARGS__); !bygone_check) {                           \
      return std::unexpected(std::move(bygone_check).error());                        \
    }                                                                                 \
  } while (false)

/// BYGONE_ASSIGN(declaration, expression): declares from a Result's value or returns its error.
#define BYGONE_ASSIGN(declaration, ...) \
  BYGONE_ASSIGN_INNER(BYGONE_CONCAT(bygone_result_, __LINE__), declaration, __VA_ARGS__)
#define BYGONE_ASSIGN_INNER(temporary, declaration, ...)                              \
  auto temporary = (__VA_ARGS__);                                                     \
  if (!temporary) return std::unexpected(std::move(temporary).error());               \
  declaration = std::move(*temporary)
