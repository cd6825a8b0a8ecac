// A machine at work: exits, resets, its end.
#include "firmware/linux/loader.h"
#include "firmware/uefi/image.h"
#include "machine/gen2/parts.h"

namespace bygone::machine::gen2 {
namespace {

// Registers of AMD processors that Linux touches without asking (AMD BKDG family 10h, 3.3): SYSCFG and NB_CFG1. They read as
// zero and writes vanish, as under other hypervisors.
constexpr std::uint32_t kAmdSystemConfiguration = 0xC0010010, kAmdNorthBridgeConfiguration = 0xC001001F;
constexpr std::uint32_t kCpuidAddressSizes = 0x80000008;

constexpr bool is_silent_msr(std::uint32_t index) {
  return index == kAmdSystemConfiguration || index == kAmdNorthBridgeConfiguration;
}

}  // namespace

Result<void> Machine::Parts::load_boot_state() {
  BYGONE_ASSIGN(const firmware::EntryState entry, place_boot_image(memory, boot_image, acpi_machine(), system_id));
  if (!boot_image.is_firmware) BYGONE_CHECK(generation->place({firmware::kDirectBootGenerationId}));
  const std::array<AddressRange, 2> windows{kLowGap, layout.high_mmio};
  const std::vector<cpu::MsrValue> memory_types = firmware::memory_types(windows, cpuid.query(kCpuidAddressSizes, 0).eax & 0xFF);
  for (std::uint32_t i = 0; i < options.processors; ++i) {
    cpu::Vcpu& processor = partition->vcpu({i});
    BYGONE_CHECK(processor.reset());
    BYGONE_ASSIGN(cpu::VcpuState state, processor.save_state());
    state.msrs = memory_types;  // and no others: the counters run on
    if (i == 0) {
      state.general = entry.general;
      state.system = entry.system;
      state.events.activity = cpu::ActivityState::kRunning;
    }
    BYGONE_CHECK(processor.restore_state(state));
  }
  return {};
}

bool Machine::Parts::handle_exit(cpu::VpIndex vp, cpu::Exit& exit) {
  if (auto* port = std::get_if<cpu::PortExit>(&exit)) {
    ports.handle(*port);
  } else if (auto* access = std::get_if<cpu::MmioExit>(&exit)) {
    mmio.handle(*access);
  } else if (auto* msr = std::get_if<cpu::MsrExit>(&exit)) {
    answer_msr(vp, *msr);
  } else if (auto* call = std::get_if<cpu::HypercallExit>(&exit)) {
    hypervisor->handle_hypercall(vp, *call);
  } else if (const auto* eoi = std::get_if<cpu::IoApicEoiExit>(&exit)) {
    io_apic->end_of_interrupt(eoi->vector);
  } else if (std::holds_alternative<cpu::DebugExit>(exit)) {
    if (!debugger) return true;
    runner->request_pause();
    debugger->report_stop(vp);
    return false;
  } else if (std::holds_alternative<cpu::ShutdownExit>(exit)) {
    end({MachineEnd::Reason::kCrashed, fmt::format("processor {} stopped with a triple fault", vp.value)});
    return false;
  } else if (const auto* broken = std::get_if<cpu::UnrecoverableExit>(&exit)) {
    end({MachineEnd::Reason::kEngineFailed, broken->dump});
    return false;
  }
  return true;
}

void Machine::Parts::answer_msr(cpu::VpIndex vp, cpu::MsrExit& exit) {
  if (exit.is_write ? hypervisor->write_msr(vp, exit) : hypervisor->read_msr(vp, exit)) return;
  if (is_silent_msr(exit.index)) {
    exit.value = 0;
    return;
  }
  exit.fault = true;
  log.debug("the guest {} unknown MSR {:#x}", exit.is_write ? "wrote" : "read", exit.index);
}

void Machine::Parts::start_loops() {
  if (sockets) sockets_thread = std::thread([this] { sockets_loop->run(); });
  storage_thread = std::thread([this] { storage_loop->run(); });
  for (const auto& network : networks) network->start();
  loop_thread = std::thread([this] { loop->run(); });
}

void Machine::Parts::stop_time() {
  timers.pause();
  hypervisor->pause();
}

void Machine::Parts::start_time() {
  hypervisor->resume();
  timers.resume();
}

void Machine::Parts::report_crash(const hyperv::CrashReport& report) {
  std::string record = fmt::format("processor {} reports {:#x}", report.vp.value, fmt::join(report.parameters, " "));
  if (!report.message.empty()) record += ": " + report.message;
  log.error("the guest crashed: {}", record);
  const std::lock_guard lock(end_mutex);
  crash_record = std::move(record);
}

void Machine::Parts::request_reset() {
  runner->request_pause();
  std::unique_lock lock(end_mutex);
  if (options.ends_after_crash && !crash_record.empty()) {
    std::string record = crash_record;
    lock.unlock();
    return end({MachineEnd::Reason::kCrashed, std::move(record)});
  }
  reset_requested = true;
  control_changed.notify_all();
}

void Machine::Parts::serve_control() {
  for (;;) {
    {
      std::unique_lock lock(end_mutex);
      control_changed.wait(lock, [this] { return reset_requested || machine_end; });
      if (machine_end) return;
      reset_requested = false;
    }
    if (auto outcome = reset(); !outcome) end({MachineEnd::Reason::kEngineFailed, outcome.error().text()});
  }
}

Result<void> Machine::Parts::reset() {
  const std::lock_guard lock(control_mutex);
  if (has_ended()) return {};
  runner->pause();
  stop_time();
  bus->reset();
  hypervisor->reset();
  for (const SavedPart& part : saved_parts()) part.part->reset();
  BYGONE_CHECK(load_boot_state());
  start_time();
  runner->resume();
  return {};
}

void Machine::Parts::end(MachineEnd how) {
  if (runner) runner->request_pause();  // a machine that could not be put together has none
  const std::lock_guard lock(end_mutex);
  if (!machine_end) machine_end = std::move(how);
  ended.notify_all();
  control_changed.notify_all();
}

bool Machine::Parts::has_ended() {
  const std::lock_guard lock(end_mutex);
  return machine_end.has_value();
}

nlohmann::json Machine::Parts::inspect() {
  nlohmann::json tree = {
      {"memory_bytes", options.memory_bytes},
      {"processors", options.processors},
      {"running", !runner->is_paused()},
      {"cpu", nlohmann::json::parse(partition->inspect(), nullptr, false)},
      {"hypervisor", hypervisor->inspect()},
      {"bus", bus->inspect()},
  };
  {
    const std::lock_guard lock(end_mutex);
    if (!crash_record.empty()) tree["crash"] = crash_record;
  }
  if (sockets) tree["sockets"] = sockets->inspect();
  for (const SavedPart& part : saved_parts()) tree[std::string(part.name)] = part.part->inspect();
  return tree;
}

}  // namespace bygone::machine::gen2
