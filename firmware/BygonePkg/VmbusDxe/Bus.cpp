// The bus: agree on a version, take all offers, publish each as a handle; unload when the operating system takes over.
//
//   INITIATE_CONTACT -> VERSION_RESPONSE -> REQUEST_OFFERS -> OFFER... -> ALL_OFFERS_DELIVERED -> handles -> ... -> UNLOAD
//
// SPDX-License-Identifier: Apache-2.0
#include "Vmbus.h"

extern "C" {
#include <Library/TimerLib.h>
}

namespace bygone::vmbus {
namespace {

/// A host that does not answer for so long is taken for dead. Long: the host may be a busy build machine.
constexpr UINT64 kAnswerTimeoutNs = 10000000000;
constexpr UINT64 kUnloadTimeoutNs = 2000000000;

constexpr UINTN kMaximumOffers = 64;

constexpr Version kVersions[] = {Version::k5_0, Version::k4_0, Version::k3_0, Version::k2_4};

Connection connection = Connection::kMessages;
UINT32 last_gpadl;

/// Time from when it was made.
class Stopwatch {
 public:
  bool is_before(UINT64 ns) const { return GetTimeInNanoSecond(GetPerformanceCounter() - start_) < ns; }

 private:
  const UINT64 start_ = GetPerformanceCounter();
};

}  // namespace

EFI_STATUS bus::post(const void* message, UINTN bytes) { return hypervisor::post_message(connection, message, bytes); }

EFI_STATUS bus::next_message(Payload& payload) {
  if (hypervisor::take_message(payload)) return EFI_SUCCESS;
  const Stopwatch since;
  do {
    // The look takes the message away, so that no interrupt can come between looking and sleeping.
    bool is_taken = false;
    hypervisor::idle([&] { return is_taken = hypervisor::take_message(payload); });
    if (is_taken || hypervisor::take_message(payload)) return EFI_SUCCESS;
  } while (since.is_before(kAnswerTimeoutNs));
  return EFI_TIMEOUT;
}

UINT32 bus::new_gpadl() { return ++last_gpadl; }

namespace {

EFI_STATUS negotiate(Version version) {
  // Pages for the old interrupt and monitor mechanisms. Nothing uses them, but hosts insist that they exist.
  Pages pages;
  if (!pages.allocate(3)) return EFI_OUT_OF_RESOURCES;
  const bool is_5 = version >= Version::k5_0;
  connection = is_5 ? Connection::kInitiateContact5 : Connection::kMessages;
  InitiateContact contact = {};
  contact.version = version;
  contact.interrupt_page = is_5 ? kSint : pages.address(0);
  contact.monitor_page1 = pages.address(1);
  contact.monitor_page2 = pages.address(2);
  EFI_STATUS status = bus::post(contact);
  if (EFI_ERROR(status)) return status;
  VersionResponse response;
  status = bus::wait_for(response, [](const VersionResponse&) { return true; });
  if (EFI_ERROR(status)) return status;
  if (response.supported == 0 || response.state != 0) return EFI_INCOMPATIBLE_VERSION;
  if (is_5) connection = response.connection;
  pages.release();
  DEBUG((DEBUG_INFO, "VMBus: version %d.%d\n", static_cast<UINT32>(version) >> 16, static_cast<UINT32>(version) & 0xFFFF));
  return EFI_SUCCESS;
}

/// Offers are copied while they arrive and published afterwards: publishing may itself talk to the bus.
EFI_STATUS collect_offers() {
  const auto offers = Pool<Offer>::create_array(kMaximumOffers);
  if (!offers) return EFI_OUT_OF_RESOURCES;
  UINTN count = 0;
  EFI_STATUS status = bus::post(RequestOffers{});
  while (!EFI_ERROR(status)) {
    Payload payload;
    status = bus::next_message(payload);
    if (EFI_ERROR(status) || payload.as<OffersDelivered>() != nullptr) break;
    const Offer* const offer = payload.as<Offer>();
    // Subchannels are asked for by drivers; none of ours does.
    if (offer != nullptr && offer->subchannel_index == 0 && count < kMaximumOffers) offers[count++] = *offer;
  }
  for (UINTN index = 0; index < count; ++index) publish_channel(offers[index]);
  DEBUG((DEBUG_INFO, "VMBus: %d offers\n", count));
  return status;
}

/// The operating system takes over: the host must forget every page of ours before the first of them is reused.
/// Runs with interrupts possibly off and without the timer tick, hence polls.
void EFIAPI on_exit_boot_services(EFI_EVENT, void*) {
  if (!EFI_ERROR(bus::post(Unload{}))) {
    const Stopwatch since;
    Payload payload;
    do {
      if (hypervisor::take_message(payload) && payload.as<UnloadResponse>() != nullptr) break;
      CpuPause();
    } while (since.is_before(kUnloadTimeoutNs));
  }
  hypervisor::stop();
}

EFI_STATUS start() {
  EFI_STATUS status = hypervisor::start();
  if (EFI_ERROR(status)) return status;
  for (const Version version : kVersions) {
    status = negotiate(version);
    if (!EFI_ERROR(status)) break;
  }
  if (EFI_ERROR(status)) {
    DEBUG((DEBUG_ERROR, "VMBus: the host speaks none of our versions: %r\n", status));
    hypervisor::stop();
    return status;
  }
  // After the core's and the drivers' own handlers, which may still use their channels.
  EFI_EVENT event = nullptr;
  status = gBS->CreateEvent(EVT_SIGNAL_EXIT_BOOT_SERVICES, TPL_CALLBACK, on_exit_boot_services, nullptr, &event);
  if (EFI_ERROR(status)) return status;
  collect_offers();  // what has been offered stays usable even if the list broke off
  return EFI_SUCCESS;
}

}  // namespace
}  // namespace bygone::vmbus

extern "C" EFI_STATUS EFIAPI VmbusEntry(EFI_HANDLE, EFI_SYSTEM_TABLE*) { return bygone::vmbus::start(); }
