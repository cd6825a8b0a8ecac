#include "cpu/state_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

namespace bygone::cpu {
namespace {

std::string to_text(std::string_view name, const Segment& segment) {
  return fmt::format("{}={:04x} base={:016x} limit={:08x} attributes={:05x}\n", name, segment.selector, segment.base, segment.limit,
                     segment.attributes);
}

std::string to_text(const DebugRegisters& debug) {
  return fmt::format("dr0={:x} dr1={:x} dr2={:x} dr3={:x} dr6={:x} dr7={:x}\n", debug.dr[0], debug.dr[1], debug.dr[2], debug.dr[3],
                     debug.dr6, debug.dr7);
}

/// The image as it is, rows of 32 bytes, those of zeros left out.
std::string to_text(const ExtendedState& extended) {
  constexpr std::size_t kRow = 32;
  std::string text = fmt::format("xsave: {} bytes\n", extended.xsave.size());
  for (std::size_t at = 0; at < extended.xsave.size(); at += kRow) {
    const auto row = std::span(extended.xsave).subspan(at, std::min(kRow, extended.xsave.size() - at));
    if (std::ranges::all_of(row, [](std::byte byte) { return byte == std::byte{0}; })) continue;
    text += fmt::format("  {:03x}:", at);
    for (std::size_t i = 0; i < row.size(); ++i) text += fmt::format("{}{:02x}", i % 8 == 0 ? " " : "", std::to_integer<unsigned>(row[i]));
    text += '\n';
  }
  return text;
}

std::string to_text(const LocalApicState& apic) {
  std::string text = "local apic:";
  for (std::size_t i = 0; i < apic.registers.size(); ++i) {
    if (apic.registers[i] != 0) text += fmt::format(" {:03x}={:08x}", i * 16, apic.registers[i]);
  }
  return text + '\n';
}

std::string to_text(const PendingEvents& events) {
  constexpr std::array kActivities{"running", "halted", "waits for INIT", "waits for SIPI"};
  std::string text = fmt::format("activity: {}", kActivities.at(static_cast<std::size_t>(events.activity)));
  if (events.has_exception) {
    text += fmt::format("; exception {}", events.exception_vector);
    if (events.has_error_code) text += fmt::format(" with code {:x}", events.error_code);
  }
  if (events.interrupt_vector) text += fmt::format("; interrupt {:x}", *events.interrupt_vector);
  if (events.pending_nmis != 0) text += fmt::format("; NMIs pending: {}", events.pending_nmis);
  if (events.nmi_masked) text += "; NMIs masked";
  if (events.interrupt_shadow) text += "; interrupt shadow";
  return text + '\n';
}

}  // namespace

std::string to_text(const GeneralRegisters& registers) {
  constexpr std::array kNames{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                              "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  std::string text;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    text += fmt::format("{}={:016x}{}", kNames[i], registers.gpr[i], i % 4 == 3 ? '\n' : ' ');
  }
  return text + fmt::format("rip={:016x} rflags={:08x}\n", registers.rip, registers.rflags);
}

std::string to_text(const SystemRegisters& registers) {
  constexpr std::array kNames{"es", "cs", "ss", "ds", "fs", "gs"};
  std::string text;
  for (std::size_t i = 0; i < kNames.size(); ++i) text += to_text(kNames[i], registers.segments[i]);
  text += to_text("tr", registers.task) + to_text("ldt", registers.local_descriptor_table);
  return text + fmt::format("gdt={:x}+{:x} idt={:x}+{:x}\ncr0={:x} cr2={:x} cr3={:x} cr4={:x} cr8={:x} efer={:x} apic_base={:x} xcr0={:x}\n",
                            registers.gdt.base, registers.gdt.limit, registers.idt.base, registers.idt.limit, registers.cr0,
                            registers.cr2, registers.cr3, registers.cr4, registers.cr8, registers.efer, registers.apic_base, registers.xcr0);
}

std::string to_text(const VcpuState& state) {
  std::string text = to_text(state.general) + to_text(state.system) + to_text(state.debug) + to_text(state.events);
  for (std::size_t i = 0; i < state.msrs.size(); ++i) {
    const bool ends_line = i % 4 == 3 || i + 1 == state.msrs.size();
    text += fmt::format("msr {:x}={:x}{}", state.msrs[i].index, state.msrs[i].value, ends_line ? '\n' : ' ');
  }
  return text + to_text(state.local_apic) + to_text(state.extended);
}

}  // namespace bygone::cpu
