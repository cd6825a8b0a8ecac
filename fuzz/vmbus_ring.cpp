// Links: bygone_vmbus
// Reading and writing a ring whose every byte the guest has chosen. Input: u32 write index, u32 read index, ring bytes.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "memory/guest_memory.h"
#include "vmbus/ring.h"

using namespace bygone;
using namespace bygone::vmbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 8) return 0;
  memory::GuestMemory memory;
  if (!memory.add_ram(memory::Gpa{0}, 16 * memory::kPageSize)) return 0;
  constexpr std::array<std::uint64_t, 3> kPages = {4, 9, 2};
  RingPages pages = *RingPages::create(memory, kPages);
  std::array<std::uint32_t, 2> indexes;
  std::memcpy(indexes.data(), data, sizeof indexes);
  const auto bytes = std::as_bytes(std::span(data + 8, size - 8));
  pages.write(0, bytes.first(std::min<std::size_t>(bytes.size(), pages.size())));
  pages.store(RingPages::Field::kReadIndex, indexes[1] % pages.size() / 8 * 8);
  pages.store(RingPages::Field::kWriteIndex, indexes[0]);
  auto incoming = IncomingRing::create(pages);
  if (incoming) {
    Packet packet;
    // A ring holds a bounded number of packets: more come only if reading does not end.
    for (std::uint32_t count = 0;; ++count) {
      auto got = incoming->receive(packet);
      if (!got || !*got) break;
      if (count > pages.size() / 24) std::abort();
      std::array<std::byte, 64> copy;
      const auto length = std::min<std::uint64_t>(packet.buffers().total_bytes(), copy.size());
      (void)packet.buffers().read(memory, 0, std::span(copy).first(length));
      std::vector<iovec> ranges;
      (void)packet.buffers().host_ranges(memory, 0, packet.buffers().total_bytes(), ranges);
    }
  }
  pages.store(RingPages::Field::kWriteIndex, indexes[0] % pages.size() / 8 * 8);
  pages.store(RingPages::Field::kReadIndex, indexes[1]);
  if (auto outgoing = OutgoingRing::create(pages)) {
    const std::span<const std::byte> payload = bytes.first(std::min<std::size_t>(bytes.size(), 512));
    (void)outgoing->send({PacketType::kInBand, 1, false, {}, {&payload, 1}});
  }
  return 0;
}
