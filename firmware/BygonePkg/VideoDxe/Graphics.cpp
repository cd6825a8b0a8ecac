// EFI_GRAPHICS_OUTPUT_PROTOCOL (UEFI 2.10, 12.9) on the framebuffer.
// SPDX-License-Identifier: Apache-2.0
#include "Video.h"

namespace bygone::video {
namespace {

using Protocol = EFI_GRAPHICS_OUTPUT_PROTOCOL;
using Information = EFI_GRAPHICS_OUTPUT_MODE_INFORMATION;

struct Resolution {
  UINT16 width;
  UINT16 height;
};

/// Mode 0 is the default. All fit into 8 MiB with 32 bits a pixel.
constexpr Resolution kResolutions[] = {{1024, 768},  {640, 480},  {800, 600},  {1152, 864},  {1280, 720},  {1280, 800}, {1280, 960},
                                       {1280, 1024}, {1440, 900}, {1600, 900}, {1600, 1200}, {1680, 1050}, {1920, 1080}};

Information information_of(UINT32 mode) {
  Information information = {};
  information.HorizontalResolution = kResolutions[mode].width;
  information.VerticalResolution = kResolutions[mode].height;
  information.PixelFormat = PixelBlueGreenRedReserved8BitPerColor;
  information.PixelsPerScanLine = kResolutions[mode].width;
  return information;
}

EFI_STATUS EFIAPI query_mode(Protocol*, UINT32 number, UINTN* bytes, Information** information) {
  if (bytes == nullptr || information == nullptr || number >= ARRAY_SIZE(kResolutions)) return EFI_INVALID_PARAMETER;
  *information = Pool<Information>::create().release();
  if (*information == nullptr) return EFI_OUT_OF_RESOURCES;
  **information = information_of(number);
  *bytes = sizeof **information;
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI set_mode_of(Protocol* self, UINT32 number) { return static_cast<Video*>(self)->set_mode(number); }

EFI_STATUS EFIAPI blt(Protocol* self, EFI_GRAPHICS_OUTPUT_BLT_PIXEL* buffer, EFI_GRAPHICS_OUTPUT_BLT_OPERATION operation, UINTN source_x,
                      UINTN source_y, UINTN destination_x, UINTN destination_y, UINTN width, UINTN height, UINTN delta) {
  const RaisedTpl whole(TPL_NOTIFY);  // drawing from a timer event must not interleave with drawing from below
  const RETURN_STATUS status = FrameBufferBlt(static_cast<Video*>(self)->configuration(), buffer, operation, source_x, source_y,
                                              destination_x, destination_y, width, height, delta);
  return RETURN_ERROR(status) ? EFI_INVALID_PARAMETER : EFI_SUCCESS;
}

}  // namespace

/// FrameBufferBltLib's state for the current mode, whose size it tells when it has too little.
EFI_STATUS Video::configure() {
  const auto attempt = [this] {
    return FrameBufferBltConfigure(reinterpret_cast<void*>(frame_buffer_), &information_, configuration_, &configuration_bytes_);
  };
  RETURN_STATUS status = attempt();
  if (status == RETURN_BUFFER_TOO_SMALL) {
    if (configuration_ != nullptr) FreePool(configuration_);
    configuration_ = static_cast<FRAME_BUFFER_CONFIGURE*>(AllocatePool(configuration_bytes_));
    if (configuration_ == nullptr) {
      configuration_bytes_ = 0;
      return EFI_OUT_OF_RESOURCES;
    }
    status = attempt();
  }
  return RETURN_ERROR(status) ? EFI_DEVICE_ERROR : EFI_SUCCESS;
}

EFI_STATUS Video::set_mode(UINT32 number) {
  if (number >= ARRAY_SIZE(kResolutions)) return EFI_UNSUPPORTED;
  information_ = information_of(number);
  const EFI_STATUS status = configure();
  if (EFI_ERROR(status)) return status;
  mode_.Mode = number;
  mode_.FrameBufferBase = frame_buffer_;
  mode_.FrameBufferSize = UINTN{information_.PixelsPerScanLine} * information_.VerticalResolution * 4;
  SetMem32(reinterpret_cast<void*>(frame_buffer_), mode_.FrameBufferSize, 0);
  send_situation();
  return EFI_SUCCESS;
}

void Video::offer_graphics() {
  static_cast<Protocol&>(*this) = {query_mode, set_mode_of, blt, &mode_};
  mode_.MaxMode = ARRAY_SIZE(kResolutions);
  mode_.Info = &information_;
  mode_.SizeOfInfo = sizeof information_;
}

}  // namespace bygone::video
