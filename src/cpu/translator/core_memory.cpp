// Memory and port accesses of the interpreter: the slow ways around the TLB, MMIO with its record of answers, segments' limits.
#include <algorithm>

#include "cpu/translator/core.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint64_t kPageMask = ~std::uint64_t{0xFFF};

bool is_canonical(std::uint64_t linear) {
  const auto top = static_cast<std::int64_t>(linear) >> 47;
  return top == 0 || top == -1;
}

/// Copies so that operands are moved whole: the C library writes short runs of a length that it does not know beforehand in pieces
/// that overlap, and another processor's write between two of them would be undone.
void copy_whole(std::uint8_t* to, const std::uint8_t* from, std::uint32_t size) {
  switch (size) {
    case 1: *to = *from; break;
    case 2: std::memcpy(to, from, 2); break;
    case 4: std::memcpy(to, from, 4); break;
    case 8: std::memcpy(to, from, 8); break;
    case 16: std::memcpy(to, from, 16); break;
    default: std::memcpy(to, from, size); break;
  }
}

}  // namespace

void Core::raise(std::uint8_t vector) {
  block_->fault = {vector, false, 0, 0};
  throw GuestFault{};
}

void Core::raise(std::uint8_t vector, std::uint32_t error_code) {
  block_->fault = {vector, true, error_code, 0};
  throw GuestFault{};
}

std::uint64_t Core::checked_linear(unsigned segment, std::uint64_t offset, std::uint32_t size, Access access) {
  const Segment& place = block_->segments[segment];
  const std::uint8_t fault = segment == static_cast<unsigned>(SegmentName::kSs) ? vector::kSs : vector::kGp;
  const std::uint32_t attributes = place.attributes;
  if (is_protected() && !is_virtual_8086()) {
    if ((attributes & kSegmentUnusable) != 0) raise(fault, 0);
    const bool code = (attributes & 8) != 0;
    if (access == Access::kWrite && (code || (attributes & 2) == 0)) raise(fault, 0);
    if (access == Access::kRead && code && (attributes & 2) == 0) raise(fault, 0);
  }
  const std::uint64_t last = offset + size - 1;
  const bool expand_down = (attributes & 0xC) == 4;
  if (expand_down) {
    const std::uint64_t top = (attributes & kSegmentDefaultBig) != 0 ? 0xFFFF'FFFF : 0xFFFF;
    if (offset <= place.limit || last > top) raise(fault, 0);
  } else if (last > place.limit) {
    raise(fault, 0);
  }
  return (place.base + offset) & 0xFFFF'FFFF;
}

MmuResult Core::look(std::uint64_t linear, Access access, std::uint32_t context) {
  const MmuResult place = mmu::lookup(*block_, linear, access, context);
  if (place.status == MmuStatus::kFault) throw GuestFault{};
  return place;
}

/// Notes the data breakpoints (SDM volume 3, 17.2.4) that an access touches; they trap after the instruction.
void Core::watch(std::uint64_t linear, std::uint32_t size, Access access) {
  constexpr std::array<std::uint64_t, 4> kLengths = {1, 2, 8, 4};
  for (unsigned i = 0; i < 4; ++i) {
    if (((block_->debug.dr7 >> (2 * i)) & 3) == 0) continue;
    const std::uint64_t kind = (block_->debug.dr7 >> (16 + 4 * i)) & 3;  // 1: writes, 3: reads and writes
    if (kind != 3 && !(kind == 1 && access == Access::kWrite)) continue;
    const std::uint64_t length = kLengths[(block_->debug.dr7 >> (18 + 4 * i)) & 3];
    const std::uint64_t base = block_->debug.dr[i] & ~(length - 1);
    if (linear < base + length && base < linear + size) watch_hits_ |= std::uint64_t{1} << i;
  }
}

void Core::copy_in(const MmuResult& place, std::uint8_t* into, std::uint32_t size) {
  if (place.status != MmuStatus::kMmio) {
    copy_whole(into, place.host, size);
    return;
  }
  for (std::uint32_t done = 0; done < size;) {
    const std::uint32_t left = size - done;
    const std::uint32_t piece = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const std::uint64_t value = mmio_read(place.physical + done, piece);
    std::memcpy(into + done, &value, piece);
    done += piece;
  }
}

void Core::copy_out(const MmuResult& place, const std::uint8_t* from, std::uint32_t size) {
  if (place.status == MmuStatus::kMmio) {
    for (std::uint32_t done = 0; done < size;) {
      const std::uint32_t left = size - done;
      const std::uint32_t piece = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
      std::uint64_t value = 0;
      std::memcpy(&value, from + done, piece);
      mmio_write(place.physical + done, value, piece);
      done += piece;
    }
    return;
  }
  copy_whole(place.host, from, size);
  if (place.status == MmuStatus::kCode) {
    const auto offset = static_cast<std::uint32_t>(place.physical & 0xFFF);
    shared_.code_pages->wrote(block_.get(), shared_.physical->find(place.physical).ram_page, offset, offset + size - 1);
  }
}

void Core::read_bytes(std::uint64_t linear, void* into, std::uint32_t size, std::uint32_t context) {
  if (block_->watches_data != 0) [[unlikely]] watch(linear, size, Access::kRead);
  auto* bytes = static_cast<std::uint8_t*>(into);
  const std::uint32_t first = std::min<std::uint32_t>(size, static_cast<std::uint32_t>(4096 - (linear & 0xFFF)));
  const MmuResult place = look(linear, Access::kRead, context);
  if (first == size) {
    copy_in(place, bytes, size);
    return;
  }
  std::uint64_t next = (linear & kPageMask) + 4096;
  if (!in_long_mode()) next &= 0xFFFF'FFFF;
  const MmuResult second = look(next, Access::kRead, context);
  copy_in(place, bytes, first);
  copy_in(second, bytes + first, size - first);
}

void Core::write_bytes(std::uint64_t linear, const void* from, std::uint32_t size, std::uint32_t context) {
  if (block_->watches_data != 0) [[unlikely]] watch(linear, size, Access::kWrite);
  const auto* bytes = static_cast<const std::uint8_t*>(from);
  const std::uint32_t first = std::min<std::uint32_t>(size, static_cast<std::uint32_t>(4096 - (linear & 0xFFF)));
  const MmuResult place = look(linear, Access::kWrite, context);
  if (first == size) {
    copy_out(place, bytes, size);
    return;
  }
  std::uint64_t next = (linear & kPageMask) + 4096;
  if (!in_long_mode()) next &= 0xFFFF'FFFF;
  const MmuResult second = look(next, Access::kWrite, context);
  copy_out(place, bytes, first);
  copy_out(second, bytes + first, size - first);
}

void Core::probe_write(std::uint64_t linear, std::uint32_t size, std::uint32_t context) {
  static_cast<void>(look(linear, Access::kWrite, context));
  const std::uint64_t last = linear + size - 1;
  if (((last ^ linear) & kPageMask) != 0) {
    static_cast<void>(look(in_long_mode() ? last : last & 0xFFFF'FFFF, Access::kWrite, context));
  }
}

std::uint8_t* Core::host_pointer(std::uint64_t linear, std::uint32_t size, Access access) {
  if (block_->watches_data != 0) [[unlikely]] watch(linear, size, access);
  const TlbEntry& entry = block_->tlb.contexts[block_->tlb_context].entries[tlb_index(linear)];
  const std::uint64_t tag = access == Access::kRead ? entry.read_tag : entry.write_tag;
  if (linear - tag < 4096 && (linear & 0xFFF) + size <= 4096) return entry.host + (linear - tag);
  if ((linear & 0xFFF) + size > 4096) return nullptr;
  const MmuResult place = look(linear, access, block_->tlb_context);
  return place.status == MmuStatus::kRam ? place.host : nullptr;
}

std::uint64_t Core::mmio_read(std::uint64_t physical, std::uint32_t size) {
  if (apic_ != nullptr) {
    if (const auto base = apic_->mmio_base(); base && physical - *base < 4096) {
      const auto offset = static_cast<std::uint32_t>(physical - *base);
      const std::uint64_t value = apic_->read_register(offset & ~15U);
      return (offset & 15) < 4 ? value >> (8 * (offset & 3)) : 0;
    }
  }
  if (answers_used_ < answers_count_) return answers_[answers_used_++].value;
  if (answers_count_ == answers_.size()) raise(vector::kGp, 0);
  MmioExit request;
  request.address = {physical};
  request.size = static_cast<std::uint8_t>(size);
  exit_ = request;
  leave();
}

void Core::mmio_write(std::uint64_t physical, std::uint64_t value, std::uint32_t size) {
  if (apic_ != nullptr) {
    if (const auto base = apic_->mmio_base(); base && physical - *base < 4096) {
      const auto offset = static_cast<std::uint32_t>(physical - *base);
      // A write may raise an exit later in the instruction that runs it again; registers take one write only.
      if (answers_used_ < answers_count_) {
        ++answers_used_;
        return;
      }
      if ((offset & 15) == 0) apic_->write_register(offset, static_cast<std::uint32_t>(value));
      if (answers_count_ < answers_.size()) {
        ++answers_count_;
        ++answers_used_;
      }
      return;
    }
  }
  if (answers_used_ < answers_count_) {
    ++answers_used_;
    return;
  }
  if (answers_count_ == answers_.size()) raise(vector::kGp, 0);
  MmioExit request;
  request.address = {physical};
  request.size = static_cast<std::uint8_t>(size);
  request.is_write = true;
  request.data = value;
  exit_ = request;
  leave();
}

std::uint32_t Core::port_read(std::uint16_t port, std::uint8_t size) {
  if (answers_used_ < answers_count_) return static_cast<std::uint32_t>(answers_[answers_used_++].value);
  port_data_.fill(std::byte{0xFF});
  PortExit request;
  request.port = port;
  request.size = size;
  request.data = std::span(port_data_).first(size);
  exit_ = request;
  leave();
}

void Core::port_write(std::uint16_t port, std::uint8_t size, std::uint32_t value) {
  if (answers_used_ < answers_count_) {
    ++answers_used_;
    return;
  }
  std::memcpy(port_data_.data(), &value, sizeof value);
  PortExit request;
  request.port = port;
  request.size = size;
  request.is_write = true;
  request.data = std::span(port_data_).first(size);
  exit_ = request;
  leave();
}

void Core::check_port(std::uint16_t port, std::uint8_t size) {
  if (is_real()) return;
  const unsigned iopl = (block_->rflags >> 12) & 3;
  if (block_->cpl <= iopl && !is_virtual_8086()) return;
  const Segment& task = block_->task;
  if ((task.attributes & kSegmentUnusable) != 0 || task.limit < 0x67) raise_gp();
  const std::uint64_t map = read_system<std::uint16_t>(task.base + 0x66) + std::uint64_t{port} / 8;
  if (map + 1 > task.limit) raise_gp();
  const std::uint32_t bits = read_system<std::uint16_t>(task.base + map) >> (port % 8);
  if ((bits & ((1U << size) - 1)) != 0) raise_gp();
}

void Core::complete_exit() {
  if (!exit_pending_) return;
  exit_pending_ = false;
  const auto record = [&](std::uint64_t value) {
    answers_used_ = 0;
    if (answers_count_ < answers_.size()) answers_[answers_count_++] = {value};
  };
  if (const auto* mmio = std::get_if<MmioExit>(&exit_)) {
    const std::uint64_t mask = mmio->size == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * mmio->size)) - 1;
    record(mmio->data & mask);
  } else if (const auto* port = std::get_if<PortExit>(&exit_)) {
    std::uint32_t value = 0;
    std::memcpy(&value, port_data_.data(), port->size);
    record(value);
  } else if (const auto* msr = std::get_if<MsrExit>(&exit_)) {
    if (msr->fault) {
      block_->fault = {vector::kGp, true, 0, 0};
      if (witness_ != nullptr) witness_->exit_faulted(*this);
      deliver_fault();
      return;
    }
    if (!msr->is_write) {
      gpr(Gpr::kRax) = msr->value & 0xFFFF'FFFF;
      gpr(Gpr::kRdx) = msr->value >> 32;
    }
    block_->rip = next_rip_;
    block_->interrupt_shadow = 0;
  } else if (const auto* call = std::get_if<HypercallExit>(&exit_)) {
    if (call->fault) {
      block_->fault = {vector::kUd, false, 0, 0};
      deliver_fault();
      return;
    }
    if (call->xmm_written) {
      for (std::size_t i = 0; i < call->xmm.size(); ++i) std::memcpy(block_->vector.zmm[i].data(), call->xmm[i].data(), 16);
    }
    if (call->is_long_mode) {
      gpr(Gpr::kRax) = call->result;
    } else {
      gpr(Gpr::kRax) = call->result & 0xFFFF'FFFF;
      gpr(Gpr::kRdx) = call->result >> 32;
    }
    block_->rip = next_rip_;
    block_->interrupt_shadow = 0;
  }
}

bool Core::finish_exit() {
  complete_exit();
  if (answers_count_ == 0) return true;
  return step() == StepResult::kDone;
}

void Core::push(std::uint64_t value, std::uint8_t size) {
  const std::uint64_t pointer = (block_->gpr[4] - size) & stack_mask();
  write_sized(linear_address(static_cast<unsigned>(SegmentName::kSs), pointer, size, Access::kWrite), value, size);
  set_stack_pointer(pointer);
}

std::uint64_t Core::peek(std::uint64_t depth, std::uint8_t size) {
  const std::uint64_t pointer = (block_->gpr[4] + depth) & stack_mask();
  return read_sized(linear_address(static_cast<unsigned>(SegmentName::kSs), pointer, size, Access::kRead), size);
}

std::uint64_t Core::pop(std::uint8_t size) {
  const std::uint64_t value = peek(0, size);
  set_stack_pointer(block_->gpr[4] + size);
  return value;
}

void Core::jump_near(std::uint64_t target, std::uint8_t operand_size) {
  if (is_64()) {
    if (!is_canonical(target)) raise_gp();
  } else {
    target &= operand_size == 2 ? 0xFFFF : 0xFFFF'FFFF;
    if (target > segment(SegmentName::kCs).limit) raise_gp();
  }
  next_rip_ = target;
}

}  // namespace bygone::cpu::translator
