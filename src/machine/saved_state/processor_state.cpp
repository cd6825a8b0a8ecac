#include "machine/saved_state/processor_state.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "support/saved_fields.h"

namespace bygone::machine::saved_state {
namespace {

using nlohmann::json;

constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kMaximumMsrs = 512;
constexpr std::size_t kMaximumXsave = 64 << 10;
constexpr std::size_t kMaximumCpuidEntries = 1024;

json segment_to_json(const cpu::Segment& segment) { return {segment.base, segment.limit, segment.selector, segment.attributes}; }

/// Throws json exceptions; numbers out of range become others that the processor then refuses or the guest deserves.
cpu::Segment segment_from_json(const json& value) {
  return {value.at(0).get<std::uint64_t>(), value.at(1).get<std::uint32_t>(), value.at(2).get<std::uint16_t>(), value.at(3).get<std::uint32_t>()};
}

json table_to_json(const cpu::TableRegister& table) { return {table.base, table.limit}; }
cpu::TableRegister table_from_json(const json& value) { return {value.at(0).get<std::uint64_t>(), value.at(1).get<std::uint16_t>()}; }

json system_to_json(const cpu::SystemRegisters& system) {
  json segments = json::array();
  for (const cpu::Segment& segment : system.segments) segments.push_back(segment_to_json(segment));
  return {{"segments", std::move(segments)},
          {"task", segment_to_json(system.task)},
          {"ldt", segment_to_json(system.local_descriptor_table)},
          {"gdt", table_to_json(system.gdt)},
          {"idt", table_to_json(system.idt)},
          {"cr", {system.cr0, system.cr2, system.cr3, system.cr4, system.cr8}},
          {"efer", system.efer},
          {"apic_base", system.apic_base},
          {"xcr0", system.xcr0}};
}

cpu::SystemRegisters system_from_json(const json& value) {
  cpu::SystemRegisters system;
  for (std::size_t i = 0; i < system.segments.size(); ++i) system.segments[i] = segment_from_json(value.at("segments").at(i));
  system.task = segment_from_json(value.at("task"));
  system.local_descriptor_table = segment_from_json(value.at("ldt"));
  system.gdt = table_from_json(value.at("gdt"));
  system.idt = table_from_json(value.at("idt"));
  std::size_t next = 0;
  for (std::uint64_t* control : {&system.cr0, &system.cr2, &system.cr3, &system.cr4, &system.cr8}) {
    *control = value.at("cr").at(next++).get<std::uint64_t>();
  }
  system.efer = value.at("efer").get<std::uint64_t>();
  system.apic_base = value.at("apic_base").get<std::uint64_t>();
  system.xcr0 = value.at("xcr0").get<std::uint64_t>();
  return system;
}

json events_to_json(const cpu::PendingEvents& events) {
  json state = {{"pending_nmis", events.pending_nmis},
                {"nmi_masked", events.nmi_masked},
                {"interrupt_shadow", events.interrupt_shadow},
                {"activity", static_cast<unsigned>(events.activity)}};
  if (events.has_exception) state["exception"] = events.exception_vector;
  if (events.has_exception && events.has_error_code) state["error_code"] = events.error_code;
  if (events.interrupt_vector) state["interrupt"] = *events.interrupt_vector;
  return state;
}

cpu::PendingEvents events_from_json(const json& value) {
  cpu::PendingEvents events;
  const auto pending_nmis = value.at("pending_nmis").get<std::uint64_t>();
  if (pending_nmis > 2) throw json::other_error::create(501, "pending_nmis", &value);
  events.pending_nmis = static_cast<std::uint8_t>(pending_nmis);
  events.nmi_masked = value.at("nmi_masked").get<bool>();
  events.interrupt_shadow = value.at("interrupt_shadow").get<bool>();
  const auto activity = value.at("activity").get<std::uint64_t>();
  if (activity > static_cast<std::uint64_t>(cpu::ActivityState::kWaitForSipi)) throw json::other_error::create(501, "activity", &value);
  events.activity = static_cast<cpu::ActivityState>(activity);
  events.has_exception = value.contains("exception");
  if (events.has_exception) events.exception_vector = value.at("exception").get<std::uint8_t>();
  events.has_error_code = value.contains("error_code");
  if (events.has_error_code) events.error_code = value.at("error_code").get<std::uint32_t>();
  if (value.contains("interrupt")) events.interrupt_vector = value.at("interrupt").get<std::uint8_t>();
  return events;
}

cpu::VcpuState read_processor(const json& value) {
  cpu::VcpuState state;
  const json& general = value.at("general");
  for (std::size_t i = 0; i < state.general.gpr.size(); ++i) state.general.gpr[i] = general.at(i).get<std::uint64_t>();
  state.general.rip = value.at("rip").get<std::uint64_t>();
  state.general.rflags = value.at("rflags").get<std::uint64_t>();
  state.system = system_from_json(value.at("system"));
  const json& debug = value.at("debug");
  for (std::size_t i = 0; i < state.debug.dr.size(); ++i) state.debug.dr[i] = debug.at(i).get<std::uint64_t>();
  state.debug.dr6 = debug.at(4).get<std::uint64_t>();
  state.debug.dr7 = debug.at(5).get<std::uint64_t>();
  const auto& xsave = value.at("xsave").get_binary();
  if (xsave.size() > kMaximumXsave) throw json::other_error::create(501, "xsave", &value);
  const auto* bytes = reinterpret_cast<const std::byte*>(xsave.data());
  state.extended.xsave.assign(bytes, bytes + xsave.size());
  const json& msrs = value.at("msrs");
  if (!msrs.is_array() || msrs.size() > kMaximumMsrs) throw json::other_error::create(501, "msrs", &value);
  for (const json& msr : msrs) state.msrs.push_back({msr.at(0).get<std::uint32_t>(), msr.at(1).get<std::uint64_t>()});
  const json& apic = value.at("local_apic");
  for (std::size_t i = 0; i < state.local_apic.registers.size(); ++i) state.local_apic.registers[i] = apic.at(i).get<std::uint32_t>();
  state.events = events_from_json(value.at("events"));
  return state;
}

struct Feature {
  std::uint32_t leaf, subleaf;
  std::uint32_t cpu::CpuidResult::*word;
  std::uint32_t ignored;  ///< bits that are advice about speed, describe the machine or follow the guest's own settings
  std::string_view name;
};

constexpr std::uint32_t bit(unsigned number) { return 1U << number; }

// Words whose bits are promises to software (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E). What is ignored may
// differ: ERMS and fast short REP MOVSB are advice; OSXSAVE and the APIC bit follow registers; the hypervisor bit is ours.
const std::array kPromises = {
    Feature{1, 0, &cpu::CpuidResult::ecx, bit(27) | bit(31), "leaf 1 ECX"},
    Feature{1, 0, &cpu::CpuidResult::edx, bit(9) | bit(28), "leaf 1 EDX"},
    Feature{7, 0, &cpu::CpuidResult::ebx, bit(9), "leaf 7 EBX"},
    Feature{7, 0, &cpu::CpuidResult::ecx, 0, "leaf 7 ECX"},
    Feature{7, 0, &cpu::CpuidResult::edx, bit(4), "leaf 7 EDX"},
    Feature{7, 1, &cpu::CpuidResult::eax, 0, "leaf 7.1 EAX"},
    Feature{0xD, 0, &cpu::CpuidResult::eax, 0, "leaf 0xD EAX"},
    Feature{0xD, 1, &cpu::CpuidResult::eax, 0, "leaf 0xD.1 EAX"},
    Feature{0x80000001, 0, &cpu::CpuidResult::ecx, bit(1), "leaf 0x80000001 ECX"},
    Feature{0x80000001, 0, &cpu::CpuidResult::edx, bit(9), "leaf 0x80000001 EDX"},
};

}  // namespace

json processor_to_json(const cpu::VcpuState& state) {
  json debug = json(state.debug.dr);
  debug.push_back(state.debug.dr6);
  debug.push_back(state.debug.dr7);
  json msrs = json::array();
  for (const cpu::MsrValue& msr : state.msrs) msrs.push_back({msr.index, msr.value});
  const auto* xsave = reinterpret_cast<const std::uint8_t*>(state.extended.xsave.data());
  return {{"version", kVersion},
          {"general", state.general.gpr},
          {"rip", state.general.rip},
          {"rflags", state.general.rflags},
          {"system", system_to_json(state.system)},
          {"debug", std::move(debug)},
          {"xsave", json::binary({xsave, xsave + state.extended.xsave.size()})},
          {"msrs", std::move(msrs)},
          {"local_apic", state.local_apic.registers},
          {"events", events_to_json(state.events)}};
}

Result<cpu::VcpuState> processor_from_json(const json& value) {
  SavedFields fields(value, "a processor", kVersion);
  BYGONE_CHECK(fields.finish());
  try {
    return read_processor(value);
  } catch (const json::exception& error) {
    return fail(ErrorCode::kCorrupt, "saved state of a processor: {}", error.what());
  }
}

json cpuid_to_json(const cpu::CpuidTable& table) {
  json entries = json::array();
  for (const cpu::CpuidEntry& entry : table.entries()) {
    entries.push_back({entry.leaf, entry.subleaf ? json(*entry.subleaf) : json(), entry.result.eax, entry.result.ebx, entry.result.ecx, entry.result.edx});
  }
  return entries;
}

Result<cpu::CpuidTable> cpuid_from_json(const json& value) {
  cpu::CpuidTable table;
  try {
    if (!value.is_array() || value.size() > kMaximumCpuidEntries) return fail(ErrorCode::kCorrupt, "the saved CPUID table is no table");
    for (const json& item : value) {
      const auto word = [&](std::size_t index) { return item.at(index).get<std::uint32_t>(); };
      cpu::CpuidEntry entry{word(0), std::nullopt, {word(2), word(3), word(4), word(5)}};
      if (!item.at(1).is_null()) entry.subleaf = word(1);
      table.set(entry);
    }
  } catch (const json::exception& error) {
    return fail(ErrorCode::kCorrupt, "the saved CPUID table: {}", error.what());
  }
  return table;
}

Result<void> check_processor(const cpu::CpuidTable& saved, const cpu::CpuidTable& offered) {
  const auto refuse = [](std::string why) {
    return std::unexpected(Error{ErrorCode::kUnsupported, std::move(why),
                                 "Resume it on the engine and a processor like those it was saved on, or start it afresh"});
  };
  const cpu::CpuidResult was = saved.query(0, 0), is = offered.query(0, 0);
  if (was.ebx != is.ebx || was.ecx != is.ecx || was.edx != is.edx) return refuse("the machine was saved on a processor of another vendor");
  std::string missing;
  for (const Feature& feature : kPromises) {
    const std::uint32_t lacks = saved.query(feature.leaf, feature.subleaf).*feature.word & ~(offered.query(feature.leaf, feature.subleaf).*feature.word) & ~feature.ignored;
    if (lacks != 0) missing += fmt::format("{}{} {:#x}", missing.empty() ? "" : ", ", feature.name, lacks);
  }
  if (!missing.empty()) return refuse("the machine was saved on a processor with features that this one lacks: " + missing);
  for (std::uint32_t component = 2; component < 32; ++component) {
    const cpu::CpuidResult before = saved.query(0xD, component), now = offered.query(0xD, component);
    if (before.eax != 0 && (before.eax != now.eax || before.ebx != now.ebx)) {
      return refuse(fmt::format("the machine was saved on a processor that lays its extended state out differently (component {})", component));
    }
  }
  return {};
}

}  // namespace bygone::machine::saved_state
