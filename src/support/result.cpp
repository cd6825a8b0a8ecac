#include "support/result.h"

#include <cstring>

namespace bygone {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return "invalid argument";
    case ErrorCode::kNotFound: return "not found";
    case ErrorCode::kAlreadyExists: return "already exists";
    case ErrorCode::kPermissionDenied: return "permission denied";
    case ErrorCode::kUnsupported: return "unsupported";
    case ErrorCode::kCorrupt: return "corrupt";
    case ErrorCode::kOutOfRange: return "out of range";
    case ErrorCode::kNoSpace: return "no space";
    case ErrorCode::kBusy: return "busy";
    case ErrorCode::kCancelled: return "cancelled";
    case ErrorCode::kExhausted: return "exhausted";
    case ErrorCode::kIo: return "input/output error";
    case ErrorCode::kInternal: return "internal error";
  }
  return "unknown error";
}

namespace {
ErrorCode code_of(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENODEV:
    case ENXIO: return ErrorCode::kNotFound;
    case EEXIST: return ErrorCode::kAlreadyExists;
    case EACCES:
    case EPERM:
    case EROFS: return ErrorCode::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return ErrorCode::kNoSpace;
    case EBUSY:
    case EAGAIN: return ErrorCode::kBusy;
    case EINVAL: return ErrorCode::kInvalidArgument;
    case ENOSYS:
    case EOPNOTSUPP:
    case ENOTTY: return ErrorCode::kUnsupported;
    case ENOMEM:
    case EMFILE:
    case ENFILE: return ErrorCode::kExhausted;
    case ECANCELED:
    case EINTR: return ErrorCode::kCancelled;
    case ERANGE: return ErrorCode::kOutOfRange;
    default: return ErrorCode::kIo;
  }
}
}  // namespace

Error error_from_errno(int error_number, std::string_view what) {
  return Error{code_of(error_number), fmt::format("{}: {}", what, std::system_category().message(error_number)), {}};
}

}  // namespace bygone
