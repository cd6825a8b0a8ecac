#include "cpu/kvm/msr_access.h"

#include <array>
#include <cstddef>

#include "cpu/kvm/abi.h"
#include "cpu/kvm/kernel_call.h"

namespace bygone::cpu::kvm {
namespace {

/// kvm_msrs ends in a flexible array; this is one with room for a single entry.
class OneMsr {
 public:
  explicit OneMsr(const MsrValue& msr) {
    list().nmsrs = 1;
    list().entries[0].index = msr.index;
    list().entries[0].data = msr.value;
  }
  [[nodiscard]] kvm_msrs& list() { return *reinterpret_cast<kvm_msrs*>(bytes_.data()); }

 private:
  alignas(kvm_msrs) std::array<std::byte, sizeof(kvm_msrs) + sizeof(kvm_msr_entry)> bytes_ = {};
};

}  // namespace

std::optional<std::uint64_t> read_one_msr(int vcpu, std::uint32_t index) {
  OneMsr request({index, 0});
  if (kernel_call(vcpu, KVM_GET_MSRS, "KVM_GET_MSRS", &request.list()).value_or(0) != 1) return std::nullopt;
  return request.list().entries[0].data;
}

bool write_one_msr(int vcpu, const MsrValue& msr) {
  OneMsr request(msr);
  return kernel_call(vcpu, KVM_SET_MSRS, "KVM_SET_MSRS", &request.list()).value_or(0) == 1;
}

}  // namespace bygone::cpu::kvm
