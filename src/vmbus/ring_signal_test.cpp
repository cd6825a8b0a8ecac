// No signal gets lost: two threads, one with our rings and one with what Linux's driver does to the same pages (drivers/hv/ring_buffer.c
// and the receive loop of hv_netvsc), sleep until they are signalled and would sleep for ever after a signal too few.
#include "vmbus/ring.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <random>
#include <semaphore>
#include <thread>
#include <vector>

#include "spec/vmbus/ring.h"

namespace bygone::vmbus {
namespace {

using namespace std::chrono_literals;
using Field = RingPages::Field;
using spec::vmbus::PacketDescriptor;
using spec::vmbus::PacketTrailer;

/// An interrupt, or an event: several before the sleeper looks are one.
class Bell {
 public:
  void ring() {
    if (!rung_.exchange(true)) semaphore_.release();
  }
  /// False: nobody rang for so long that nobody will.
  bool wait() {
    if (!semaphore_.try_acquire_for(20s)) return false;
    rung_ = false;
    return true;
  }

 private:
  std::atomic<bool> rung_ = false;
  std::counting_semaphore<> semaphore_{0};
};

/// The guest's end of both rings.
class LinuxDriver {
 public:
  LinuxDriver(RingPages out, RingPages in, Bell& host) : out_(std::move(out)), in_(std::move(in)), host_(host) {}

  /// hv_ringbuffer_write(); false: -EAGAIN. Asks for room beforehand as hv_sock does.
  bool write(std::uint64_t id, std::uint32_t payload) {
    const std::uint32_t length = sizeof(PacketDescriptor) + payload, total = length + sizeof(PacketTrailer);
    const std::uint32_t old_write = out_.load(Field::kWriteIndex);
    if (room() <= total) {
      out_.store(Field::kPendingSendSize, total);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (room() <= total) return false;
    }
    out_.store(Field::kPendingSendSize, 0);
    PacketDescriptor descriptor;
    descriptor.type = static_cast<std::uint16_t>(spec::vmbus::PacketType::kInBand);
    descriptor.data_offset8 = static_cast<std::uint16_t>(sizeof descriptor / 8);
    descriptor.length8 = static_cast<std::uint16_t>(length / 8);
    descriptor.flags = std::uint16_t{0};
    descriptor.transaction_id = id;
    out_.write(old_write, bytes_of(descriptor));
    std::atomic_thread_fence(std::memory_order_seq_cst);
    out_.store(Field::kWriteIndex, (old_write + total) % out_.size());
    // hv_signal_on_write()
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (out_.load(Field::kInterruptMask) == 0 && out_.load(Field::kReadIndex) == old_write) host_.ring();
    return true;
  }

  /// netvsc_poll(): everything that is there, with interrupts off; then on, and another look.
  template <typename Work>
  void poll(Work work) {
    do {
      in_.store(Field::kInterruptMask, 1);  // hv_begin_read()
      const std::uint32_t start = read_;
      while (in_.load(Field::kWriteIndex) != read_) {
        PacketDescriptor descriptor;
        in_.read(read_, writable_bytes_of(descriptor));
        read_ = (read_ + descriptor.length8 * 8U + static_cast<std::uint32_t>(sizeof(PacketTrailer))) % in_.size();
        work(descriptor.transaction_id.value());
      }
      close_iteration(start);
      in_.store(Field::kInterruptMask, 0);  // hv_end_read()
      std::atomic_thread_fence(std::memory_order_seq_cst);
    } while (in_.load(Field::kWriteIndex) != in_.load(Field::kReadIndex));
  }

 private:
  [[nodiscard]] std::uint32_t room() const { return room_of(out_, out_.load(Field::kWriteIndex), out_.load(Field::kReadIndex)); }
  static std::uint32_t room_of(const RingPages& ring, std::uint32_t write, std::uint32_t read) {
    return write >= read ? ring.size() - (write - read) : read - write;
  }
  /// hv_pkt_iter_close()
  void close_iteration(std::uint32_t start) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    in_.store(Field::kReadIndex, read_);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::uint32_t pending = in_.load(Field::kPendingSendSize);
    if (pending == 0) return;
    const std::uint32_t now = room_of(in_, in_.load(Field::kWriteIndex), read_);
    const std::uint32_t bytes_read = (read_ + in_.size() - start) % in_.size();
    if (now <= pending || now - bytes_read > pending) return;
    host_.ring();
  }

  RingPages out_, in_;
  Bell& host_;
  std::uint32_t read_ = 0;
};

/// Bursts of packets; the next one comes when all answers to the last are there, so that nothing later makes up for a lost signal. In a
/// silent burst only the last packet is answered: then nothing but the signal for room wakes a sender that has filled the ring.
struct Burst {
  explicit Burst(std::mt19937& random) : packets(1 + random() % (random() % 4 == 0 ? 60 : 4)), is_silent(random() % 2 == 0) {}
  [[nodiscard]] bool is_answered(std::uint64_t index) const { return !is_silent || index + 1 == packets; }
  std::uint64_t packets;
  bool is_silent;
};
constexpr std::uint64_t kAnswerMe = 1;  // a transaction's lowest bit

TEST(RingSignal, none_is_lost_between_us_and_linux) {
  constexpr int kBursts = 3000;
  constexpr std::uint32_t kLargestPayload = 600;  // a dozen fit the ring
  memory::GuestMemory memory;
  ASSERT_TRUE(memory.add_ram(memory::Gpa{0}, 1 << 20));
  const auto to_host = RingPages::create(memory, std::array<std::uint64_t, 2>{1, 2}).value();
  const auto to_guest = RingPages::create(memory, std::array<std::uint64_t, 2>{3, 4}).value();
  Bell host_bell, guest_bell;
  LinuxDriver driver(to_host, to_guest, host_bell);
  std::atomic<bool> ended = false;

  std::jthread guest([&] {
    std::mt19937 random(1);
    std::uint64_t number = 0, answered = 0;
    for (int i = 0; i < kBursts && !ended; ++i) {
      const Burst burst(random);
      std::uint64_t sent = 0;
      const std::uint64_t answers = answered + (burst.is_silent ? 1 : burst.packets);
      while ((sent < burst.packets || answered < answers) && !ended) {
        while (sent < burst.packets) {
          const auto bytes = static_cast<std::uint32_t>(random() % (kLargestPayload / 8) * 8);
          if (!driver.write(number << 1 | (burst.is_answered(sent) ? kAnswerMe : 0), bytes)) break;
          ++number;
          ++sent;
        }
        if (sent == burst.packets && answered == answers) break;
        if (!guest_bell.wait()) {
          ADD_FAILURE() << "the guest sleeps for ever in burst " << i << ": " << sent << " of " << burst.packets << " sent, " << answers - answered << " answers to come";
          ended = true;
        }
        driver.poll([&](std::uint64_t) { ++answered; });
      }
    }
    ended = true;
    host_bell.ring();
  });

  // As the network adapter: what finds no room waits, and reading with it.
  auto incoming = IncomingRing::create(to_host).value();
  auto outgoing = OutgoingRing::create(to_guest).value();
  std::mt19937 random(2);
  std::vector<std::byte> payload(kLargestPayload);
  Packet packet;
  std::uint64_t next = 0, waiting = 0;
  bool waits = false;
  const auto answer = [&](std::uint64_t id) {
    const std::span<const std::byte> piece = std::span(payload).first(random() % kLargestPayload);
    return outgoing.send({PacketType::kInBand, id, false, {}, {&piece, 1}}).value();
  };
  while (!ended) {
    if (!host_bell.wait()) break;  // the guest says why
    if (waits && answer(waiting)) waits = false;
    while (!waits && incoming.receive(packet).value()) {
      EXPECT_EQ(packet.transaction_id() >> 1, next++);
      if ((packet.transaction_id() & kAnswerMe) == 0 || answer(packet.transaction_id())) continue;
      waiting = packet.transaction_id();
      waits = true;
    }
    incoming.publish();
    const bool room = incoming.take_signal(), data = outgoing.take_signal();
    if (room || data) guest_bell.ring();
  }
  guest_bell.ring();
  guest.join();
  EXPECT_GT(next, kBursts);
}

}  // namespace
}  // namespace bygone::vmbus
