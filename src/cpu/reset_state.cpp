#include "cpu/reset_state.h"

namespace bygone::cpu {
namespace {

constexpr std::uint32_t kApicBaseAddress = 0xFEE00000;
constexpr std::uint64_t kApicBaseBootstrap = 1 << 8;  // IA32_APIC_BASE.BSP, SDM volume 3, 11.4.4
constexpr std::uint64_t kApicBaseEnabled = 1 << 11;

constexpr std::uint64_t kCr0Reset = 0x60000010;  // CD, NW, ET
constexpr std::uint64_t kPatReset = 0x0007040600070406;

// Types of descriptors, SDM volume 3, tables 3-1 and 3-2; S is bit 4, present bit 7.
constexpr std::uint32_t kDataReadWriteAccessed = 0x3 | 1U << 4 | kSegmentPresent;
constexpr std::uint32_t kCodeReadAccessed = 0xB | 1U << 4 | kSegmentPresent;
constexpr std::uint32_t kLdt = 0x2 | kSegmentPresent;
constexpr std::uint32_t kBusyTss = 0xB | kSegmentPresent;

// The local APIC's registers that are not zero after reset, SDM volume 3, 11.4.7.1; index is offset / 16.
constexpr std::size_t kApicId = 0x2;
constexpr std::size_t kApicVersion = 0x3;
constexpr std::size_t kApicDestinationFormat = 0xE;
constexpr std::size_t kApicSpurious = 0xF;
constexpr std::size_t kApicFirstLvt = 0x32;
constexpr std::size_t kApicLastLvt = 0x37;
constexpr std::uint32_t kLvtMasked = 1 << 16;

LocalApicState reset_local_apic(VpIndex vp) {
  LocalApicState apic;
  apic.registers[kApicId] = vp.value << 24;
  apic.registers[kApicVersion] = 0x50014;  // integrated, six local vectors
  apic.registers[kApicDestinationFormat] = 0xFFFFFFFF;
  apic.registers[kApicSpurious] = 0xFF;
  for (std::size_t lvt = kApicFirstLvt; lvt <= kApicLastLvt; ++lvt) apic.registers[lvt] = kLvtMasked;
  return apic;
}

}  // namespace

VcpuState reset_state(VpIndex vp, const CpuidTable& cpuid) {
  VcpuState state;
  state.general[Gpr::kRdx] = cpuid.query(1, 0).eax;
  state.general.rip = 0xFFF0;
  state.general.rflags = 2;

  for (Segment& segment : state.system.segments) segment = {0, 0xFFFF, 0, kDataReadWriteAccessed};
  state.system.segments[static_cast<std::size_t>(SegmentName::kCs)] = {0xFFFF0000, 0xFFFF, 0xF000, kCodeReadAccessed};
  state.system.local_descriptor_table = {0, 0xFFFF, 0, kLdt};
  state.system.task = {0, 0xFFFF, 0, kBusyTss};
  state.system.gdt = {0, 0xFFFF};
  state.system.idt = {0, 0xFFFF};
  state.system.cr0 = kCr0Reset;
  state.system.apic_base = kApicBaseAddress | kApicBaseEnabled | (vp.value == 0 ? kApicBaseBootstrap : 0);
  state.msrs = {{0x277, kPatReset}};
  state.local_apic = reset_local_apic(vp);
  state.events.activity = vp.value == 0 ? ActivityState::kRunning : ActivityState::kWaitForInit;
  return state;
}

}  // namespace bygone::cpu
