#include "cpu/kvm/partition.h"

#include <x86intrin.h>

#include <algorithm>
#include <array>
#include <utility>

#include "cpu/exit_names.h"
#include "cpu/kvm/abi.h"
#include "cpu/kvm/kernel_call.h"
#include "cpu/kvm/vcpu.h"

namespace bygone::cpu::kvm {
namespace {

// Pages that Intel processors without "unrestricted guest" need to run real mode; in the low MMIO gap above the local APIC,
// where no device and no RAM may be.
constexpr std::uint64_t kIdentityMapAddress = 0xFEFFC000;
constexpr std::uintptr_t kTssAddress = 0xFEFFD000;  // three pages

// The synthetic MSRs of the TLFS (chapter 5 and appendix F).
constexpr std::uint32_t kFirstSyntheticMsr = 0x40000000;
constexpr std::uint32_t kSyntheticMsrs = 0x400;
// TIME_STAMP_COUNTER and TSC_ADJUST, Intel SDM volume 4.
constexpr std::array<std::uint32_t, 2> kTscMsrs{kMsrTimeStampCounter, 0x3B};

// MSI address and data, Intel SDM volume 3, 11.11; the upper address word carries destination bits 8-31 with
// KVM_X2APIC_API_USE_32BIT_IDS.
kvm_msi to_msi(const InterruptRequest& request) {
  kvm_msi msi = {};
  msi.address_lo = 0xFEE00000 | (request.destination & 0xFF) << 12 |
                   (request.destination_mode == DestinationMode::kLogical ? 1U << 2 : 0);
  if (request.delivery == DeliveryMode::kLowestPriority) msi.address_lo |= 1U << 3;
  msi.address_hi = request.destination & 0xFFFFFF00;
  msi.data = request.vector | static_cast<std::uint32_t>(request.delivery) << 8 | 1U << 14 |
             (request.trigger == TriggerMode::kLevel ? 1U << 15 : 0);
  return msi;
}

/// "AuthenticAMD" and "HygonGenuine" in EBX: their hypercall instruction is VMMCALL.
bool is_amd() {
  const std::uint32_t vendor = host_cpuid(0).ebx;
  return vendor == 0x68747541 || vendor == 0x6F677948;
}

/// Whether guests of this table find the hypervisor interface ("Hv#1", TLFS 2.4.2); the kernel serves it only to those.
bool has_hypervisor_interface(const CpuidTable& cpuid) { return cpuid.query(0x40000001, 0).eax == 0x31237648; }

Result<void> enable(int vm, std::uint32_t capability, std::string_view name, std::uint64_t argument) {
  kvm_enable_cap request = {};
  request.cap = capability;
  request.args[0] = argument;
  BYGONE_CHECK(kernel_call(vm, KVM_ENABLE_CAP, name, &request));
  return {};
}

}  // namespace

Result<std::unique_ptr<KvmPartition>> KvmPartition::create(const Device& device, PartitionOptions options) {
  if (options.memory == nullptr || options.vcpu_count == 0 || options.vcpu_count > 64) {
    return fail(ErrorCode::kInvalidArgument, "a partition needs memory and 1 to 64 processors, not {}",
                options.vcpu_count);
  }
  BYGONE_ASSIGN(const int vm, kernel_call(device.fd(), KVM_CREATE_VM, "KVM_CREATE_VM"));
  std::unique_ptr<KvmPartition> partition(new KvmPartition(UniqueFd(vm), device, std::move(options)));
  if (has_hypervisor_interface(partition->options_.cpuid)) {
    const FacilitySet active = (partition->options_.facilities & kernel_facilities(device)).consistent();
    if (!active.empty()) partition->facilities_ = std::make_unique<KvmFacilities>(*partition, active);
  }
  BYGONE_CHECK(partition->set_real_mode_pages());
  BYGONE_CHECK(partition->map_memory(0));
  BYGONE_CHECK(partition->set_up_interrupts());
  for (std::uint32_t i = 0; i < partition->options_.vcpu_count; ++i) {
    BYGONE_ASSIGN(auto vcpu, KvmVcpu::create(device, *partition, VpIndex{i}));
    partition->vcpus_.push_back(std::move(vcpu));
  }
  partition->posted_writes_.start(partition->vcpus_[0]->area());
  BYGONE_CHECK(partition->set_up_msr_filter());
  BYGONE_ASSIGN(const int khz, kernel_call(partition->vcpus_[0]->fd(), KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ"));
  partition->tsc_frequency_ = static_cast<std::uint64_t>(khz) * 1000;
  return partition;
}

KvmPartition::KvmPartition(UniqueFd vm, const Device& device, PartitionOptions options)
    : vm_(std::move(vm)), options_(std::move(options)), routes_(vm_.get(), options_.vcpu_count),
      posted_writes_(vm_.get(), device, options_.posted, options_.log) {}

KvmPartition::~KvmPartition() = default;

Result<void> KvmPartition::set_real_mode_pages() {
  std::uint64_t identity = kIdentityMapAddress;
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR", &identity));
  BYGONE_CHECK(kernel_call(fd(), KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR", kTssAddress));
  return {};
}

Result<void> KvmPartition::map_memory(std::uint32_t flags) {
  std::uint32_t number = 0;
  for (const memory::Slot& slot : options_.memory->slots()) {
    kvm_userspace_memory_region region = {};
    region.slot = number++;
    region.flags = flags;
    region.guest_phys_addr = slot.base.value;
    region.memory_size = slot.size;
    region.userspace_addr = reinterpret_cast<std::uintptr_t>(slot.host);
    auto mapped = kernel_call(fd(), KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", &region);
    if (!mapped) {
      return std::unexpected(std::move(mapped).error().within(
          fmt::format("giving {} MiB of RAM at {:#x} to the guest", slot.size >> 20, slot.base.value)));
    }
  }
  return {};
}

void KvmPartition::stop_dirty_log() {
  if (auto stopped = map_memory(0); !stopped) options_.log.warning("ending the dirty log: {}", stopped.error().text());
}

Result<void> KvmPartition::take_dirty_pages(memory::PageSet& pages) {
  std::vector<std::uint64_t> words;
  for (std::size_t slot = 0; slot < options_.memory->slots().size(); ++slot) {
    const std::span<std::uint64_t> into = pages.words(slot);
    words.assign(into.size(), 0);
    kvm_dirty_log request = {};
    request.slot = static_cast<std::uint32_t>(slot);
    request.dirty_bitmap = words.data();
    BYGONE_CHECK(kernel_call(fd(), KVM_GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG", &request));
    for (std::size_t i = 0; i < words.size(); ++i) into[i] |= words[i];
  }
  return {};
}

Result<void> KvmPartition::set_up_interrupts() {
  BYGONE_CHECK(enable(fd(), KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP", kIoApicPins));
  // Destinations are 32 bits wide, and 0xFF is a processor and not a broadcast in x2APIC mode.
  return enable(fd(), KVM_CAP_X2APIC_API, "KVM_CAP_X2APIC_API",
                KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
}

Result<void> KvmPartition::set_up_msr_filter() {
  BYGONE_CHECK(enable(fd(), KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR",
                      KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_FILTER));
  std::array<std::uint8_t, kSyntheticMsrs / 8> allowed = {};  // a clear bit denies, and a denied access comes to us
  for (std::uint32_t i = 0; i < kSyntheticMsrs; ++i) {
    if (is_answered_by_kernel(kFirstSyntheticMsr + i, active_facilities())) allowed[i / 8] |= static_cast<std::uint8_t>(1U << i % 8);
  }
  kvm_msr_filter filter = {};
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  filter.ranges[0].flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
  filter.ranges[0].base = kFirstSyntheticMsr;
  filter.ranges[0].nmsrs = kSyntheticMsrs;
  filter.ranges[0].bitmap = allowed.data();
  // Writes that move the guest's TSC come to us, so that guest_tsc() follows at once.
  std::array<std::uint8_t, 8> none = {};  // the kernel reads whole words
  if (vcpus_[0]->has_tsc_offset()) {
    for (std::size_t i = 0; i < kTscMsrs.size(); ++i) {
      kvm_msr_filter_range& range = filter.ranges[1 + i];
      range.flags = KVM_MSR_FILTER_WRITE;
      range.base = kTscMsrs[i];
      range.nmsrs = 1;
      range.bitmap = none.data();
    }
  }
  BYGONE_CHECK(kernel_call(fd(), KVM_X86_SET_MSR_FILTER, "KVM_X86_SET_MSR_FILTER", &filter));
  return {};
}

Vcpu& KvmPartition::vcpu(VpIndex index) { return *vcpus_.at(index.value); }

void KvmPartition::request_interrupt(const InterruptRequest& request) {
  kvm_msi msi = to_msi(request);
  if (request.trigger == TriggerMode::kLevel) {
    if (auto watched = routes_.watch_level(msi); !watched) {
      options_.log.error("watching level interrupt {:#x}: {}", request.vector, watched.error().text());
    }
  }
  // 0 means that no processor took it, as when none is enabled: the message is lost on real hardware too.
  if (auto sent = kernel_call(fd(), KVM_SIGNAL_MSI, "KVM_SIGNAL_MSI", &msi); !sent) {
    options_.log.error("interrupt vector {:#x}: {}", request.vector, sent.error().text());
  }
}

Result<void> KvmPartition::watch_levels(VpIndex vp, const LocalApicState& apic) {
  constexpr std::size_t kInService = 0x10, kTriggerMode = 0x18, kRequested = 0x20;  // Intel SDM volume 3, 11.8.4
  for (std::uint32_t vector = 0; vector < 256; ++vector) {
    const auto has = [&](std::size_t first) { return (apic.registers[first + vector / 32] >> vector % 32 & 1) != 0; };
    if (!has(kTriggerMode) || !(has(kInService) || has(kRequested))) continue;
    const InterruptRequest request{.trigger = TriggerMode::kLevel, .vector = static_cast<std::uint8_t>(vector), .destination = vp.value};
    BYGONE_CHECK(routes_.watch_level(to_msi(request)));
  }
  return {};
}

void KvmPartition::request_synic_interrupt(VpIndex vp, std::uint8_t vector, bool /*auto_eoi*/) {
  request_interrupt({.vector = vector, .destination = vp.value});
}

std::uint64_t KvmPartition::guest_tsc() const { return __rdtsc() + vcpus_[0]->tsc_offset(); }

std::vector<std::byte> KvmPartition::hypercall_code() const {
  if (active_facilities().has(Facility::kHypercalls)) {  // VMCALL or VMMCALL; RET
    return {std::byte{0x0F}, std::byte{0x01}, is_amd() ? std::byte{0xD9} : std::byte{0xC1}, std::byte{0xC3}};
  }
  // DS: OUT imm8, AL; RET: the same bytes in every mode.
  return {std::byte{0x3E}, std::byte{0xE6}, std::byte{kHypercallPort}, std::byte{0xC3}};
}

void KvmPartition::flush_tlbs(std::span<const VpIndex> /*vps*/) {
  // Out of reach from user space: see Engine::can_flush_tlbs(). The guest's own INVLPG and IPIs do what they do on hardware.
}

std::string KvmPartition::inspect() const {
  std::string processors;
  for (const auto& vcpu : vcpus_) {
    std::string exits;
    for (std::size_t kind = 0; kind < kExitNames.size(); ++kind) {
      exits += fmt::format(R"({}"{}":{})", kind == 0 ? "" : ",", kExitNames[kind], vcpu->exits(kind));
    }
    processors += fmt::format(R"({}{{"exits":{{{}}}}})", processors.empty() ? "" : ",", exits);
  }
  return fmt::format(R"({{"engine":"kvm","tsc_hz":{},"facilities":"{}","posted_writes":{},"processors":[{}]}})", tsc_frequency_,
                     active_facilities().text(), posted_writes_.count(), processors);
}

}  // namespace bygone::cpu::kvm
