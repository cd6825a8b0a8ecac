// /dev/kvm: opened, its version and the capabilities that this engine cannot do without checked once.
// Threading: immutable after open().
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "cpu/kvm/abi.h"
#include "cpu/cpuid.h"
#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::cpu::kvm {

class Device {
 public:
  /// Errors: kNotFound (no device), kPermissionDenied, kUnsupported (a capability is missing), each with a hint.
  [[nodiscard]] static Result<Device> open(const std::string& path);

  [[nodiscard]] int fd() const { return fd_.get(); }
  /// KVM_CHECK_EXTENSION: 0 when the kernel does not know it.
  [[nodiscard]] int extension(int capability) const;
  /// Bytes of the kvm_run area that each vCPU maps.
  [[nodiscard]] std::size_t run_area_size() const { return run_area_size_; }
  /// KVM_GET_SUPPORTED_CPUID without KVM's own hypervisor leaves.
  [[nodiscard]] Result<CpuidTable> supported_cpuid() const;
  /// The hypervisor leaves that the kernel's own Hyper-V emulation would announce; empty when it cannot tell.
  [[nodiscard]] CpuidTable hypervisor_cpuid() const;

 private:
  [[nodiscard]] Result<CpuidTable> list_cpuid(unsigned long request, std::string_view name) const;
  Device(UniqueFd fd, std::size_t run_area_size) : fd_(std::move(fd)), run_area_size_(run_area_size) {}
  UniqueFd fd_;
  std::size_t run_area_size_;
};

}  // namespace bygone::cpu::kvm
