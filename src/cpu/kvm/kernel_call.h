// ioctl as Result: the one place where KVM's return convention is known.
// Threading: as ioctl.
#pragma once

#include <sys/ioctl.h>

#include <cerrno>
#include <cstdint>
#include <string_view>

#include "support/result.h"

namespace bygone::cpu::kvm {

/// Calls again when a signal came in between; `name` is the request as the kernel's documentation spells it.
[[nodiscard]] inline Result<int> kernel_call(int fd, unsigned long request, std::string_view name,
                                             std::uintptr_t argument = 0) {
  int result = 0;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return fail_errno(errno, name);
  return result;
}

template <typename T>
[[nodiscard]] Result<int> kernel_call(int fd, unsigned long request, std::string_view name, T* argument) {
  return kernel_call(fd, request, name, reinterpret_cast<std::uintptr_t>(argument));
}

}  // namespace bygone::cpu::kvm
