// The UEFI variable services (UEFI 2.10, 8.2). A name lives in one store only: setting it in one with other attributes than it has in the
// other is refused, as for any change of attributes.
// SPDX-License-Identifier: Apache-2.0
#include "Variable.h"

extern "C" {
#include <Library/UefiRuntimeServicesTableLib.h>
}

namespace bygone::variable {
namespace {

constexpr UINT32 kKnown = EFI_VARIABLE_NON_VOLATILE | EFI_VARIABLE_BOOTSERVICE_ACCESS | EFI_VARIABLE_RUNTIME_ACCESS |
                          EFI_VARIABLE_HARDWARE_ERROR_RECORD | EFI_VARIABLE_APPEND_WRITE |
                          EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS;
constexpr UINT32 kAccess = EFI_VARIABLE_BOOTSERVICE_ACCESS | EFI_VARIABLE_RUNTIME_ACCESS;
constexpr UINT32 kNonVolatile = EFI_VARIABLE_NON_VOLATILE;
constexpr UINT32 kRuntimeAccess = EFI_VARIABLE_RUNTIME_ACCESS;
constexpr UINT32 kAppend = EFI_VARIABLE_APPEND_WRITE;

EFI_STATUS EFIAPI get_variable(CHAR16* name, EFI_GUID* vendor, UINT32* attributes, UINTN* bytes, void* data) {
  if (name == nullptr || vendor == nullptr || bytes == nullptr) return EFI_INVALID_PARAMETER;
  if (name[0] == 0) return EFI_NOT_FOUND;
  const EFI_STATUS status = volatile_store::get({name, vendor}, {attributes, bytes, data});
  return status != EFI_NOT_FOUND ? status : host::get({name, vendor}, {attributes, bytes, data});
}

bool is_volatile(Id id) {
  UINTN bytes = 0;
  return volatile_store::get(id, {nullptr, &bytes, nullptr}) != EFI_NOT_FOUND;
}

bool is_on_host(Id id) {
  UINTN bytes = 0;
  return host::get(id, {nullptr, &bytes, nullptr}) != EFI_NOT_FOUND;
}

EFI_STATUS EFIAPI get_next_variable_name(UINTN* bytes, CHAR16* name, EFI_GUID* vendor) {
  if (bytes == nullptr || name == nullptr || vendor == nullptr) return EFI_INVALID_PARAMETER;
  const UINTN length = *bytes / sizeof(CHAR16);
  if (StrnLenS(name, length) == length) return EFI_INVALID_PARAMETER;  // not terminated

  // The volatile store first; after its last name come the host's.
  const NameOut to = {bytes, name, vendor};
  if (name[0] == 0 || is_volatile({name, vendor})) {
    const EFI_STATUS status = volatile_store::next_name(to);
    return status != EFI_NOT_FOUND ? status : host::first_name(to);
  }
  const EFI_STATUS status = host::next_name(to);
  // A name that does not exist is the caller's error, not the end of the list.
  if (status == EFI_NOT_FOUND && !is_on_host({name, vendor})) return EFI_INVALID_PARAMETER;
  return status;
}

/// The attributes a name has now, or EFI_NOT_FOUND. Of one on the host only that it is there.
EFI_STATUS current_attributes(Id id, UINT32& attributes) {
  UINTN bytes = 0;
  if (volatile_store::get(id, {&attributes, &bytes, nullptr}) != EFI_NOT_FOUND) return EFI_SUCCESS;
  bytes = 0;
  attributes = kNonVolatile;
  const EFI_STATUS status = host::get(id, {nullptr, &bytes, nullptr});
  return status == EFI_BUFFER_TOO_SMALL ? EFI_SUCCESS : status;
}

/// What no variable may have.
EFI_STATUS check(UINT32 attributes) {
  if ((attributes & EFI_VARIABLE_AUTHENTICATED_WRITE_ACCESS) != 0) return EFI_UNSUPPORTED;  // deprecated form
  // As long as there is no Secure Boot nothing checks a signature, and none passes.
  if ((attributes & EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS) != 0) return EFI_SECURITY_VIOLATION;
  if ((attributes & ~kKnown) != 0 || (attributes & kAccess) == kRuntimeAccess) return EFI_INVALID_PARAMETER;
  return EFI_SUCCESS;
}

EFI_STATUS set(Id id, Value value) {
  const UINT32 attributes = value.attributes;
  const bool deletes = (attributes & kAccess) == 0 || (value.bytes == 0 && (attributes & kAppend) == 0);
  UINT32 current = 0;
  const EFI_STATUS status = current_attributes(id, current);
  const bool is_new = status == EFI_NOT_FOUND;
  if (is_new) {
    if (deletes) return EFI_NOT_FOUND;
    // At run time only non-volatile variables with runtime access can be made.
    constexpr UINT32 kNeeded = kNonVolatile | kRuntimeAccess;
    if (EfiAtRuntime() && (attributes & kNeeded) != kNeeded) return EFI_INVALID_PARAMETER;
    current = attributes;
  } else if (EFI_ERROR(status)) {
    return status;
  } else if (!deletes && ((attributes ^ current) & kNonVolatile) != 0) {
    return EFI_INVALID_PARAMETER;
  }
  if ((current & kNonVolatile) != 0 && host::is_present()) return host::set(id, value);
  if (EfiAtRuntime()) return EFI_WRITE_PROTECTED;
  if (!deletes && !is_new && ((attributes ^ current) & ~kAppend) != 0) return EFI_INVALID_PARAMETER;
  if (deletes) value.bytes = 0;
  return volatile_store::set(id, value);
}

EFI_STATUS EFIAPI set_variable(CHAR16* name, EFI_GUID* vendor, UINT32 attributes, UINTN bytes, void* data) {
  if (name == nullptr || name[0] == 0 || vendor == nullptr || (bytes != 0 && data == nullptr)) return EFI_INVALID_PARAMETER;
  const EFI_STATUS status = check(attributes);
  return EFI_ERROR(status) ? status : set({name, vendor}, {attributes, data, bytes});
}

EFI_STATUS EFIAPI query_variable_info(UINT32 attributes, UINT64* maximum, UINT64* remaining, UINT64* largest_variable) {
  if (maximum == nullptr || remaining == nullptr || largest_variable == nullptr || (attributes & EFI_VARIABLE_BOOTSERVICE_ACCESS) == 0) {
    return EFI_INVALID_PARAMETER;
  }
  if ((attributes & EFI_VARIABLE_AUTHENTICATED_WRITE_ACCESS) != 0) return EFI_UNSUPPORTED;
  Space space = {};
  if ((attributes & kNonVolatile) != 0 && host::is_present()) {
    const EFI_STATUS status = host::query(attributes, space);
    if (EFI_ERROR(status)) return status;
  } else {
    space = volatile_store::query();
  }
  *maximum = space.maximum;
  *remaining = space.remaining;
  *largest_variable = space.largest_variable;
  return EFI_SUCCESS;
}

void EFIAPI on_exit_boot_services(EFI_EVENT, void*) { host::enter_runtime(); }

void EFIAPI on_address_change(EFI_EVENT, void*) {
  host::convert_pointers();
  volatile_store::convert_pointers();
}

EFI_STATUS start() {
  EFI_STATUS status = host::start();
  if (EFI_ERROR(status)) return status;
  status = volatile_store::start();
  if (EFI_ERROR(status)) return status;
  EFI_EVENT event = nullptr;
  status = gBS->CreateEvent(EVT_SIGNAL_EXIT_BOOT_SERVICES, TPL_NOTIFY, on_exit_boot_services, nullptr, &event);
  if (EFI_ERROR(status)) return status;
  status = gBS->CreateEventEx(EVT_NOTIFY_SIGNAL, TPL_NOTIFY, on_address_change, nullptr, &gEfiEventVirtualAddressChangeGuid, &event);
  if (EFI_ERROR(status)) return status;

  gRT->GetVariable = get_variable;
  gRT->GetNextVariableName = get_next_variable_name;
  gRT->SetVariable = set_variable;
  gRT->QueryVariableInfo = query_variable_info;
  EFI_HANDLE handle = nullptr;
  return gBS->InstallMultipleProtocolInterfaces(&handle, &gEfiVariableArchProtocolGuid, nullptr, &gEfiVariableWriteArchProtocolGuid, nullptr,
                                                nullptr);
}

}  // namespace
}  // namespace bygone::variable

extern "C" EFI_STATUS EFIAPI VariableEntry(EFI_HANDLE, EFI_SYSTEM_TABLE*) { return bygone::variable::start(); }
