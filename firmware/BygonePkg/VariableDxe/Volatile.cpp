// Volatile variables: a list of records in one block of runtime memory, packed when one is deleted.
// SPDX-License-Identifier: Apache-2.0
#include "Variable.h"

namespace bygone::variable::volatile_store {
namespace {

constexpr UINTN kStoreBytes = SIZE_128KB;

/// Its name and its data follow it.
struct Record {
  UINT32 bytes;  ///< of the whole record, a multiple of 8
  UINT32 attributes;
  UINT32 name_bytes;
  UINT32 data_bytes;
  EFI_GUID vendor;

  CHAR16* name() { return reinterpret_cast<CHAR16*>(this + 1); }
  UINT8* data() { return reinterpret_cast<UINT8*>(this + 1) + name_bytes; }
  /// After ExitBootServices, variables without runtime access are invisible.
  bool is_visible() const { return !EfiAtRuntime() || (attributes & EFI_VARIABLE_RUNTIME_ACCESS) != 0; }
};

UINT8* store;
UINTN used;

Record& at(UINTN offset) { return *reinterpret_cast<Record*>(store + offset); }

UINTN offset_of(const Record& record) { return static_cast<UINTN>(reinterpret_cast<const UINT8*>(&record) - store); }

Record* find(Id id) {
  for (UINTN offset = 0; offset < used; offset += at(offset).bytes) {
    Record& record = at(offset);
    if (record.is_visible() && CompareGuid(&record.vendor, id.vendor) && StrCmp(record.name(), id.name) == 0) return &record;
  }
  return nullptr;
}

void remove(Record& record) {
  const UINTN offset = offset_of(record);
  const UINTN bytes = record.bytes;
  CopyMem(store + offset, store + offset + bytes, used - offset - bytes);
  used -= bytes;
}

}  // namespace

EFI_STATUS start() {
  EFI_PHYSICAL_ADDRESS address = 0;
  const EFI_STATUS status = gBS->AllocatePages(AllocateAnyPages, EfiRuntimeServicesData, EFI_SIZE_TO_PAGES(kStoreBytes), &address);
  if (!EFI_ERROR(status)) store = reinterpret_cast<UINT8*>(address);
  return status;
}

void convert_pointers() { EfiConvertPointer(0, reinterpret_cast<void**>(&store)); }

EFI_STATUS get(Id id, ValueOut to) {
  Record* const record = find(id);
  if (record == nullptr) return EFI_NOT_FOUND;
  const UINTN room = *to.bytes;
  *to.bytes = record->data_bytes;
  if (to.attributes != nullptr) *to.attributes = record->attributes;
  if (room < record->data_bytes) return EFI_BUFFER_TOO_SMALL;
  if (to.data == nullptr) return EFI_INVALID_PARAMETER;
  CopyMem(to.data, record->data(), record->data_bytes);
  return EFI_SUCCESS;
}

EFI_STATUS set(Id id, Value value) {
  Record* const old = find(id);
  const UINTN old_bytes = old != nullptr && (value.attributes & EFI_VARIABLE_APPEND_WRITE) != 0 ? old->data_bytes : 0;
  const UINTN name_bytes = id.name_bytes();
  if (name_bytes > kMaximumNameBytes || value.bytes > kMaximumDataBytes - old_bytes) return EFI_INVALID_PARAMETER;
  const UINTN bytes = ALIGN_VALUE(sizeof(Record) + name_bytes + old_bytes + value.bytes, 8);
  if (bytes > kStoreBytes - used) return EFI_OUT_OF_RESOURCES;

  // The new record first, then the old one goes: the caller's data may be the old record's own.
  Record& record = at(used);
  record.bytes = static_cast<UINT32>(bytes);
  record.attributes = value.attributes & ~static_cast<UINT32>(EFI_VARIABLE_APPEND_WRITE);
  record.name_bytes = static_cast<UINT32>(name_bytes);
  record.data_bytes = static_cast<UINT32>(old_bytes + value.bytes);
  record.vendor = *id.vendor;
  CopyMem(record.name(), id.name, name_bytes);
  if (old_bytes != 0) CopyMem(record.data(), old->data(), old_bytes);
  CopyMem(record.data() + old_bytes, value.data, value.bytes);
  used += bytes;
  if (old != nullptr) remove(*old);

  // No data: the variable is deleted. Done last, so that deletion and change are one path.
  if (value.bytes + old_bytes == 0) {
    if (Record* const empty = find(id); empty != nullptr) remove(*empty);
  }
  return EFI_SUCCESS;
}

EFI_STATUS next_name(NameOut to) {
  UINTN offset = 0;
  if (to.name[0] != 0) {
    const Record* const record = find({to.name, to.vendor});
    if (record == nullptr) return EFI_NOT_FOUND;
    offset = offset_of(*record) + record->bytes;
  }
  while (offset < used && !at(offset).is_visible()) offset += at(offset).bytes;
  if (offset >= used) return EFI_NOT_FOUND;
  Record& record = at(offset);
  const bool fits = *to.bytes >= record.name_bytes;
  *to.bytes = record.name_bytes;
  if (!fits) return EFI_BUFFER_TOO_SMALL;
  CopyMem(to.name, record.name(), record.name_bytes);
  *to.vendor = record.vendor;
  return EFI_SUCCESS;
}

Space query() { return {kStoreBytes, kStoreBytes - used, kMaximumDataBytes}; }

}  // namespace bygone::variable::volatile_store
