#include "cpu/kvm/interrupt_routes.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "cpu/kvm/kernel_call.h"

namespace bygone::cpu::kvm {
namespace {

bool same_message(const kvm_msi& a, const kvm_msi& b) {
  return a.address_lo == b.address_lo && a.address_hi == b.address_hi && a.data == b.data;
}

}  // namespace

InterruptRoutes::InterruptRoutes(int vm, std::uint32_t vcpu_count)
    : vm_(vm), is_routed_(std::size_t{vcpu_count} * kSources), sources_(is_routed_.size()) {
  for (std::atomic<int>& source : sources_) source.store(-1, std::memory_order_relaxed);
}

InterruptRoutes::~InterruptRoutes() = default;

Result<void> InterruptRoutes::watch_level(const kvm_msi& message) {
  const std::lock_guard lock(mutex_);
  if (std::ranges::any_of(levels_, [&](const kvm_msi& known) { return same_message(known, message); })) return {};
  if (levels_.size() < kIoApicPins) {
    levels_.push_back(message);
  } else {
    levels_[next_level_] = message;
    next_level_ = (next_level_ + 1) % kIoApicPins;
  }
  watches_levels_.store(true, std::memory_order_relaxed);
  return write_table();
}

Result<void> InterruptRoutes::write_table() {
  std::vector<std::byte> buffer(sizeof(kvm_irq_routing) + (levels_.size() + sources_.size()) * sizeof(kvm_irq_routing_entry));
  auto* table = reinterpret_cast<kvm_irq_routing*>(buffer.data());
  for (std::size_t pin = 0; pin < levels_.size(); ++pin) {
    kvm_irq_routing_entry& entry = table->entries[table->nr++];
    entry.gsi = static_cast<std::uint32_t>(pin);
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = levels_[pin].address_lo;
    entry.u.msi.address_hi = levels_[pin].address_hi;
    entry.u.msi.data = levels_[pin].data;
  }
  for (std::uint32_t slot = 0; slot < sources_.size(); ++slot) {
    if (!is_routed_[slot]) continue;
    kvm_irq_routing_entry& entry = table->entries[table->nr++];
    entry.gsi = static_cast<std::uint32_t>(kIoApicPins) + slot;
    entry.type = KVM_IRQ_ROUTING_HV_SINT;
    entry.u.hv_sint.vcpu = slot / kSources;
    entry.u.hv_sint.sint = slot % kSources;
  }
  BYGONE_CHECK(kernel_call(vm_, KVM_SET_GSI_ROUTING, "KVM_SET_GSI_ROUTING", table));
  return {};
}

Result<int> InterruptRoutes::connect(std::uint32_t slot) {
  const std::lock_guard lock(mutex_);
  if (const int known = sources_[slot].load(std::memory_order_relaxed); known >= 0) return known;
  UniqueFd descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!descriptor) return fail_errno(errno, "creating an eventfd");
  is_routed_[slot] = true;
  BYGONE_CHECK(write_table());
  kvm_irqfd request = {};
  request.fd = static_cast<std::uint32_t>(descriptor.get());
  request.gsi = static_cast<std::uint32_t>(kIoApicPins) + slot;
  BYGONE_CHECK(kernel_call(vm_, KVM_IRQFD, "KVM_IRQFD", &request));
  const int number = descriptor.get();
  descriptors_.push_back(std::move(descriptor));
  sources_[slot].store(number, std::memory_order_release);
  return number;
}

Result<void> InterruptRoutes::raise(VpIndex vp, std::uint8_t source) {
  const std::uint32_t slot = vp.value * kSources + source;
  if (source >= kSources || slot >= sources_.size()) return fail(ErrorCode::kInvalidArgument, "there is no such source");
  int descriptor = sources_[slot].load(std::memory_order_acquire);
  if (descriptor < 0) {
    BYGONE_ASSIGN(descriptor, connect(slot));
  }
  const std::uint64_t one = 1;
  if (::write(descriptor, &one, sizeof(one)) != sizeof(one)) return fail_errno(errno, "writing to an eventfd");
  return {};
}

}  // namespace bygone::cpu::kvm
