#include "cpu/kvm/engine.h"

#include <utility>

#include "cpu/kvm/device.h"
#include "cpu/kvm/facilities.h"
#include "cpu/kvm/partition.h"
#include "cpu/kvm/probe.h"

namespace bygone::cpu::kvm {
namespace {

class KvmEngine final : public Engine {
 public:
  explicit KvmEngine(EngineOptions options) : options_(std::move(options)) {}

  [[nodiscard]] std::string_view name() const override { return "kvm"; }
  [[nodiscard]] EngineStatus probe() override { return kvm::probe(options_.device_path); }

  // KVM has no call for it. Its own flush hypercalls are among its facilities.
  [[nodiscard]] bool can_flush_tlbs() const override { return false; }

  // With APICv or AVIC the processor does it; without them each is an exit, which the assist page saves.
  [[nodiscard]] bool has_cheap_apic() const override { return processor_serves_apic(); }

  [[nodiscard]] FacilitySet facilities() override {
    const auto device = Device::open(options_.device_path);
    return device ? kernel_facilities(*device) : FacilitySet();
  }

  [[nodiscard]] Result<CpuidTable> supported_cpuid() override {
    BYGONE_ASSIGN(const Device device, Device::open(options_.device_path));
    return device.supported_cpuid();
  }

  [[nodiscard]] Result<std::unique_ptr<Partition>> create_partition(PartitionOptions partition_options) override {
    BYGONE_ASSIGN(const Device device, Device::open(options_.device_path));
    return KvmPartition::create(device, std::move(partition_options));
  }

 private:
  EngineOptions options_;
};

}  // namespace

std::unique_ptr<Engine> create_engine(EngineOptions options) { return std::make_unique<KvmEngine>(std::move(options)); }

}  // namespace bygone::cpu::kvm
