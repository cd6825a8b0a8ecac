/** @file
  The UEFI variable services (UEFI 2.10, 8.2). A name lives in one store only: setting it in one with other attributes than it has
  in the other is refused, as for any change of attributes.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Variable.h"

#define KNOWN_ATTRIBUTES  (EFI_VARIABLE_NON_VOLATILE | EFI_VARIABLE_BOOTSERVICE_ACCESS | EFI_VARIABLE_RUNTIME_ACCESS | \
                           EFI_VARIABLE_HARDWARE_ERROR_RECORD | EFI_VARIABLE_APPEND_WRITE | \
                           EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS)
#define ACCESS_ATTRIBUTES  (EFI_VARIABLE_BOOTSERVICE_ACCESS | EFI_VARIABLE_RUNTIME_ACCESS)

STATIC EFI_STATUS
EFIAPI
GetVariable (
  IN     CHAR16    *VariableName,
  IN     EFI_GUID  *VendorGuid,
  OUT    UINT32    *Attributes OPTIONAL,
  IN OUT UINTN     *DataSize,
  OUT    VOID      *Data OPTIONAL
  )
{
  EFI_STATUS  Status;

  if ((VariableName == NULL) || (VendorGuid == NULL) || (DataSize == NULL)) {
    return EFI_INVALID_PARAMETER;
  }

  if (VariableName[0] == 0) {
    return EFI_NOT_FOUND;
  }

  Status = VolatileGet (VariableName, VendorGuid, Attributes, DataSize, Data);
  if (Status == EFI_NOT_FOUND) {
    Status = HostGet (VariableName, VendorGuid, Attributes, DataSize, Data);
  }

  return Status;
}

STATIC EFI_STATUS
EFIAPI
GetNextVariableName (
  IN OUT UINTN     *VariableNameSize,
  IN OUT CHAR16    *VariableName,
  IN OUT EFI_GUID  *VendorGuid
  )
{
  EFI_STATUS  Status;
  UINTN       Bytes;
  UINTN       Length;

  if ((VariableNameSize == NULL) || (VariableName == NULL) || (VendorGuid == NULL)) {
    return EFI_INVALID_PARAMETER;
  }

  Length = *VariableNameSize / sizeof (CHAR16);
  if (StrnLenS (VariableName, Length) == Length) {
    return EFI_INVALID_PARAMETER;                   // not terminated
  }

  // The volatile store first; after its last name come the host's.
  Bytes = 0;
  if ((VariableName[0] == 0) ||
      (VolatileGet (VariableName, VendorGuid, NULL, &Bytes, NULL) != EFI_NOT_FOUND))
  {
    Status = VolatileNextName (VariableNameSize, VariableName, VendorGuid);
    if (Status != EFI_NOT_FOUND) {
      return Status;
    }

    return HostFirstName (VariableNameSize, VariableName, VendorGuid);
  }

  Status = HostNextName (VariableNameSize, VariableName, VendorGuid);
  if (Status == EFI_NOT_FOUND) {
    // A name that does not exist is the caller's error, not the end of the list.
    Bytes = 0;
    if (HostGet (VariableName, VendorGuid, NULL, &Bytes, NULL) == EFI_NOT_FOUND) {
      return EFI_INVALID_PARAMETER;
    }
  }

  return Status;
}

/// The attributes a name has now, or EFI_NOT_FOUND.
STATIC EFI_STATUS
CurrentAttributes (
  IN  CHAR16    *Name,
  IN  EFI_GUID  *Vendor,
  OUT UINT32    *Attributes
  )
{
  EFI_STATUS  Status;
  UINTN       Bytes;

  Bytes  = 0;
  Status = VolatileGet (Name, Vendor, Attributes, &Bytes, NULL);
  if (Status != EFI_NOT_FOUND) {
    return EFI_SUCCESS;
  }

  Bytes       = 0;
  *Attributes = EFI_VARIABLE_NON_VOLATILE;
  Status      = HostGet (Name, Vendor, NULL, &Bytes, NULL);
  return (Status == EFI_BUFFER_TOO_SMALL) ? EFI_SUCCESS : Status;
}

STATIC EFI_STATUS
EFIAPI
SetVariable (
  IN CHAR16    *VariableName,
  IN EFI_GUID  *VendorGuid,
  IN UINT32    Attributes,
  IN UINTN     DataSize,
  IN VOID      *Data
  )
{
  EFI_STATUS  Status;
  UINT32      Current;
  BOOLEAN     Deletes;

  if ((VariableName == NULL) || (VariableName[0] == 0) || (VendorGuid == NULL) || ((DataSize != 0) && (Data == NULL))) {
    return EFI_INVALID_PARAMETER;
  }

  if ((Attributes & EFI_VARIABLE_AUTHENTICATED_WRITE_ACCESS) != 0) {
    return EFI_UNSUPPORTED;                         // deprecated form
  }

  // As long as there is no Secure Boot nothing checks a signature, and none passes.
  if ((Attributes & EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS) != 0) {
    return EFI_SECURITY_VIOLATION;
  }

  if (((Attributes & ~(UINT32)KNOWN_ATTRIBUTES) != 0) ||
      ((Attributes & ACCESS_ATTRIBUTES) == EFI_VARIABLE_RUNTIME_ACCESS))
  {
    return EFI_INVALID_PARAMETER;
  }

  Deletes = (BOOLEAN)(((Attributes & ACCESS_ATTRIBUTES) == 0) ||
                      ((DataSize == 0) && ((Attributes & EFI_VARIABLE_APPEND_WRITE) == 0)));
  Status = CurrentAttributes (VariableName, VendorGuid, &Current);
  if (Status == EFI_NOT_FOUND) {
    if (Deletes) {
      return EFI_NOT_FOUND;
    }

    // At run time only non-volatile variables with runtime access can be made.
    if (EfiAtRuntime () &&
        ((Attributes & (EFI_VARIABLE_NON_VOLATILE | EFI_VARIABLE_RUNTIME_ACCESS)) !=
         (EFI_VARIABLE_NON_VOLATILE | EFI_VARIABLE_RUNTIME_ACCESS)))
    {
      return EFI_INVALID_PARAMETER;
    }

    Current = Attributes;
  } else if (EFI_ERROR (Status)) {
    return Status;
  } else if (!Deletes && (((Attributes ^ Current) & EFI_VARIABLE_NON_VOLATILE) != 0)) {
    return EFI_INVALID_PARAMETER;
  }

  if (((Current & EFI_VARIABLE_NON_VOLATILE) != 0) && HostStorePresent ()) {
    return HostSet (VariableName, VendorGuid, Attributes, DataSize, Data);
  }

  if (EfiAtRuntime ()) {
    return EFI_WRITE_PROTECTED;
  }

  if (!Deletes && (Status != EFI_NOT_FOUND) && (((Attributes ^ Current) & ~(UINT32)EFI_VARIABLE_APPEND_WRITE) != 0)) {
    return EFI_INVALID_PARAMETER;
  }

  return VolatileSet (VariableName, VendorGuid, Attributes, Deletes ? 0 : DataSize, Data);
}

STATIC EFI_STATUS
EFIAPI
QueryVariableInfo (
  IN  UINT32  Attributes,
  OUT UINT64  *MaximumVariableStorageSize,
  OUT UINT64  *RemainingVariableStorageSize,
  OUT UINT64  *MaximumVariableSize
  )
{
  if ((MaximumVariableStorageSize == NULL) || (RemainingVariableStorageSize == NULL) || (MaximumVariableSize == NULL) ||
      (Attributes == 0) || ((Attributes & EFI_VARIABLE_BOOTSERVICE_ACCESS) == 0))
  {
    return EFI_INVALID_PARAMETER;
  }

  if ((Attributes & EFI_VARIABLE_AUTHENTICATED_WRITE_ACCESS) != 0) {
    return EFI_UNSUPPORTED;
  }

  if (((Attributes & EFI_VARIABLE_NON_VOLATILE) != 0) && HostStorePresent ()) {
    return HostQuery (
             Attributes,
             MaximumVariableStorageSize,
             RemainingVariableStorageSize,
             MaximumVariableSize
             );
  }

  return VolatileQuery (MaximumVariableStorageSize, RemainingVariableStorageSize, MaximumVariableSize);
}

STATIC VOID
EFIAPI
OnExitBootServices (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  HostStoreEnterRuntime ();
}

STATIC VOID
EFIAPI
OnAddressChange (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  HostStoreConvert ();
  VolatileStoreConvert ();
}

EFI_STATUS
EFIAPI
VariableEntry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  EFI_STATUS  Status;
  EFI_EVENT   Event;
  EFI_HANDLE  Handle;

  Status = HostStoreStart ();
  if (!EFI_ERROR (Status)) {
    Status = VolatileStoreStart ();
  }

  if (!EFI_ERROR (Status)) {
    Status = gBS->CreateEvent (EVT_SIGNAL_EXIT_BOOT_SERVICES, TPL_NOTIFY, OnExitBootServices, NULL, &Event);
  }

  if (!EFI_ERROR (Status)) {
    Status = gBS->CreateEventEx (
                    EVT_NOTIFY_SIGNAL,
                    TPL_NOTIFY,
                    OnAddressChange,
                    NULL,
                    &gEfiEventVirtualAddressChangeGuid,
                    &Event
                    );
  }

  if (EFI_ERROR (Status)) {
    return Status;
  }

  gRT->GetVariable         = GetVariable;
  gRT->GetNextVariableName = GetNextVariableName;
  gRT->SetVariable         = SetVariable;
  gRT->QueryVariableInfo   = QueryVariableInfo;

  Handle = NULL;
  return gBS->InstallMultipleProtocolInterfaces (
                &Handle,
                &gEfiVariableArchProtocolGuid,
                NULL,
                &gEfiVariableWriteArchProtocolGuid,
                NULL,
                NULL
                );
}
