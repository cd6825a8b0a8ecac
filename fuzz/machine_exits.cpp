// Links: bygone_machine bygone_cpu
// A guest that does what it likes with a whole machine: every port, memory-mapped register, MSR and hypercall with the real devices
// behind them, the bus and its channels included. The engine is one that runs no code: its processor leaves with what the input says.
// The devices work on their own threads, so a run is not the same twice; what it does must be harmless every time.
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "fuzz_input.h"
#include "cpu/cpuid.h"
#include "cpu/reset_state.h"
#include "disk/memory_block_device.h"
#include "firmware/linux/testing_kernel.h"
#include "machine/gen2/machine.h"
#include "spec/gen2/platform.h"
#include "spec/tlfs/hypercall.h"
#include "spec/tlfs/registers.h"
#include "spec/vmbus/messages.h"
#include "spec/vmbus/ring.h"
#include "support/file.h"

namespace {

using namespace bygone;
namespace gen2 = machine::gen2;
namespace platform = spec::gen2;
namespace tlfs = spec::tlfs;
namespace wire = spec::vmbus;
using cpu::Exit;
using tlfs::Msr;

constexpr std::uint64_t kInputPage = 0x200000, kMessagePage = 0x201000, kEventPage = 0x202000, kHypercallPage = 0x203000;
constexpr std::uint64_t kRings = 0x300000, kRingBytes = 0x4000;  // a channel: two pages each way
constexpr std::uint32_t kLastChannel = 16;

/// Turns the input into exits.
class Script {
 public:
  Script(FuzzInput input, memory::GuestMemory& memory) : input_(input), memory_(memory) {}

  /// The next thing that the guest does; at the input's end it powers off.
  Exit next() {
    if (!queued_.empty()) {
      Exit exit = queued_.back();
      queued_.pop_back();
      return exit;
    }
    if (input_.is_empty()) return port(platform::kPowerPorts.first + platform::kPm1ControlOffset, 2, true, 1U << 13);
    const std::uint8_t step = input_.take<std::uint8_t>();
    switch (step % 16) {
      case 0:
      case 1: return port(known_port(), static_cast<std::uint8_t>(1U << step / 16 % 3), step % 2 != 0, input_.take<std::uint32_t>());
      case 2: return port(input_.take<std::uint16_t>(), static_cast<std::uint8_t>(1U << step / 16 % 3), step >= 128, input_.take<std::uint32_t>());
      case 3: return string_port(step >= 128);
      case 4: return mmio(platform::kIoApicBase + input_.take<std::uint8_t>(), 4, step >= 128);
      case 5: return mmio(address(), static_cast<std::uint8_t>(1U << step / 16 % 4), step >= 128);
      case 6:
      case 7: return msr(tlfs::kFirstMsr + input_.take<std::uint16_t>() % 0x120U, step % 2 != 0, value());
      case 8: return msr(input_.take<std::uint32_t>(), step >= 128, value());
      case 9: return hypercall(input_.take<std::uint8_t>() | (std::uint64_t{input_.take<std::uint32_t>()} << 16 & 0xFFF0FFF000FF0000), value(), value());
      case 10: {
        std::array<std::byte, 64> bytes = {};
        const std::uint64_t where = address();
        input_.take_into(bytes.data(), 1 + step / 4);
        (void)memory_.write({where}, std::span(bytes).first(1 + step / 4));
        return cpu::InterruptedExit{};
      }
      case 11: return cpu::IoApicEoiExit{input_.take<std::uint8_t>()};
      case 12: return set_up();
      case 13: {
        std::array<std::byte, 240> body = {};
        const std::uint8_t size = input_.take<std::uint8_t>();
        input_.take_into(body.data(), std::min<std::size_t>(size, body.size()));
        return post_at(kInputPage, step >= 128 ? 4 : 1, std::span(body).first(std::min<std::size_t>(size, body.size())));
      }
      case 14: return open_channel(1 + input_.take<std::uint8_t>() % kLastChannel);
      default: return send_packet(1 + input_.take<std::uint8_t>() % kLastChannel);
    }
  }

 private:
  std::uint16_t known_port() {
    static constexpr platform::Ports kKnown[] = {platform::kHelperPorts, platform::kWatchdogPorts, platform::kRtcPorts,
                                                 platform::kCom1Ports, platform::kCom2Ports, platform::kPowerPorts};
    const platform::Ports& ports = kKnown[input_.take<std::uint8_t>() % std::size(kKnown)];
    return static_cast<std::uint16_t>(ports.first + input_.take<std::uint8_t>() % ports.count);
  }
  std::uint64_t value() {
    switch (input_.take<std::uint8_t>() % 4) {
      case 0: return input_.take<std::uint8_t>();
      case 1: return (kInputPage + (input_.take<std::uint8_t>() % 8ULL << 12)) | (input_.take<std::uint8_t>() & 3);
      case 2: return input_.take<std::uint32_t>();
      default: return input_.take<std::uint64_t>();
    }
  }
  std::uint64_t address() {
    switch (input_.take<std::uint8_t>() % 4) {
      case 0: return kInputPage + input_.take<std::uint16_t>() % 0x4000;
      case 1: return kRings + input_.take<std::uint32_t>() % (kRingBytes * (kLastChannel + 1));
      case 2: return 0xF8000000 + input_.take<std::uint32_t>() % 0x8000000;
      default: return input_.take<std::uint64_t>();
    }
  }

  Exit port(std::uint32_t number, std::uint8_t size, bool is_write, std::uint32_t written) {
    std::memcpy(data_.data(), &written, sizeof written);
    cpu::PortExit exit;
    exit.port = static_cast<std::uint16_t>(number);
    exit.size = size;
    exit.is_write = is_write;
    exit.data = std::span(data_).first(size);
    return exit;
  }
  Exit string_port(bool is_write) {
    const std::uint16_t number = known_port();
    const auto size = static_cast<std::uint8_t>(1U << input_.take<std::uint8_t>() % 3);
    const std::uint32_t count = 1 + input_.take<std::uint8_t>() % 64U;
    const std::size_t bytes = std::size_t{size} * count;
    input_.take_into(data_.data(), std::min<std::size_t>(16, bytes));
    cpu::PortExit exit;
    exit.port = number;
    exit.size = size;
    exit.is_write = is_write;
    exit.count = count;
    exit.data = std::span(data_).first(bytes);
    return exit;
  }
  Exit mmio(std::uint64_t where, std::uint8_t size, bool is_write) {
    cpu::MmioExit exit;
    exit.address = {where};
    exit.size = size;
    exit.is_write = is_write;
    exit.data = is_write ? input_.take<std::uint64_t>() : 0;
    return exit;
  }
  static Exit msr(std::uint32_t index, bool is_write, std::uint64_t value) {
    cpu::MsrExit exit;
    exit.index = index;
    exit.is_write = is_write;
    exit.value = is_write ? value : 0;
    return exit;
  }
  static Exit set(Msr index, std::uint64_t value) { return msr(static_cast<std::uint32_t>(index), true, value); }
  Exit hypercall(std::uint64_t control, std::uint64_t input, std::uint64_t output) {
    cpu::HypercallExit exit;
    exit.control = control;
    exit.input = input;
    exit.output = output;
    exit.xmm[0][0] = input_.take<std::uint32_t>();
    return exit;
  }

  // What every guest does first: without it little of the machine would be reached.
  Exit set_up() {
    wire::InitiateContact contact;
    contact.header.type = static_cast<std::uint32_t>(wire::MessageType::kInitiateContact);
    static constexpr wire::Version kVersions[] = {wire::Version::k5_3, wire::Version::k4_0, wire::Version::k2_4, wire::Version::k1_1, wire::Version::k6_0};
    contact.version = static_cast<std::uint32_t>(kVersions[input_.take<std::uint8_t>() % std::size(kVersions)]);
    contact.interrupt_page_or_target = std::uint64_t{2};
    connection_ = contact.version.value() >= static_cast<std::uint32_t>(wire::Version::k5_0) ? 4 : 1;
    wire::MessageHeader ask;
    ask.type = static_cast<std::uint32_t>(wire::MessageType::kRequestOffers);
    // The last is done first.
    queued_.push_back(post_at(kInputPage + 0x900, connection_, std::as_bytes(std::span(&ask, 1))));
    queued_.push_back(post_at(kInputPage + 0x800, connection_, std::as_bytes(std::span(&contact, 1))));
    queued_.push_back(set(Msr::kSynicControl, 1));
    queued_.push_back(set(static_cast<Msr>(static_cast<std::uint32_t>(Msr::kSint0) + 2), 0x60));
    queued_.push_back(set(Msr::kEventFlagsPage, kEventPage | 1));
    queued_.push_back(set(Msr::kMessagePage, kMessagePage | 1));
    queued_.push_back(set(Msr::kHypercall, kHypercallPage | 1));
    return set(Msr::kGuestOsId, 0x8100'0000'0000'0000);
  }

  void write_message(std::uint64_t at, std::uint32_t connection, std::span<const std::byte> body) {
    tlfs::PostMessageInput message = {};
    message.connection_id = connection;
    message.message_type = 1U;
    message.payload_bytes = static_cast<std::uint32_t>(body.size());
    std::memcpy(message.payload, body.data(), body.size());
    (void)memory_.write_object({at}, message);
  }
  Exit post_at(std::uint64_t at, std::uint32_t connection, std::span<const std::byte> body) {
    write_message(at, connection, body);
    (void)memory_.write_object({kMessagePage + 2 * 256}, std::uint32_t{0});  // as a guest that has read its message
    cpu::HypercallExit exit;
    exit.control = 0x5C;
    exit.input = at;
    return exit;
  }

  Exit open_channel(std::uint32_t channel) {
    struct Gpadl {
      wire::GpadlHeader head;
      le32 byte_count, byte_offset;
      std::array<le64, kRingBytes / memory::kPageSize> pages;
    } gpadl = {};
    gpadl.head.header.type = static_cast<std::uint32_t>(wire::MessageType::kGpadlHeader);
    gpadl.head.channel_id = channel;
    gpadl.head.gpadl = 0xE1E10U + channel;
    gpadl.head.range_bytes = static_cast<std::uint16_t>(8 + sizeof gpadl.pages);
    gpadl.head.range_count = std::uint16_t{1};
    gpadl.byte_count = static_cast<std::uint32_t>(kRingBytes);
    for (std::size_t i = 0; i < gpadl.pages.size(); ++i) gpadl.pages[i] = (ring_of(channel) >> 12) + i;
    wire::OpenChannel open = {};
    open.header.type = static_cast<std::uint32_t>(wire::MessageType::kOpenChannel);
    open.channel_id = channel;
    open.open_id = channel;
    open.ring_gpadl = gpadl.head.gpadl.value();
    open.downstream_page_offset = 2U;
    (void)memory_.fill({ring_of(channel)}, kRingBytes, std::byte{0});
    queued_.push_back(post_at(kInputPage + 0x400, connection_, std::as_bytes(std::span(&open, 1))));
    return post_at(kInputPage + 0x200, connection_, std::as_bytes(std::span(&gpadl, 1)));
  }
  /// A packet of the input's bytes in the channel's outgoing ring, where the guest is alone.
  Exit send_packet(std::uint32_t channel) {
    std::array<std::byte, 256> bytes = {};
    const std::size_t body = input_.take<std::uint8_t>() / 8 * std::size_t{8};
    wire::PacketDescriptor descriptor = {};
    descriptor.type = static_cast<std::uint16_t>(input_.take<std::uint8_t>() % 4 == 0 ? input_.take<std::uint16_t>() : 6);
    descriptor.data_offset8 = std::uint16_t{2};
    descriptor.length8 = static_cast<std::uint16_t>(2 + body / 8);
    descriptor.flags = std::uint16_t{1};
    descriptor.transaction_id = std::uint64_t{input_.take<std::uint16_t>()};
    input_.take_into(bytes.data(), std::min(body, bytes.size()));
    const std::uint64_t ring = ring_of(channel), data = ring + memory::kPageSize;
    auto at = memory_.read_object<std::uint32_t>({ring}).value_or(0) % static_cast<std::uint32_t>(memory::kPageSize);
    const auto put = [&](std::span<const std::byte> part) {
      for (const std::byte byte : part) {
        (void)memory_.write_object({data + at}, byte);
        at = (at + 1) % static_cast<std::uint32_t>(memory::kPageSize);
      }
    };
    put(std::as_bytes(std::span(&descriptor, 1)));
    put(std::span(bytes).first(std::min(body, bytes.size())));
    constexpr std::array<std::byte, 8> kPreviousIndices{};
    put(kPreviousIndices);
    (void)memory_.write_object({ring}, at);
    cpu::HypercallExit exit;
    exit.control = 0x1005D;  // signal event, fast
    exit.input = 0x2000U + channel;
    return exit;
  }
  static std::uint64_t ring_of(std::uint32_t channel) { return kRings + channel * kRingBytes; }

  FuzzInput input_;
  memory::GuestMemory& memory_;
  std::array<std::byte, 512> data_ = {};
  std::vector<Exit> queued_;
  std::uint32_t connection_ = 4;
};

/// The boot processor follows the script; others wait for ever.
class ScriptedVcpu final : public cpu::Vcpu {
 public:
  ScriptedVcpu(cpu::VpIndex index, Script* script, const cpu::CpuidTable& cpuid) : index_(index), script_(script), cpuid_(cpuid), state_(cpu::reset_state(index, cpuid)) {}
  [[nodiscard]] cpu::VpIndex index() const override { return index_; }
  [[nodiscard]] Result<Exit*> run() override {
    std::unique_lock lock(mutex_);
    if (script_ == nullptr) kicked_.wait(lock, [this] { return is_kicked_; });
    exit_ = std::exchange(is_kicked_, false) || script_ == nullptr ? Exit(cpu::InterruptedExit{}) : script_->next();
    return &exit_;
  }
  void kick() override {
    const std::lock_guard lock(mutex_);
    is_kicked_ = true;
    kicked_.notify_all();
  }
  [[nodiscard]] Result<cpu::VcpuState> save_state() override { return state_; }
  [[nodiscard]] Result<void> restore_state(const cpu::VcpuState& state) override {
    state_ = state;
    return {};
  }
  [[nodiscard]] Result<cpu::GeneralRegisters> general_registers() override { return state_.general; }
  [[nodiscard]] Result<void> set_general_registers(const cpu::GeneralRegisters&) override { return {}; }
  [[nodiscard]] Result<cpu::SystemRegisters> system_registers() override { return state_.system; }
  [[nodiscard]] Result<void> set_system_registers(const cpu::SystemRegisters&) override { return {}; }
  [[nodiscard]] Result<void> reset() override {
    state_ = cpu::reset_state(index_, cpuid_);
    return {};
  }
  [[nodiscard]] Result<void> inject_exception(std::uint8_t, std::optional<std::uint32_t>) override { return {}; }
  [[nodiscard]] Result<void> set_breakpoints(std::span<const std::uint64_t>, bool) override { return {}; }
  [[nodiscard]] Result<std::optional<memory::Gpa>> translate(std::uint64_t) override { return std::nullopt; }

 private:
  const cpu::VpIndex index_;
  Script* script_;
  const cpu::CpuidTable& cpuid_;
  cpu::VcpuState state_;
  std::mutex mutex_;
  std::condition_variable kicked_;
  bool is_kicked_ = false;
  Exit exit_;
};

class ScriptedPartition final : public cpu::Partition {
 public:
  ScriptedPartition(cpu::PartitionOptions options, FuzzInput input) : options_(std::move(options)), script_(input, *options_.memory) {
    for (std::uint32_t i = 0; i < options_.vcpu_count; ++i) {
      vcpus_.push_back(std::make_unique<ScriptedVcpu>(cpu::VpIndex{i}, i == 0 ? &script_ : nullptr, options_.cpuid));
    }
  }
  [[nodiscard]] cpu::Vcpu& vcpu(cpu::VpIndex index) override { return *vcpus_.at(index.value); }
  void request_interrupt(const cpu::InterruptRequest&) override {}
  void request_synic_interrupt(cpu::VpIndex, std::uint8_t, bool) override {}
  [[nodiscard]] bool supports_auto_eoi() const override { return true; }
  [[nodiscard]] std::uint64_t tsc_frequency() const override { return 1'000'000'000; }
  [[nodiscard]] std::uint64_t apic_timer_frequency() const override { return cpu::kLocalApicTimerFrequency; }
  [[nodiscard]] std::uint64_t guest_tsc() const override {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  }
  [[nodiscard]] std::vector<std::byte> hypercall_code() const override { return {std::byte{0xC3}}; }
  void flush_tlbs(std::span<const cpu::VpIndex>) override {}
  [[nodiscard]] Result<void> start_dirty_log() override { return {}; }
  void stop_dirty_log() override {}
  [[nodiscard]] Result<void> take_dirty_pages(memory::PageSet&) override { return {}; }
  [[nodiscard]] std::string inspect() const override { return "{}"; }

 private:
  cpu::PartitionOptions options_;
  Script script_;
  std::vector<std::unique_ptr<ScriptedVcpu>> vcpus_;
};

class ScriptedEngine final : public cpu::Engine {
 public:
  explicit ScriptedEngine(FuzzInput input) : input_(input) {}
  [[nodiscard]] std::string_view name() const override { return "scripted"; }
  [[nodiscard]] cpu::EngineStatus probe() override { return {}; }
  [[nodiscard]] Result<cpu::CpuidTable> supported_cpuid() override { return cpu::CpuidTable{}; }
  [[nodiscard]] Result<std::unique_ptr<cpu::Partition>> create_partition(cpu::PartitionOptions options) override {
    return std::make_unique<ScriptedPartition>(std::move(options), input_);
  }

 private:
  FuzzInput input_;
};

/// A file that the loader takes for a kernel; no instruction of it is run.
const std::filesystem::path& kernel() {
  static const std::filesystem::path path = [] {
    auto made = std::filesystem::temp_directory_path() / fmt::format("bygone-fuzz-kernel-{}", ::getpid());
    if (!replace_file(made, firmware::testing_kernel())) std::abort();
    static const struct Remover {
      std::filesystem::path path;
      ~Remover() { std::filesystem::remove(path); }
    } remover{made};
    return made;
  }();
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ScriptedEngine engine(FuzzInput(data, size));
  gen2::MachineOptions options;
  options.engine = &engine;
  options.processors = 2;
  options.memory_bytes = 32 << 20;
  options.enlightenments = "+tsc-invariant";
  options.boot = gen2::DirectBoot{kernel(), {}, ""};
  options.com1.kind = options.com2.kind = gen2::SerialOptions::Kind::kNull;
  options.disks.push_back({std::make_unique<disk::MemoryBlockDevice>(1 << 20), false});
  options.disks.push_back({nullptr, true});
  options.networks.emplace_back();
  options.ends_after_crash = true;
  auto machine = gen2::Machine::create(std::move(options));
  if (!machine) std::abort();
  if (!(*machine)->start()) std::abort();
  (void)(*machine)->wait();
  if ((*machine)->inspect().dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).empty()) std::abort();
  return 0;
}
