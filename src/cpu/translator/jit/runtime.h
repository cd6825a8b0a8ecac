// What translated code calls while guest registers are live. Everything here is compiled with general registers only, so that
// the guest's vector and x87 registers stay where they are; nothing here may call the C library.
//
// Threading: one vCPU's thread.
#pragma once

#include <cstdint>

#include "cpu/translator/state.h"

namespace bygone::cpu::translator::jit {

/// A memory access missed the TLB: Word::kSite names it, `address` is its linear address. Fills the TLB and returns the host
/// address to go on at: the access again, or a way out with rip set.
const void* runtime_fill(VcpuBlock* block, std::uint64_t address);
/// The same, of an access whose page slot changes too often: takes it from the access.
const void* runtime_give_up_slot(VcpuBlock* block, std::uint64_t address);
/// A direct exit is taken for the first time: Word::kLink names it. Links it.
const void* runtime_link(VcpuBlock* block, std::uint64_t unused);
/// An indirect jump's target is not in the jump table.
const void* runtime_find(VcpuBlock* block, std::uint64_t target);
/// A string instruction: Word::kSite holds a StringOperation; registers are in the block. Returns Word::kResume or a way out.
const void* runtime_string(VcpuBlock* block, std::uint64_t unused);

/// SYSCALL, SYSRET or IRETQ: Word::kSite holds which. Goes on in the other ring, or leaves with nothing changed.
const void* runtime_system(VcpuBlock* block, std::uint64_t unused);

}  // namespace bygone::cpu::translator::jit
