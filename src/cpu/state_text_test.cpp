#include "cpu/state_text.h"

#include <gtest/gtest.h>

namespace bygone::cpu {
namespace {

TEST(StateText, a_whole_state_leaves_nothing_out) {
  VcpuState state;
  state.general.rip = 0xABCDEF;
  state.system.segments[static_cast<std::size_t>(SegmentName::kGs)].base = 0x1234500;
  state.system.xcr0 = 7;
  state.debug.dr[2] = 0x777;
  state.msrs = {{0xC0000082, 0xFFFF800000001000}};
  state.local_apic.registers[0x8] = 0x20;
  state.extended.xsave.assign(832, std::byte{0});
  state.extended.xsave[160] = std::byte{0xA5};
  state.events.activity = ActivityState::kHalted;
  state.events.interrupt_vector = 0xEC;
  state.events.pending_nmis = 2;
  const std::string text = to_text(state);
  for (const char* part : {"rip=0000000000abcdef", "gs=0000 base=0000000001234500", "xcr0=7", "dr2=777",
                           "msr c0000082=ffff800000001000", "080=00000020", "xsave: 832 bytes", "0a0: a5", "activity: halted",
                           "interrupt ec", "NMIs pending: 2"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
}

}  // namespace
}  // namespace bygone::cpu
