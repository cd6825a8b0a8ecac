// The synthetic interrupt controller: sixteen sources a processor, each with a message slot and 2048 event flags.
// TLFS chapter 11.
//
//   host posts    slot free → body, then type → interrupt;  slot taken → message-pending, and the guest will write EOM
//   host signals  flag 0 → 1 → interrupt;  already 1 → nothing
//   guest posts   HvCallPostMessage / HvCallSignalEvent → the port connected under its connection id
//
// Threading: any thread. One lock a processor, under which its pages and slots are written; interrupts and handlers are
// called without it. Ports: a shared lock around the look-up only.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "cpu/partition.h"
#include "hyperv/overlay_page.h"
#include "hyperv/synic_port.h"
#include "spec/tlfs/hypercall.h"
#include "spec/tlfs/registers.h"

namespace bygone::hyperv {

class Synic final : public SynicPort {
 public:
  /// `engine` raises interrupts by source; null: none does, and they are raised by vector.
  Synic(memory::GuestMemory& memory, cpu::Partition& partition, std::uint32_t vp_count,
        cpu::HypervisorFacilities* engine = nullptr);
  ~Synic() override;

  // SynicPort
  [[nodiscard]] PostOutcome post_message(cpu::VpIndex vp, std::uint8_t sint, std::uint32_t message_type,
                                         std::span<const std::byte> payload) override;
  void signal_event(cpu::VpIndex vp, std::uint8_t sint, std::uint16_t flag) override;
  void set_slot_free_handler(std::function<void(cpu::VpIndex vp, std::uint8_t sint)> handler) override;
  void connect_message_port(std::uint32_t connection_id, MessageHandler handler) override;
  void disconnect_message_port(std::uint32_t connection_id) override;
  void connect_event_port(std::uint32_t connection_id, EventHandler handler, EventLoop* loop) override;
  void disconnect_event_port(std::uint32_t connection_id) override;

  // Hypercalls of the guest.
  [[nodiscard]] spec::tlfs::HvStatus guest_posts(cpu::VpIndex vp, std::uint32_t connection_id, std::uint32_t message_type,
                                                 std::span<const std::byte> payload);
  [[nodiscard]] spec::tlfs::HvStatus guest_signals(std::uint32_t connection_id, std::uint16_t flag);

  /// Registers SCONTROL to SINT15. nullopt / false: #GP.
  [[nodiscard]] std::optional<std::uint64_t> read(cpu::VpIndex vp, spec::tlfs::Msr msr);
  [[nodiscard]] bool write(cpu::VpIndex vp, spec::tlfs::Msr msr, std::uint64_t value);

  /// Whether the engine's timers may write messages of their own into this processor's page, so that ours need it held.
  void share_messages(cpu::VpIndex vp, bool is_shared);

  /// The synthetic timers' turn before the ports', when a slot may be free. Set before the machine runs.
  void set_timer_retry(std::function<void(cpu::VpIndex vp)> retry) { timer_retry_ = std::move(retry); }

  void reset();
  [[nodiscard]] nlohmann::json save(cpu::VpIndex vp) const;
  /// Checks a processor's saved state; commit() applies it.
  struct Restored;
  [[nodiscard]] Result<std::shared_ptr<Restored>> prepare_restore(const nlohmann::json& state);
  void commit(cpu::VpIndex vp, Restored& restored);
  [[nodiscard]] nlohmann::json inspect(cpu::VpIndex vp) const;

 private:
  struct Vp;
  struct EventPort;
  struct Interrupt {
    bool wanted = false;
    std::uint8_t vector = 0;
    bool auto_eoi = false;
    std::uint8_t source = 0;
  };
  [[nodiscard]] PostOutcome write_message(Vp& vp, std::uint8_t sint, std::uint32_t message_type,
                                          std::span<const std::byte> payload, Interrupt& interrupt);
  [[nodiscard]] bool write_page(OverlayPage& page, std::uint64_t& reg, std::uint64_t value);
  void end_of_message(cpu::VpIndex vp);
  void raise(cpu::VpIndex vp, const Interrupt& interrupt);
  [[nodiscard]] static Interrupt interrupt_of(const Vp& vp, std::uint8_t sint);

  memory::GuestMemory& memory_;
  cpu::Partition& partition_;
  cpu::HypervisorFacilities* const engine_;
  std::vector<std::unique_ptr<Vp>> vps_;
  std::function<void(cpu::VpIndex)> timer_retry_;
  std::shared_mutex ports_mutex_;
  std::shared_ptr<std::function<void(cpu::VpIndex, std::uint8_t)>> slot_free_handler_;
  std::unordered_map<std::uint32_t, std::shared_ptr<MessageHandler>> message_ports_;
  std::unordered_map<std::uint32_t, std::shared_ptr<EventPort>> event_ports_;
};

}  // namespace bygone::hyperv
