#include "cpu/kvm/posted_writes.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include "cpu/kvm/kernel_call.h"

namespace bygone::cpu::kvm {
namespace {

/// So many exits make a port hot; fewer are not worth the kernel's work of changing its table of devices.
constexpr std::uint32_t kBurst = 32;
constexpr std::chrono::milliseconds kPeriod(5);
constexpr int kIdlePeriods = 20;

std::size_t page_size() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

/// Entries of the ring, which is a page.
std::uint32_t ring_length() {
  return static_cast<std::uint32_t>((page_size() - sizeof(kvm_coalesced_mmio_ring)) / sizeof(kvm_coalesced_mmio));
}

}  // namespace

PostedWrites::PostedWrites(int vm, const Device& device, PostedPorts ports, Log log)
    : vm_(vm), ports_(std::move(ports)), log_(std::move(log)) {
  if (ports_.ports.empty() || !ports_.deliver || device.extension(KVM_CAP_COALESCED_PIO) <= 0) return;
  const auto pages = static_cast<std::size_t>(std::max(device.extension(KVM_CAP_COALESCED_MMIO), 0));
  if ((pages + 1) * page_size() <= device.run_area_size()) ring_offset_ = pages * page_size();
}

PostedWrites::~PostedWrites() {
  {
    const std::lock_guard lock(mutex_);
    should_stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void PostedWrites::start(kvm_run* area) {
  if (ring_offset_ == 0) return;
  ring_ = reinterpret_cast<kvm_coalesced_mmio_ring*>(reinterpret_cast<std::byte*>(area) + ring_offset_);
  thread_ = std::thread([this] { serve(); });
}

bool PostedWrites::is_empty() const {
  return std::atomic_ref(ring_->first).load(std::memory_order_acquire) == std::atomic_ref(ring_->last).load(std::memory_order_acquire);
}

void PostedWrites::hand_over() {
  const std::lock_guard lock(delivery_);
  const std::atomic_ref first(ring_->first);
  // No further than this: a processor that writes without end must not keep another here.
  const std::uint32_t end = std::atomic_ref(ring_->last).load(std::memory_order_acquire) % ring_length();
  for (std::uint32_t at = first.load() % ring_length(); at != end; at = (at + 1) % ring_length()) {
    kvm_coalesced_mmio write = ring_->coalesced_mmio[at];
    PortExit exit{.port = static_cast<std::uint16_t>(write.phys_addr),
                  .size = 1,
                  .is_write = true,
                  .count = 1,
                  .data = std::as_writable_bytes(std::span(write.data).first(1))};
    ports_.deliver(exit);
    // Only now: who finds the ring empty relies on everything having been delivered.
    first.store((at + 1) % ring_length(), std::memory_order_release);
    count_.fetch_add(1, std::memory_order_relaxed);
  }
}

void PostedWrites::count_exit(std::uint16_t port) {
  if (std::ranges::find(ports_.ports, port) == ports_.ports.end()) return;
  if (exits_.fetch_add(1, std::memory_order_relaxed) % kBurst != kBurst - 1) return;
  {
    const std::lock_guard lock(mutex_);
    is_wanted_ = true;
  }
  changed_.notify_all();
}

bool PostedWrites::set_zones(bool is_on) {
  for (const std::uint16_t port : ports_.ports) {
    kvm_coalesced_mmio_zone zone = {};
    zone.addr = port;
    zone.size = 1;
    zone.pio = 1;
    const auto outcome = is_on ? kernel_call(vm_, KVM_REGISTER_COALESCED_MMIO, "KVM_REGISTER_COALESCED_MMIO", &zone)
                               : kernel_call(vm_, KVM_UNREGISTER_COALESCED_MMIO, "KVM_UNREGISTER_COALESCED_MMIO", &zone);
    if (!outcome) {
      log_.warning("writes to port {:#x} are not gathered: {}", port, outcome.error().text());
      return false;
    }
  }
  return true;
}

void PostedWrites::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return is_wanted_ || should_stop_; });
    if (should_stop_) return;
    lock.unlock();
    const bool has_begun = set_zones(true);
    is_gathering_ = true;
    if (!has_begun) {  // is_gathering_ stays: to count exits is of no use any more
      static_cast<void>(set_zones(false));
      return drain();
    }
    lock.lock();
    gather(lock);
    if (should_stop_) return;
    lock.unlock();
    is_gathering_ = !set_zones(false);
    drain();
    lock.lock();
    is_wanted_ = is_gathering_;
  }
}

/// Until nothing has come for a while.
void PostedWrites::gather(std::unique_lock<std::mutex>& lock) {
  std::uint64_t seen = count();
  for (int idle = 0; idle < kIdlePeriods && !should_stop_; ++idle) {
    changed_.wait_for(lock, kPeriod, [this] { return should_stop_; });
    lock.unlock();
    drain();
    lock.lock();
    if (std::exchange(seen, count()) != seen) idle = 0;
  }
}

}  // namespace bygone::cpu::kvm
