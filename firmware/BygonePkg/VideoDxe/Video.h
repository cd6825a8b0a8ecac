// The synthetic video's packets (Linux drivers/gpu/drm/hyperv describes the same wire format) and the driver's state.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Library/VmbusDriverLib.h>

extern "C" {
#include <Library/FrameBufferBltLib.h>
#include <Protocol/GraphicsOutput.h>
}

namespace bygone::video {

enum class MessageType : UINT32 {
  kVersionRequest = 1,
  kVersionResponse = 2,
  kVramLocation = 3,
  kVramLocationAck = 4,
  kSituationUpdate = 5,
  kSituationAck = 6,
  kPointerPosition = 7,
  kPointerShape = 8,
  kFeatureChange = 9,
  kDirt = 10,
};

#pragma pack(1)

/// What a message begins with.
struct Header {
  UINT32 pipe_type;
  UINT32 pipe_bytes;  ///< of what follows
  MessageType type;
  UINT32 bytes;  ///< header included, pipe header not
};

constexpr UINT32 kPipeData = 1;
constexpr UINT32 kPipeHeaderBytes = 8;

struct VersionRequest {
  static constexpr MessageType kType = MessageType::kVersionRequest;
  UINT32 version;
};

struct VersionResponse {
  UINT32 version;
  UINT8 accepted;
  UINT8 maximum_outputs;
};

struct VramLocation {
  static constexpr MessageType kType = MessageType::kVramLocation;
  UINT64 context;
  UINT8 specified;
  UINT64 address;
};

struct Situation {
  static constexpr MessageType kType = MessageType::kSituationUpdate;
  UINT64 context;
  UINT8 output_count;
  UINT8 active;
  UINT32 vram_offset;
  UINT8 depth;
  UINT32 width;
  UINT32 height;
  UINT32 pitch;
};

struct Feature {
  UINT8 dirt_needed;
  UINT8 pointer_position_needed;
  UINT8 pointer_shape_needed;
  UINT8 situation_needed;
  UINT8 edid_updated;
};

struct Dirt {
  static constexpr MessageType kType = MessageType::kDirt;
  UINT8 output;
  UINT8 count;
  INT32 left;
  INT32 top;
  INT32 right;
  INT32 bottom;
};

struct PointerPosition {
  static constexpr MessageType kType = MessageType::kPointerPosition;
  UINT8 visible;
  UINT8 output;
  INT32 x;
  INT32 y;
};

/// A message to the host.
template <typename Body>
struct Message {
  Header header;
  Body body;
};

/// A message from the host.
struct Received {
  Header header;
  union {
    VersionResponse version_response;
    Feature feature;
    UINT8 room[sizeof(Situation)];  ///< of the largest message
  };
};

#pragma pack()

class Video : public EFI_GRAPHICS_OUTPUT_PROTOCOL {
 public:
  static constexpr EFI_GUID kInterface = kVideoInterface;
  static constexpr EFI_GUID* kProtocol = &gEfiGraphicsOutputProtocolGuid;
  static constexpr char kName[] = "video";
  using Protocol = EFI_GRAPHICS_OUTPUT_PROTOCOL;

  Video() = default;
  ~Video();
  EFI_STATUS start(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller);
  EFI_STATUS withdraw(EFI_HANDLE controller);

  EFI_STATUS set_mode(UINT32 number);
  FRAME_BUFFER_CONFIGURE* configuration() const { return configuration_; }

 private:
  /// Fills in the protocol, no mode set yet (Graphics.cpp).
  void offer_graphics();
  EFI_STATUS configure();
  template <typename Body>
  EFI_STATUS send(const Body& body);
  /// Tells the host the current mode.
  EFI_STATUS send_situation();
  void handle(const Feature& feature);
  void on_channel(EFI_EVENT event);
  void on_tick(EFI_EVENT event);
  EFI_STATUS negotiate();
  EFI_STATUS agree_on(UINT32 version);
  /// Waits for a message of a type; a feature change in between is obeyed.
  EFI_STATUS wait_for(MessageType type, Received& message);

  bool is_dirt_needed_;
  EFI_PHYSICAL_ADDRESS frame_buffer_;
  EFI_GRAPHICS_OUTPUT_PROTOCOL_MODE mode_;
  EFI_GRAPHICS_OUTPUT_MODE_INFORMATION information_;
  FRAME_BUFFER_CONFIGURE* configuration_;
  UINTN configuration_bytes_;
  Event tick_;
  Event channel_event_;
  Channel channel_;  ///< closed first
};

}  // namespace bygone::video
