// Which devices are consoles: decided anew at each boot from what the host offers.
// SPDX-License-Identifier: Apache-2.0
#include "PlatformBootManager.h"

extern "C" {
#include <Guid/SerialPortLibVendor.h>
#include <Guid/TtyTerm.h>
#include <Library/IoLib.h>
}

namespace bygone::boot {
namespace {

constexpr UINTN kCom1LineStatus = 0x3FD;

#pragma pack(1)

struct SerialConsolePath {
  VENDOR_DEVICE_PATH serial;
  UART_DEVICE_PATH uart;
  VENDOR_DEVICE_PATH terminal;
  EFI_DEVICE_PATH_PROTOCOL end;
};

#pragma pack()

template <typename Node>
constexpr EFI_DEVICE_PATH_PROTOCOL header(UINT8 type, UINT8 subtype) {
  return {type, subtype, {sizeof(Node), 0}};
}

SerialConsolePath serial_console = {{header<VENDOR_DEVICE_PATH>(HARDWARE_DEVICE_PATH, HW_VENDOR_DP), EDKII_SERIAL_PORT_LIB_VENDOR_GUID},
                                    {header<UART_DEVICE_PATH>(MESSAGING_DEVICE_PATH, MSG_UART_DP), 0, 115200, 8, 1, 1},
                                    {header<VENDOR_DEVICE_PATH>(MESSAGING_DEVICE_PATH, MSG_VENDOR_DP), EFI_TTY_TERM_GUID},
                                    header<EFI_DEVICE_PATH_PROTOCOL>(END_DEVICE_PATH_TYPE, END_ENTIRE_DEVICE_PATH_SUBTYPE)};

}  // namespace

void describe_consoles() {
  for_each_channel(kVideoInterface, [](EFI_HANDLE handle) {
    EfiBootManagerUpdateConsoleVariable(ConOut, DevicePathFromHandle(handle), nullptr);
  });
  for_each_channel(kKeyboardInterface, [](EFI_HANDLE handle) {
    EfiBootManagerUpdateConsoleVariable(ConIn, DevicePathFromHandle(handle), nullptr);
  });
  EFI_DEVICE_PATH_PROTOCOL* const serial = &serial_console.serial.Header;
  const bool has_serial = IoRead8(kCom1LineStatus) != MAX_UINT8;
  constexpr CONSOLE_TYPE kConsoles[] = {ConOut, ConIn, ErrOut};
  for (const CONSOLE_TYPE console : kConsoles) {
    EfiBootManagerUpdateConsoleVariable(console, has_serial ? serial : nullptr, has_serial ? nullptr : serial);
  }
}

}  // namespace bygone::boot
