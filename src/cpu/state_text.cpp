#include "cpu/state_text.h"

#include <fmt/format.h>

namespace bygone::cpu {

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
  const Segment& cs = registers.segments[static_cast<std::size_t>(SegmentName::kCs)];
  return fmt::format("cs={:04x} base={:x} attributes={:x} cr0={:x} cr2={:x} cr3={:x} cr4={:x} efer={:x}\n", cs.selector, cs.base,
                     cs.attributes, registers.cr0, registers.cr2, registers.cr3, registers.cr4, registers.efer);
}

}  // namespace bygone::cpu
