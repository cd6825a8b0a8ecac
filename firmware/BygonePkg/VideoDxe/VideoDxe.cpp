// Driver binding and the video channel:
//
//   VERSION_REQUEST -> VERSION_RESPONSE -> VRAM_LOCATION -> ACK -> SITUATION_UPDATE (each mode) ...
//
// The framebuffer is memory that the host shows whether or not it is told of changes; a host that wants to be told says so
// (FEATURE_CHANGE), and then hears ten times a second that the whole picture may have changed: boot loaders draw without us.
// SPDX-License-Identifier: Apache-2.0
#include "Video.h"

#include <BygoneBlob.h>

namespace bygone::video {
namespace {

constexpr UINTN kRingPages = 4;
constexpr UINT64 kStartTimeoutNs = 5000000000;
constexpr UINT64 kDirtPeriod = 1000000;        ///< 100 ms in 100 ns units
constexpr UINTN kVideoMemoryBytes = SIZE_8MB;  ///< behind the framebuffer

/// Major version in the low half.
constexpr UINT32 kVersions[] = {0x00050003, 0x00020003, 0x00000003};

}  // namespace

template <typename Body>
EFI_STATUS Video::send(const Body& body) {
  constexpr UINT32 kBytes = sizeof(Message<Body>) - kPipeHeaderBytes;
  const Message<Body> message = {{kPipeData, kBytes, Body::kType, kBytes}, body};
  return channel_.send(message, sizeof message);
}

void Video::handle(const Feature& feature) {
  const bool is_dirt_needed = feature.dirt_needed != 0;
  if (is_dirt_needed != is_dirt_needed_ && tick_.get() != nullptr) {
    is_dirt_needed_ = is_dirt_needed;
    gBS->SetTimer(tick_.get(), is_dirt_needed ? TimerPeriodic : TimerCancel, kDirtPeriod);
  }
  if (feature.situation_needed != 0) send_situation();
  if (feature.pointer_position_needed != 0) send(PointerPosition{});
}

void Video::on_channel(EFI_EVENT) {
  Received message;
  while (!EFI_ERROR(channel_.receive(message))) {
    if (message.header.type == MessageType::kFeatureChange) handle(message.feature);
  }
}

void Video::on_tick(EFI_EVENT) {
  Dirt dirt = {};
  dirt.count = 1;
  dirt.right = static_cast<INT32>(information_.HorizontalResolution);
  dirt.bottom = static_cast<INT32>(information_.VerticalResolution);
  send(dirt);
}

EFI_STATUS Video::send_situation() {
  if (information_.HorizontalResolution == 0) return EFI_NOT_READY;
  Situation situation = {};
  situation.output_count = 1;
  situation.active = 1;
  situation.depth = 32;
  situation.width = information_.HorizontalResolution;
  situation.height = information_.VerticalResolution;
  situation.pitch = information_.PixelsPerScanLine * 4;
  return send(situation);
}

EFI_STATUS Video::wait_for(MessageType type, Received& message) {
  return channel_.wait_for(message, kStartTimeoutNs, [this, type](const Received& received, ChannelPacketType, UINT64) {
    if (received.header.type == MessageType::kFeatureChange) handle(received.feature);
    return received.header.type == type;
  });
}

EFI_STATUS Video::agree_on(UINT32 version) {
  EFI_STATUS status = send(VersionRequest{version});
  if (EFI_ERROR(status)) return status;
  Received answer;
  status = wait_for(MessageType::kVersionResponse, answer);
  if (EFI_ERROR(status)) return status;
  return answer.version_response.accepted != 0 ? EFI_SUCCESS : EFI_INCOMPATIBLE_VERSION;
}

EFI_STATUS Video::negotiate() {
  EFI_STATUS status = EFI_INCOMPATIBLE_VERSION;
  for (const UINT32 version : kVersions) {
    status = agree_on(version);
    if (status != EFI_INCOMPATIBLE_VERSION) break;
  }
  if (EFI_ERROR(status)) return status;
  status = send(VramLocation{frame_buffer_, 1, frame_buffer_});
  if (EFI_ERROR(status)) return status;
  Received acknowledgement;
  return wait_for(MessageType::kVramLocationAck, acknowledgement);
}

EFI_STATUS Video::start(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller) {
  const auto* const gap = blob::here().find<blob::MmioRange>();
  if (gap == nullptr || gap->pages < EFI_SIZE_TO_PAGES(kVideoMemoryBytes)) return EFI_OUT_OF_RESOURCES;
  frame_buffer_ = gap->base();
  offer_graphics();
  channel_event_.create<&Video::on_channel>(EVT_NOTIFY_SIGNAL, TPL_NOTIFY, *this);
  tick_.create<&Video::on_tick>(EVT_TIMER | EVT_NOTIFY_SIGNAL, TPL_CALLBACK, *this);

  EFI_STATUS status = channel_.open(binding, controller, kRingPages, channel_event_.get(), [this] { return negotiate(); });
  if (EFI_ERROR(status)) return status;
  status = set_mode(0);
  if (EFI_ERROR(status)) return status;
  return gBS->InstallMultipleProtocolInterfaces(&controller, kProtocol, static_cast<Protocol*>(this), nullptr);
}

EFI_STATUS Video::withdraw(EFI_HANDLE controller) {
  return gBS->UninstallMultipleProtocolInterfaces(controller, kProtocol, static_cast<Protocol*>(this), nullptr);
}

Video::~Video() {
  if (configuration_ != nullptr) FreePool(configuration_);
}

}  // namespace bygone::video

extern "C" EFI_STATUS EFIAPI VideoEntry(EFI_HANDLE image, EFI_SYSTEM_TABLE* system) {
  return bygone::ChannelBinding<bygone::video::Video>::install(image, system);
}
