// Writes to posted ports (cpu/partition.h) that the kernel gathers in a ring instead of leaving the guest for each: KVM's
// coalesced port I/O, Linux Documentation/virt/kvm/api.rst, 4.116.
//
//   quiet    ── a burst of such writes left the guest ──→  gathering
//   gathering ── nothing was gathered for a while ──→      quiet
//
// While it gathers, the ring is emptied before every exit is looked at, by whichever processor comes out, and every few
// milliseconds by a thread of its own, so that the last byte of a burst is not held back by a guest that goes to sleep. While it is
// quiet nothing runs: a machine at rest costs nothing, and a single byte is seen at once.
//
// A string instruction that finds no more room in the ring loses the rest of its bytes (from Linux 6.0 on), as a real serial port
// does whose FIFO is not asked.
//
// Threading: any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "cpu/kvm/device.h"
#include "cpu/partition.h"

namespace bygone::cpu::kvm {

class PostedWrites {
 public:
  /// Does nothing for good when there are no such ports or the kernel does not know how.
  PostedWrites(int vm, const Device& device, PostedPorts ports, Log log);
  ~PostedWrites();
  PostedWrites(const PostedWrites&) = delete;
  PostedWrites& operator=(const PostedWrites&) = delete;

  /// `area`: what any processor of the virtual machine maps; outlives this. Before guest code runs.
  void start(kvm_run* area);

  /// Hands over what was gathered until now, in order. When it returns all of that has been delivered, by whomever.
  void drain() {
    if (ring_ != nullptr && !is_empty()) hand_over();
  }
  /// A write of one byte to `port` left the guest.
  void note_exit(std::uint16_t port) {
    if (ring_ != nullptr && !is_gathering_.load(std::memory_order_relaxed)) count_exit(port);
  }
  /// How many writes did not leave the guest.
  [[nodiscard]] std::uint64_t count() const { return count_.load(std::memory_order_relaxed); }

 private:
  [[nodiscard]] bool is_empty() const;
  void hand_over();
  void count_exit(std::uint16_t port);
  void serve();
  void gather(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] bool set_zones(bool is_on);

  int vm_;
  PostedPorts ports_;
  Log log_;
  std::size_t ring_offset_ = 0;  // in a processor's area; 0: the kernel cannot
  kvm_coalesced_mmio_ring* ring_ = nullptr;
  std::atomic<bool> is_gathering_ = false;
  std::atomic<std::uint32_t> exits_ = 0;
  std::atomic<std::uint64_t> count_ = 0;

  std::mutex delivery_;  // whoever holds it hands over; taken before a device's lock
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_wanted_ = false;  // guarded by mutex_
  bool should_stop_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace bygone::cpu::kvm
