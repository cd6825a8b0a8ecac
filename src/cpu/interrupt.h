// Interrupt messages as the I/O APIC, MSIs, SynIC and IPIs send them (Intel SDM volume 3, 11.6 and 11.11).
#pragma once

#include <cstdint>

namespace bygone::cpu {

enum class DeliveryMode : std::uint8_t { kFixed = 0, kLowestPriority = 1, kSmi = 2, kNmi = 4, kInit = 5, kStartUp = 6, kExtInt = 7 };
enum class DestinationMode : std::uint8_t { kPhysical, kLogical };
enum class TriggerMode : std::uint8_t { kEdge, kLevel };

struct InterruptRequest {
  DeliveryMode delivery = DeliveryMode::kFixed;
  DestinationMode destination_mode = DestinationMode::kPhysical;
  TriggerMode trigger = TriggerMode::kEdge;
  std::uint8_t vector = 0;
  std::uint32_t destination = 0;  ///< APIC id, logical set, or all-ones for broadcast
};

}  // namespace bygone::cpu
