#include "hyperv/hypercalls.h"

#include <sched.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace bygone::hyperv {

using cpu::VpIndex;
using spec::tlfs::HvStatus;
using spec::tlfs::HypercallCode;

namespace {
namespace tlfs = spec::tlfs;
constexpr std::uint32_t kBankBits = 64;
}  // namespace

struct Hypercalls::Call {
  VpIndex vp;
  tlfs::HypercallControl control;
  memory::Gpa input;
  memory::Gpa output;
  std::array<std::byte, tlfs::kXmmFastInputBytes> registers = {};  // the input of a fast call
  std::size_t register_bytes = 0;
  std::uint32_t reps_completed = 0;
};

struct Hypercalls::Description {
  HypercallCode code;
  const char* name;
  HvStatus (Hypercalls::*handle)(Call&);
  std::uint16_t input_bytes;  // the fixed part
  std::uint16_t rep_input_bytes;
  std::uint16_t rep_output_bytes;
  bool is_rep;
  bool has_variable_header;
};

const Hypercalls::Description Hypercalls::kTable[] = {
    {HypercallCode::kFlushVirtualAddressSpace, "flush_space", &Hypercalls::flush, sizeof(tlfs::FlushInput), 0, 0, false, false},
    {HypercallCode::kFlushVirtualAddressList, "flush_list", &Hypercalls::flush, sizeof(tlfs::FlushInput), 8, 0, true, false},
    {HypercallCode::kNotifyLongSpinWait, "notify_long_spin", &Hypercalls::notify_long_spin, 8, 0, 0, false, false},
    {HypercallCode::kSendSyntheticClusterIpi, "send_ipi", &Hypercalls::send_ipi, sizeof(tlfs::SendIpiInput), 0, 0, false, false},
    {HypercallCode::kFlushVirtualAddressSpaceEx, "flush_space_ex", &Hypercalls::flush_ex, sizeof(tlfs::FlushExInput), 0, 0, false, true},
    {HypercallCode::kFlushVirtualAddressListEx, "flush_list_ex", &Hypercalls::flush_ex, sizeof(tlfs::FlushExInput), 8, 0, true, true},
    {HypercallCode::kSendSyntheticClusterIpiEx, "send_ipi_ex", &Hypercalls::send_ipi_ex, sizeof(tlfs::SendIpiExInput), 0, 0, false, true},
    {HypercallCode::kGetVpRegisters, "get_registers", &Hypercalls::get_registers, sizeof(tlfs::VpRegistersInput), 4, 16, true, false},
    {HypercallCode::kSetVpRegisters, "set_registers", &Hypercalls::set_registers, sizeof(tlfs::VpRegistersInput), 32, 0, true, false},
    {HypercallCode::kPostMessage, "post_message", &Hypercalls::post_message, sizeof(tlfs::PostMessageInput), 0, 0, false, false},
    {HypercallCode::kSignalEvent, "signal_event", &Hypercalls::signal_event, sizeof(tlfs::SignalEventInput), 0, 0, false, false},
};

Hypercalls::Hypercalls(memory::GuestMemory& memory, cpu::Partition& partition, Synic& synic, Options options,
                       ReadRegister read_register, Log log)
    : memory_(memory), partition_(partition), synic_(synic), options_(options), read_register_(std::move(read_register)),
      log_(std::move(log)) {
  static_assert(std::size(kTable) <= std::tuple_size_v<decltype(counts_)>);
}

void Hypercalls::handle(VpIndex vp, cpu::HypercallExit& exit) {
  Call call;
  call.vp = vp;
  call.control = {exit.control};
  call.input = {exit.input};
  call.output = {exit.output};
  if (call.control.is_fast()) {
    std::memcpy(call.registers.data(), &exit.input, 8);
    std::memcpy(call.registers.data() + 8, &exit.output, 8);
    std::memcpy(call.registers.data() + 16, exit.xmm.data(), sizeof(exit.xmm));
    call.register_bytes = options_.xmm_input ? tlfs::kXmmFastInputBytes : tlfs::kFastInputBytes;
  }
  const HvStatus status = dispatch(call);
  if (status != HvStatus::kSuccess) refused_.fetch_add(1, std::memory_order_relaxed);
  exit.result = tlfs::hypercall_result(status, call.reps_completed);
}

HvStatus Hypercalls::dispatch(Call& call) {
  if (call.control.has_reserved_bits()) return HvStatus::kInvalidHypercallInput;
  for (std::size_t i = 0; i < std::size(kTable); ++i) {
    const Description& description = kTable[i];
    if (static_cast<std::uint16_t>(description.code) != call.control.code()) continue;
    counts_[i].fetch_add(1, std::memory_order_relaxed);
    if (const HvStatus status = check(call, description); status != HvStatus::kSuccess) return status;
    return (this->*description.handle)(call);
  }
  if (unknown_limit_.allow()) log_.debug("the guest made hypercall {:#x}, which does not exist here", call.control.code());
  return HvStatus::kInvalidHypercallCode;
}

/// The rules that hold for every call: sizes, alignment, repetition.
HvStatus Hypercalls::check(const Call& call, const Description& description) const {
  const tlfs::HypercallControl control = call.control;
  const std::uint32_t reps = control.rep_count();
  if (!description.is_rep && (reps != 0 || control.rep_start() != 0)) return HvStatus::kInvalidHypercallInput;
  if (description.is_rep && (reps == 0 || control.rep_start() >= reps)) return HvStatus::kInvalidHypercallInput;
  if (!description.has_variable_header && control.variable_header_qwords() != 0) return HvStatus::kInvalidHypercallInput;
  const std::size_t input_bytes = description.input_bytes + std::size_t{control.variable_header_qwords()} * 8 +
                                  std::size_t{reps} * description.rep_input_bytes;
  if (control.is_fast()) {
    const bool has_output = description.rep_output_bytes != 0;
    return input_bytes > call.register_bytes || has_output ? HvStatus::kInvalidHypercallInput : HvStatus::kSuccess;
  }
  const auto lies_well = [](memory::Gpa address, std::size_t bytes) {
    return address.value % 8 == 0 && address.value % memory::kPageSize + bytes <= memory::kPageSize;
  };
  if (!lies_well(call.input, input_bytes)) return HvStatus::kInvalidAlignment;
  if (description.rep_output_bytes != 0 && !lies_well(call.output, std::size_t{reps} * description.rep_output_bytes)) {
    return HvStatus::kInvalidAlignment;
  }
  return HvStatus::kSuccess;
}

HvStatus Hypercalls::read_input(Call& call, std::size_t offset, std::span<std::byte> into) const {
  if (call.control.is_fast()) {
    if (offset + into.size() > call.register_bytes) return HvStatus::kInvalidHypercallInput;
    std::ranges::copy(std::span(call.registers).subspan(offset, into.size()), into.begin());
    return HvStatus::kSuccess;
  }
  return memory_.read(call.input + offset, into) ? HvStatus::kSuccess : HvStatus::kInvalidParameter;
}

Hypercalls::VpSet Hypercalls::all_processors() const {
  return options_.vp_count >= kBankBits ? ~VpSet{0} : (VpSet{1} << options_.vp_count) - 1;
}

/// Bank i holds the processors 64*i to 64*i+63; the machine has at most 64, so only bank 0 can name any.
HvStatus Hypercalls::read_vp_set(Call& call, std::size_t offset, const tlfs::VpSetHeader& header, VpSet& set) const {
  if (header.format == tlfs::kVpSetAll) {
    set = all_processors();
    return HvStatus::kSuccess;
  }
  if (header.format != tlfs::kVpSetSparse) return HvStatus::kInvalidParameter;
  if (static_cast<std::uint32_t>(std::popcount(header.valid_banks.value())) != call.control.variable_header_qwords()) {
    return HvStatus::kInvalidHypercallInput;
  }
  set = 0;
  if ((header.valid_banks.value() & 1) == 0) return HvStatus::kSuccess;
  le64 bank;
  if (const HvStatus status = read_input(call, offset, writable_bytes_of(bank)); status != HvStatus::kSuccess) return status;
  set = bank.value() & all_processors();
  return HvStatus::kSuccess;
}

// ---- TLB ----

void Hypercalls::flush_processors(VpSet set) {
  std::array<VpIndex, kBankBits> vps;
  std::size_t count = 0;
  for (; set != 0; set &= set - 1) vps[count++] = VpIndex{static_cast<std::uint32_t>(std::countr_zero(set))};
  if (count != 0) partition_.flush_tlbs(std::span(vps).first(count));
}

HvStatus Hypercalls::flush(Call& call) {
  tlfs::FlushInput input;
  if (const HvStatus status = read_object(call, input); status != HvStatus::kSuccess) return status;
  if ((input.flags & ~tlfs::kFlushKnownFlags) != 0) return HvStatus::kInvalidParameter;
  const bool everyone = (input.flags & tlfs::kFlushAllProcessors) != 0;
  // The engine drops whole TLBs: an address list asks for less than that.
  flush_processors(everyone ? all_processors() : input.processor_mask.value() & all_processors());
  call.reps_completed = call.control.rep_count();
  return HvStatus::kSuccess;
}

HvStatus Hypercalls::flush_ex(Call& call) {
  tlfs::FlushExInput input;
  if (const HvStatus status = read_object(call, input); status != HvStatus::kSuccess) return status;
  if ((input.flags & ~tlfs::kFlushKnownFlags) != 0) return HvStatus::kInvalidParameter;
  VpSet set = all_processors();
  if ((input.flags & tlfs::kFlushAllProcessors) == 0) {
    if (const HvStatus status = read_vp_set(call, sizeof(input), input.processors, set); status != HvStatus::kSuccess) return status;
  }
  flush_processors(set);
  call.reps_completed = call.control.rep_count();
  return HvStatus::kSuccess;
}

// ---- interrupts ----

HvStatus Hypercalls::interrupt_processors(std::uint32_t vector, VpSet set) {
  if (vector < tlfs::kFirstIpiVector || vector > tlfs::kLastIpiVector) return HvStatus::kInvalidParameter;
  cpu::InterruptRequest request;
  request.vector = static_cast<std::uint8_t>(vector);
  for (; set != 0; set &= set - 1) {
    request.destination = static_cast<std::uint32_t>(std::countr_zero(set));
    partition_.request_interrupt(request);
  }
  return HvStatus::kSuccess;
}

HvStatus Hypercalls::send_ipi(Call& call) {
  tlfs::SendIpiInput input;
  if (const HvStatus status = read_object(call, input); status != HvStatus::kSuccess) return status;
  if (input.target_vtl != 0) return HvStatus::kInvalidParameter;
  return interrupt_processors(input.vector, input.processor_mask.value() & all_processors());
}

HvStatus Hypercalls::send_ipi_ex(Call& call) {
  tlfs::SendIpiExInput input;
  if (const HvStatus status = read_object(call, input); status != HvStatus::kSuccess) return status;
  if (input.target_vtl != 0) return HvStatus::kInvalidParameter;
  VpSet set = 0;
  if (const HvStatus status = read_vp_set(call, sizeof(input), input.processors, set); status != HvStatus::kSuccess) return status;
  return interrupt_processors(input.vector, set);
}

HvStatus Hypercalls::notify_long_spin(Call&) {
  ::sched_yield();  // whoever holds the guest's lock may be waiting for this host processor
  return HvStatus::kSuccess;
}

// ---- messages and events ----

HvStatus Hypercalls::post_message(Call& call) {
  tlfs::PostMessageInput input;
  if (const HvStatus status = read_object(call, input); status != HvStatus::kSuccess) return status;
  if (input.payload_bytes > sizeof(input.payload) || (input.message_type & tlfs::kMessageTypeHypervisor) != 0 || input.message_type == 0) {
    return HvStatus::kInvalidParameter;
  }
  return synic_.guest_posts(call.vp, input.connection_id, input.message_type, std::span(input.payload).first(input.payload_bytes));
}

HvStatus Hypercalls::signal_event(Call& call) {
  tlfs::SignalEventInput input;
  if (const HvStatus status = read_object(call, input); status != HvStatus::kSuccess) return status;
  if (input.flag >= tlfs::kEventFlagCount || input.reserved != 0) return HvStatus::kInvalidParameter;
  return synic_.guest_signals(input.connection_id, input.flag);
}

// ---- registers ----

HvStatus Hypercalls::get_registers(Call& call) {
  tlfs::VpRegistersInput input;
  if (const HvStatus status = read_object(call, input); status != HvStatus::kSuccess) return status;
  const std::uint32_t vp = input.vp_index == tlfs::kVpIndexSelf ? call.vp.value : input.vp_index.value();
  if (input.partition_id != tlfs::kPartitionIdSelf) return HvStatus::kAccessDenied;
  if (vp >= options_.vp_count) return HvStatus::kInvalidVpIndex;
  call.reps_completed = call.control.rep_start();
  for (; call.reps_completed < call.control.rep_count(); ++call.reps_completed) {
    le32 name;
    const std::size_t offset = sizeof(input) + std::size_t{call.reps_completed} * sizeof(name);
    if (const HvStatus status = read_input(call, offset, writable_bytes_of(name)); status != HvStatus::kSuccess) return status;
    const auto value = read_register_(VpIndex{vp}, static_cast<tlfs::RegisterName>(name.value()));
    if (!value) return HvStatus::kInvalidParameter;
    const std::array<le64, 2> wide = {*value, 0};
    if (!memory_.write_object(call.output + std::uint64_t{call.reps_completed} * sizeof(wide), wide)) return HvStatus::kInvalidParameter;
  }
  return HvStatus::kSuccess;
}

/// Guests set these registers through their MSRs; the hypercall is for partitions that own others.
HvStatus Hypercalls::set_registers(Call&) { return HvStatus::kAccessDenied; }

nlohmann::json Hypercalls::inspect() const {
  nlohmann::json counts = nlohmann::json::object();
  for (std::size_t i = 0; i < std::size(kTable); ++i) {
    if (const std::uint64_t count = counts_[i].load(std::memory_order_relaxed); count != 0) counts[kTable[i].name] = count;
  }
  counts["refused"] = refused_.load(std::memory_order_relaxed);
  return counts;
}

}  // namespace bygone::hyperv
