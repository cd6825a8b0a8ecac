// The boot manager's status codes as words: says on all consoles why a boot option did not start, and goes on. A library of BdsDxe alone;
// whoever else reports status codes here reports them to nobody.
// SPDX-License-Identifier: Apache-2.0
#include <BygoneText.h>

extern "C" {
#include <Guid/GlobalVariable.h>
#include <Guid/StatusCodeDataTypeId.h>
#include <Library/BaseLib.h>
#include <Library/PrintLib.h>
#include <Library/ReportStatusCodeLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiRuntimeServicesTableLib.h>
#include <Pi/PiStatusCode.h>
}

namespace {

using bygone::Text;

constexpr EFI_STATUS_CODE_VALUE kLoadError = EFI_SOFTWARE_DXE_BS_DRIVER | EFI_SW_DXE_BS_EC_BOOT_OPTION_LOAD_ERROR;
constexpr EFI_STATUS_CODE_VALUE kFailed = EFI_SOFTWARE_DXE_BS_DRIVER | EFI_SW_DXE_BS_EC_BOOT_OPTION_FAILED;

// What comes with them is everything behind the header, and so begins with what the compiler puts between header and status.
constexpr UINTN kDataBytes = sizeof(EFI_RETURN_STATUS_EXTENDED_DATA) - sizeof(EFI_STATUS_CODE_DATA);
constexpr UINTN kStatusOffset = OFFSET_OF(EFI_RETURN_STATUS_EXTENDED_DATA, ReturnStatus) - sizeof(EFI_STATUS_CODE_DATA);

/// What a Boot#### variable begins with (UEFI 2.10, 3.1.3), and the name as far as there is room for it.
#pragma pack(1)
struct Option {
  UINT32 attributes;
  UINT16 path_bytes;
  CHAR16 name[509];
  CHAR16 end;  ///< whatever the name is, it ends
};
#pragma pack()

/// Reads as much of a global variable as there is room for. False: there is none, or it is longer.
template <typename Value>
bool read_global(CHAR16* name, Value& value, UINTN room = sizeof(Value)) {
  return !EFI_ERROR(gRT->GetVariable(name, &gEfiGlobalVariableGuid, nullptr, &room, &value));
}

/// The option that is being booted, by its name; at least by its number.
void describe_current(Text<128>& text) {
  UINT16 number = 0;
  if (!read_global(bygone::wide("BootCurrent").characters, number)) {
    text.print("a boot option");
    return;
  }
  Text<9> variable;
  variable.print("Boot%04x", number);
  Option option = {};
  if (read_global(variable.data(), option, OFFSET_OF(Option, end))) {
    text.print("%s \"%s\"", variable.data(), option.name);
  } else {
    text.print("%s", variable.data());
  }
}

}  // namespace

EFI_STATUS EFIAPI ReportStatusCodeEx(EFI_STATUS_CODE_TYPE, EFI_STATUS_CODE_VALUE value, UINT32, const EFI_GUID*, const EFI_GUID*,
                                     const void* data, UINTN bytes) {
  if ((value != kLoadError && value != kFailed) || gST->ConOut == nullptr || data == nullptr || bytes != kDataBytes) return EFI_SUCCESS;
  const auto* const status = static_cast<const UINT8*>(data) + kStatusOffset;
  const EFI_STATUS reason = ReadUnaligned64(reinterpret_cast<const UINT64*>(status));
  Text<128> option;
  describe_current(option);
  Text<256> message;
  message.print(value == kLoadError ? "Bygone: %s does not start: %r\r\n" : "Bygone: %s ended: %r\r\n", option.data(), reason);
  return gST->ConOut->OutputString(gST->ConOut, message.data());
}

EFI_STATUS EFIAPI ReportStatusCode(EFI_STATUS_CODE_TYPE, EFI_STATUS_CODE_VALUE) { return EFI_SUCCESS; }

EFI_STATUS EFIAPI ReportStatusCodeWithDevicePath(EFI_STATUS_CODE_TYPE, EFI_STATUS_CODE_VALUE, const EFI_DEVICE_PATH_PROTOCOL*) {
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI ReportStatusCodeWithExtendedData(EFI_STATUS_CODE_TYPE, EFI_STATUS_CODE_VALUE, const void*, UINTN) { return EFI_SUCCESS; }

BOOLEAN EFIAPI ReportPostCodeEnabled() { return FALSE; }
BOOLEAN EFIAPI ReportProgressCodeEnabled() { return FALSE; }
BOOLEAN EFIAPI ReportErrorCodeEnabled() { return TRUE; }
BOOLEAN EFIAPI ReportDebugCodeEnabled() { return FALSE; }

BOOLEAN EFIAPI CodeTypeEnabled(EFI_STATUS_CODE_TYPE type) { return (type & EFI_STATUS_CODE_TYPE_MASK) == EFI_ERROR_CODE; }
