// The channel protocol on one offer.
// SPDX-License-Identifier: Apache-2.0
#include "Vmbus.h"

extern "C" {
#include <Library/DevicePathLib.h>
}

namespace bygone::vmbus {
namespace {

/// Hyper-V's node for a channel: the vendor node is followed by interface type and instance.
constexpr EFI_GUID kChannelNodeGuid = {0x9b17e5a2, 0x0891, 0x42dd, {0xb6, 0x53, 0x80, 0xb5, 0xc2, 0x28, 0x09, 0xba}};

constexpr UINTN kMaximumDataPages = 2048;

#pragma pack(1)

struct ChannelPath {
  ACPI_EXTENDED_HID_DEVICE_PATH acpi;
  CHAR8 hid[6];
  CHAR8 uid[1];
  CHAR8 cid[1];
  VENDOR_DEVICE_PATH channel;
  EFI_GUID interface_type;
  EFI_GUID interface_instance;
  EFI_DEVICE_PATH_PROTOCOL end;
};

#pragma pack()

class Channel : public ChannelProtocol {
 public:
  EFI_STATUS publish(const Offer& offer);

  EFI_STATUS open(UINTN ring_pages, EFI_EVENT event);
  void close();
  EFI_STATUS send(Part packet, void* data, UINTN data_bytes, UINT64 transaction, bool completes);
  EFI_STATUS receive(PacketHeader& header, void* packet, UINTN& bytes);
  void wait() const;

 private:
  EFI_STATUS open_on_host(EFI_EVENT event);
  EFI_STATUS create_gpadl();
  void tear_down_gpadl() const;
  EFI_STATUS ask_to_open() const;

  ChannelPath path_;
  EFI_HANDLE handle_;
  UINT32 relid_;
  UINT32 connection_id_;
  bool is_open_;
  UINT32 gpadl_;
  Pages pages_;  ///< of both rings
  Ring sending_;
  Ring receiving_;
};

Channel& channel_of(ChannelProtocol* self) { return *static_cast<Channel*>(self); }

/// Page numbers from the first on, as many as have room; returns how many.
template <UINTN N>
UINTN list_pages(UINT64 (&to)[N], UINT64 first, UINTN count) {
  count = MIN(count, N);
  for (UINTN index = 0; index < count; ++index) to[index] = first + index;
  return count;
}

EFI_STATUS Channel::create_gpadl() {
  gpadl_ = bus::new_gpadl();
  const UINT64 first_page = pages_.address(0) >> EFI_PAGE_SHIFT;

  GpadlHeader header = {};
  header.child_relid = relid_;
  header.gpadl = gpadl_;
  header.range_bytes = static_cast<UINT16>(8 + 8 * pages_.count());
  header.range_count = 1;
  header.byte_count = static_cast<UINT32>(EFI_PAGES_TO_SIZE(pages_.count()));
  UINTN done = list_pages(header.page, first_page, pages_.count());
  EFI_STATUS status = bus::post(&header, sizeof header - sizeof header.page + done * sizeof(UINT64));

  GpadlBody body = {};
  body.gpadl = gpadl_;
  while (!EFI_ERROR(status) && done < pages_.count()) {
    ++body.message_number;
    const UINTN count = list_pages(body.page, first_page + done, pages_.count() - done);
    done += count;
    status = bus::post(&body, sizeof body - sizeof body.page + count * sizeof(UINT64));
  }
  if (EFI_ERROR(status)) return status;

  GpadlCreated created;
  status = bus::wait_for(created, [this](const GpadlCreated& message) { return message.gpadl == gpadl_; });
  if (EFI_ERROR(status)) return status;
  return created.status == 0 ? EFI_SUCCESS : EFI_DEVICE_ERROR;
}

void Channel::tear_down_gpadl() const {
  GpadlTeardown teardown = {};
  teardown.child_relid = relid_;
  teardown.gpadl = gpadl_;
  if (EFI_ERROR(bus::post(teardown))) return;
  GpadlTorndown torndown;
  bus::wait_for(torndown, [this](const GpadlTorndown& message) { return message.gpadl == gpadl_; });
}

EFI_STATUS Channel::ask_to_open() const {
  OpenChannel message = {};
  message.child_relid = relid_;
  message.open_id = relid_;
  message.ring_gpadl = gpadl_;
  message.downstream_page_offset = static_cast<UINT32>(pages_.count() / 2);
  EFI_STATUS status = bus::post(message);
  if (EFI_ERROR(status)) return status;
  OpenResult result;
  status = bus::wait_for(result, [this](const OpenResult& answer) { return answer.child_relid == relid_; });
  if (EFI_ERROR(status) || result.status == 0) return status;
  DEBUG((DEBUG_ERROR, "VMBus: channel %d: open refused\n", relid_));
  return EFI_DEVICE_ERROR;
}

EFI_STATUS Channel::open_on_host(EFI_EVENT event) {
  EFI_STATUS status = create_gpadl();
  if (EFI_ERROR(status)) return status;
  hypervisor::set_event(relid_, event);
  status = ask_to_open();
  if (!EFI_ERROR(status)) return EFI_SUCCESS;
  hypervisor::set_event(relid_, nullptr);
  tear_down_gpadl();
  return status;
}

EFI_STATUS Channel::open(UINTN ring_pages, EFI_EVENT event) {
  if (is_open_) return EFI_ALREADY_STARTED;
  if (!pages_.allocate(2 * ring_pages)) return EFI_OUT_OF_RESOURCES;
  sending_.format(pages_.at(0), ring_pages);
  receiving_.format(pages_.at(ring_pages), ring_pages);
  const EFI_STATUS status = open_on_host(event);
  is_open_ = !EFI_ERROR(status);
  if (!is_open_) pages_.free();
  return status;
}

void Channel::close() {
  if (!is_open_) return;
  hypervisor::set_event(relid_, nullptr);
  CloseChannel message = {};
  message.child_relid = relid_;
  bus::post(message);
  tear_down_gpadl();
  pages_.free();
  is_open_ = false;
}

EFI_STATUS Channel::send(Part packet, void* data, UINTN data_bytes, UINT64 transaction, bool completes) {
  static UINT64 data_pages[kMaximumDataPages];
  if (!is_open_) return EFI_NOT_STARTED;
  PacketHeader header = {};
  header.type = data_bytes != 0 ? ChannelPacketType::kGpaDirect : ChannelPacketType::kInBand;
  header.flags = completes ? BIT0 : 0;
  header.transaction = transaction;
  GpaRange range = {};
  Part range_part = {&range, 0};
  Part pages_part = {data_pages, 0};
  bool signal = false;
  EFI_STATUS status = EFI_SUCCESS;
  {
    const RaisedTpl one_at_a_time(TPL_NOTIFY);
    if (data_bytes != 0) {
      const auto address = reinterpret_cast<UINTN>(data);
      range.range_count = 1;
      range.byte_count = static_cast<UINT32>(data_bytes);
      range.byte_offset = static_cast<UINT32>(address & EFI_PAGE_MASK);
      const UINTN count = EFI_SIZE_TO_PAGES(range.byte_offset + data_bytes);
      if (count > kMaximumDataPages) return EFI_BAD_BUFFER_SIZE;
      range_part.count = sizeof range;
      pages_part.count = list_pages(data_pages, address >> EFI_PAGE_SHIFT, count) * sizeof data_pages[0];
    }
    status = sending_.send(header, range_part, pages_part, packet, signal);
  }
  if (signal) hypervisor::signal_event(connection_id_);
  return status;
}

EFI_STATUS Channel::receive(PacketHeader& header, void* packet, UINTN& bytes) {
  if (!is_open_) return EFI_NOT_STARTED;
  bool signal = false;
  const EFI_STATUS status = receiving_.receive(header, packet, bytes, signal);
  if (signal) hypervisor::signal_event(connection_id_);
  return status;
}

void Channel::wait() const {
  if (is_open_ && receiving_.is_empty()) {
    hypervisor::idle([this] { return !receiving_.is_empty(); });
  }
}

// EDK II's way in.

EFI_STATUS EFIAPI channel_open(ChannelProtocol* self, UINTN ring_pages, EFI_EVENT event) {
  return channel_of(self).open(ring_pages, event);
}

void EFIAPI channel_close(ChannelProtocol* self) { channel_of(self).close(); }

EFI_STATUS EFIAPI channel_send(ChannelProtocol* self, const void* packet, UINTN packet_bytes, void* data, UINTN data_bytes,
                               UINT64 transaction, BOOLEAN completes) {
  return channel_of(self).send({packet, packet_bytes}, data, data_bytes, transaction, completes);
}

EFI_STATUS EFIAPI channel_receive(ChannelProtocol* self, void* packet, UINTN* packet_bytes, ChannelPacketType* type,
                                  UINT64* transaction) {
  PacketHeader header;
  const EFI_STATUS status = channel_of(self).receive(header, packet, *packet_bytes);
  if (EFI_ERROR(status)) return status;
  if (type != nullptr) *type = header.type;
  if (transaction != nullptr) *transaction = header.transaction;
  return EFI_SUCCESS;
}

void EFIAPI channel_wait(ChannelProtocol* self) { channel_of(self).wait(); }

void fill(ChannelPath& path, const Offer& offer) {
  path.acpi.Header.Type = ACPI_DEVICE_PATH;
  path.acpi.Header.SubType = ACPI_EXTENDED_DP;
  SetDevicePathNodeLength(&path.acpi.Header, OFFSET_OF(ChannelPath, channel));
  CopyMem(path.hid, "VMBus", sizeof path.hid);
  path.channel.Header.Type = HARDWARE_DEVICE_PATH;
  path.channel.Header.SubType = HW_VENDOR_DP;
  SetDevicePathNodeLength(&path.channel.Header, sizeof(VENDOR_DEVICE_PATH) + 2 * sizeof(EFI_GUID));
  path.channel.Guid = kChannelNodeGuid;
  path.interface_type = offer.interface_type;
  path.interface_instance = offer.interface_instance;
  SetDevicePathEndNode(&path.end);
}

EFI_STATUS Channel::publish(const Offer& offer) {
  static_cast<ChannelProtocol&>(*this) = {
      offer.interface_type, offer.interface_instance, channel_open, channel_close, channel_send, channel_receive, channel_wait};
  relid_ = offer.child_relid;
  connection_id_ = offer.connection_id;
  fill(path_, offer);
  return gBS->InstallMultipleProtocolInterfaces(&handle_, &gEfiDevicePathProtocolGuid, &path_, &gBygoneVmbusChannelProtocolGuid,
                                                static_cast<ChannelProtocol*>(this), nullptr);
}

}  // namespace

EFI_STATUS publish_channel(const Offer& offer) {
  auto channel = Pool<Channel>::create();
  if (!channel) return EFI_OUT_OF_RESOURCES;
  const EFI_STATUS status = channel->publish(offer);
  if (!EFI_ERROR(status)) channel.release();
  return status;
}

}  // namespace bygone::vmbus
