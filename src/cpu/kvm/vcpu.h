// One KVM virtual processor: the run loop and the translation of KVM's exits into ours.
// Threading: see cpu/vcpu.h.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <memory>

#include "cpu/kvm/abi.h"
#include "cpu/kvm/device.h"
#include "cpu/vcpu.h"

namespace bygone::cpu::kvm {

class KvmPartition;

/// The port whose OUT is this engine's hypercall instruction: KVM keeps VMCALL to itself. No device of the machine has it.
inline constexpr std::uint8_t kHypercallPort = 0xF6;
/// Every engine's hypercall instruction has this length, so that a processor that is moved from one engine to another in the
/// middle of its hypercall page finds the same instruction boundaries there. The OUT has a prefix (DS:) for it.
inline constexpr std::uint64_t kHypercallLength = 3;

class KvmVcpu final : public Vcpu {
 public:
  [[nodiscard]] static Result<std::unique_ptr<KvmVcpu>> create(const Device& device, KvmPartition& partition,
                                                               VpIndex index);
  ~KvmVcpu() override;
  KvmVcpu(const KvmVcpu&) = delete;
  KvmVcpu& operator=(const KvmVcpu&) = delete;

  [[nodiscard]] VpIndex index() const override { return index_; }
  [[nodiscard]] Result<Exit*> run() override;
  void kick() override;
  [[nodiscard]] Result<VcpuState> save_state() override;
  [[nodiscard]] Result<void> restore_state(const VcpuState& state) override;
  [[nodiscard]] Result<GeneralRegisters> general_registers() override;
  [[nodiscard]] Result<void> set_general_registers(const GeneralRegisters& registers) override;
  [[nodiscard]] Result<SystemRegisters> system_registers() override;
  [[nodiscard]] Result<void> set_system_registers(const SystemRegisters& registers) override;
  [[nodiscard]] Result<void> reset() override;
  [[nodiscard]] Result<void> inject_exception(std::uint8_t vector, std::optional<std::uint32_t> error_code) override;
  [[nodiscard]] Result<void> set_breakpoints(std::span<const std::uint64_t> addresses, bool single_step) override;
  [[nodiscard]] Result<std::optional<memory::Gpa>> translate(std::uint64_t linear) override;

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] kvm_run* area() { return run_; }
  /// Between hold() and release() no guest code runs on this processor, nor any of the kernel's work for it. hold() returns when
  /// that is so. Several may hold at once. Threading: any thread.
  void hold();
  void release();
  /// Whether this kernel lets user space move a guest's TSC exactly (5.16 or later).
  [[nodiscard]] bool has_tsc_offset() const;
  /// What the guest's TSC adds to the host's. Threading: any thread.
  /// How often guest code was left, by kind of exit; those that this engine deals with itself are not counted. Threading: any thread.
  [[nodiscard]] std::uint64_t exits(std::size_t kind) const { return exits_[kind].load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t tsc_offset() const { return tsc_offset_.load(std::memory_order_relaxed); }

 private:
  /// What the next run() owes KVM for the exit that the machine has answered.
  enum class Owed { kNothing, kReentry, kMmio, kMsr, kHypercall, kKernelHypercall };

  KvmVcpu(KvmPartition& partition, VpIndex index, UniqueFd fd, kvm_run* run, std::size_t run_size);
  [[nodiscard]] Result<void> set_up();
  [[nodiscard]] Result<void> set_cpuid();

  /// Turns kvm_run into exit_; false when the guest can go on at once.
  [[nodiscard]] Result<bool> decode_exit();
  [[nodiscard]] bool decode_port();
  void present_mmio_piece();
  [[nodiscard]] Result<bool> decode_hypercall();
  [[nodiscard]] Result<bool> decode_kernel_hypercall();
  [[nodiscard]] Result<bool> decode_msr();
  void make_unrecoverable(std::string_view what);
  /// Hands the machine's answer to KVM; true when another piece of the same MMIO access has to be presented first.
  [[nodiscard]] Result<bool> apply_answer();
  [[nodiscard]] Result<void> finish_hypercall();
  [[nodiscard]] Result<void> fault_hypercall();
  /// Lets KVM complete the instruction of a pending exit without running guest code. Errors: kBusy: it asks for another exit.
  [[nodiscard]] Result<void> complete_pending();
  /// The same for a state that is given up: what else the instruction asks for is answered by nobody.
  [[nodiscard]] Result<void> abandon_pending();
  [[nodiscard]] int enter();
  void refresh_tsc_offset();
  /// Sets the TSC itself, not what KVM would make of it: it takes a TSC that is a second or less off for an attempt to make
  /// processors count alike, and keeps its own.
  [[nodiscard]] Result<void> set_tsc(std::uint64_t value);
  [[nodiscard]] bool move_tsc(std::uint64_t offset);
  /// What WRMSR of the TSC or of TSC_ADJUST does; false: #GP.
  [[nodiscard]] bool write_tsc(std::uint32_t msr, std::uint64_t value);

  // vcpu_state.cpp
  /// As save_state(), with a pending exit left pending.
  [[nodiscard]] Result<VcpuState> read_state();
  [[nodiscard]] Result<LocalApicState> get_local_apic();
  [[nodiscard]] Result<void> set_local_apic(const LocalApicState& state);
  /// Makes KVM do what it holds back until the next entry: it puts a timer's interrupt that is due into the local APIC, and tells of a
  /// level-triggered interrupt's end. Runs no guest code. True: exit_ has something for the machine.
  [[nodiscard]] Result<bool> turn_back();
  void find_saved_msrs();
  [[nodiscard]] Result<std::vector<MsrValue>> get_msrs();
  [[nodiscard]] Result<void> set_msr(const MsrValue& msr);
  [[nodiscard]] Result<ExtendedState> get_extended();
  [[nodiscard]] Result<void> set_extended(const ExtendedState& extended);
  [[nodiscard]] Result<PendingEvents> get_events();
  [[nodiscard]] Result<void> set_events(const PendingEvents& events);

  KvmPartition& partition_;
  VpIndex index_;
  UniqueFd fd_;
  kvm_run* run_;
  std::size_t run_size_;
  std::size_t xsave_size_ = sizeof(kvm_xsave);
  bool has_xsave_ = false;                 ///< of the guest's CPUID
  std::vector<std::uint32_t> saved_msrs_;  ///< those that this kernel knows

  Exit exit_;
  Owed owed_ = Owed::kNothing;
  bool is_exit_unseen_ = false;  ///< exit_ came while the last one was completed, and the machine has not been told
  std::uint8_t mmio_done_ = 0;  ///< bytes of the access in kvm_run that the machine has answered
  std::atomic<std::uint64_t> tsc_offset_ = 0;
  std::array<std::atomic<std::uint64_t>, std::variant_size_v<Exit>> exits_ = {};  ///< written by the vCPU's thread alone

  // The hand-shake of enter(), kick() and hold(). No lock: entering and leaving happens millions of times a second.
  std::atomic<bool> is_kicked_ = false;      ///< since run() last came back for it
  std::atomic<bool> is_inside_ = false;      ///< in KVM_RUN or just about to be
  std::atomic<std::uint32_t> kickers_ = 0;   ///< threads that may be sending the signal
  std::atomic<std::uint32_t> holders_ = 0;
  std::atomic<pid_t> thread_ = 0;            ///< the one that is inside
};

}  // namespace bygone::cpu::kvm
