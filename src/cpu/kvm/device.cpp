#include "cpu/kvm/device.h"

#include <fcntl.h>

#include <array>
#include <utility>
#include <vector>

#include "cpu/kvm/kernel_call.h"

namespace bygone::cpu::kvm {
namespace {

constexpr int kApiVersion = 12;  // fixed since Linux 2.6.22; anything else is not KVM as we know it

struct Requirement {
  int capability;
  const char* name;
};

constexpr std::array kRequired{
    Requirement{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    Requirement{KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP"},
    Requirement{KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
    Requirement{KVM_CAP_X2APIC_API, "KVM_CAP_X2APIC_API"},
    Requirement{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    Requirement{KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS"},
    Requirement{KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"},
    Requirement{KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"},
    Requirement{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    Requirement{KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
    Requirement{KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ"},
};

Error open_error(int error_number, const std::string& path) {
  Error error = error_from_errno(error_number, "opening " + path);
  if (error_number == ENOENT) {
    error.hint = "Turn on virtualization (VT-x or AMD-V) in the host's firmware setup and load kvm_intel or kvm_amd";
  } else if (error_number == EACCES || error_number == EPERM) {
    error.hint = "Add yourself to the group kvm (sudo usermod -aG kvm $USER) and log in again";
  } else if (error_number == ENODEV || error_number == ENXIO) {
    error.hint = "The node is there but no driver answers: load kvm_intel or kvm_amd";
  }
  return error;
}

bool is_kvms_own_leaf(std::uint32_t leaf) { return leaf >= 0x40000000 && leaf < 0x50000000; }

}  // namespace

Result<Device> Device::open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return std::unexpected(open_error(errno, path));
  BYGONE_ASSIGN(const int version, kernel_call(fd.get(), KVM_GET_API_VERSION, "KVM_GET_API_VERSION"));
  if (version != kApiVersion) {
    return fail(ErrorCode::kUnsupported, "{} speaks KVM API version {}, not {}", path, version, kApiVersion);
  }
  BYGONE_ASSIGN(const int run_size, kernel_call(fd.get(), KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE"));
  Device device(std::move(fd), static_cast<std::size_t>(run_size));
  for (const Requirement& requirement : kRequired) {
    if (device.extension(requirement.capability) <= 0) {
      Error error{ErrorCode::kUnsupported, fmt::format("this kernel's KVM lacks {}", requirement.name),
                  "Linux 5.10 or later has it"};
      return std::unexpected(std::move(error));
    }
  }
  return device;
}

int Device::extension(int capability) const {
  return kernel_call(fd_.get(), KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION", static_cast<std::uintptr_t>(capability))
      .value_or(0);
}

Result<CpuidTable> Device::list_cpuid(unsigned long request, std::string_view name) const {
  constexpr std::size_t kMaximumEntries = 256;
  std::vector<std::byte> buffer(sizeof(kvm_cpuid2) + kMaximumEntries * sizeof(kvm_cpuid_entry2));
  auto* list = reinterpret_cast<kvm_cpuid2*>(buffer.data());
  list->nent = kMaximumEntries;
  BYGONE_CHECK(kernel_call(fd_.get(), request, name, list));
  CpuidTable table;
  for (std::uint32_t i = 0; i < list->nent; ++i) {
    const kvm_cpuid_entry2& entry = list->entries[i];
    const bool has_subleaf = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
    table.set({entry.function,
               has_subleaf ? std::optional<std::uint32_t>(entry.index) : std::nullopt,
               {entry.eax, entry.ebx, entry.ecx, entry.edx}});
  }
  return table;
}

Result<CpuidTable> Device::supported_cpuid() const {
  BYGONE_ASSIGN(const CpuidTable all, list_cpuid(KVM_GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID"));
  // KVM leaves this one out of its list: only a local APIC in the kernel has it, which is what our machines have.
  constexpr std::uint32_t kTscDeadline = 1U << 24;  // CPUID.1:ECX
  const bool has_deadline = extension(KVM_CAP_TSC_DEADLINE_TIMER) > 0;
  CpuidTable table;
  for (CpuidEntry entry : all.entries()) {
    if (is_kvms_own_leaf(entry.leaf)) continue;
    if (entry.leaf == 1 && has_deadline) entry.result.ecx |= kTscDeadline;
    table.set(entry);
  }
  return table;
}

CpuidTable Device::hypervisor_cpuid() const {
  if (extension(KVM_CAP_SYS_HYPERV_CPUID) <= 0) return {};
  return list_cpuid(KVM_GET_SUPPORTED_HV_CPUID, "KVM_GET_SUPPORTED_HV_CPUID").value_or(CpuidTable());
}

}  // namespace bygone::cpu::kvm
