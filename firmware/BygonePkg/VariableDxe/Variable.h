// The two stores behind the variable services. Both live in runtime memory and work before and after SetVirtualAddressMap; the operating
// system serializes runtime calls (UEFI 2.10, 8.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <BygoneCxx.h>

extern "C" {
#include <Library/BaseLib.h>
#include <Library/UefiRuntimeLib.h>
}

namespace bygone::variable {

constexpr UINTN kMaximumNameBytes = SIZE_2KB;
constexpr UINTN kMaximumDataBytes = SIZE_32KB;

/// What a variable is called. `name` ends with 0.
struct Id {
  const CHAR16* name;
  const EFI_GUID* vendor;

  /// With the 0.
  UINTN name_bytes() const { return StrSize(name); }
};

/// Where a caller wants a value; `bytes` is in its room, out the value's length, also where that is more than the room.
struct ValueOut {
  UINT32* attributes;  ///< may be null
  UINTN* bytes;
  void* data;
};

/// Where a caller wants a name; `bytes` as in ValueOut.
struct NameOut {
  UINTN* bytes;
  CHAR16* name;
  EFI_GUID* vendor;
};

struct Value {
  UINT32 attributes;
  const void* data;
  UINTN bytes;
};

struct Space {
  UINT64 maximum;
  UINT64 remaining;
  UINT64 largest_variable;
};

/// Non-volatile variables, by the helper port (Host.cpp).
namespace host {

EFI_STATUS start();
/// False on a host without a store: then all variables are volatile in fact.
bool is_present();
void convert_pointers();
void enter_runtime();

EFI_STATUS get(Id id, ValueOut to);
EFI_STATUS set(Id id, Value value);
EFI_STATUS first_name(NameOut to);
/// After the name that stands in `to`.
EFI_STATUS next_name(NameOut to);
EFI_STATUS query(UINT32 attributes, Space& space);

/// The store's commands (docs/firmware-interface.md, "NVRAM commands").
enum class Command : UINT32 {
  kGet = 0,
  kSet = 1,
  kGetFirstName = 2,
  kGetNextName = 3,
  kQueryInfo = 4,
  kSignalRuntime = 5,
};

}  // namespace host

/// What the host has answered, until the boot ends (Answers.cpp).
namespace answers {

/// A command that only asks, and the name in it.
struct Question {
  host::Command command;
  const CHAR16* name;
  UINTN name_bytes;  ///< 0: the command has no name
  const EFI_GUID* vendor;
};

struct Answer {
  EFI_STATUS status;
  UINT32 attributes;  ///< of kGet
  EFI_GUID vendor;    ///< of the commands for names
  const UINT8* name;  ///< of the commands for names
  UINTN name_bytes;   ///< 0: no name
  const UINT8* data;  ///< of kGet
  UINTN data_bytes;
};

/// Null: nothing is kept. It lives until forget().
const Answer* find(const Question& question);
/// Copies all that `answer` points to. Only before ExitBootServices: it takes memory.
void keep(const Question& question, const Answer& answer);
/// Forgets what a change of this variable makes untrue: its value, and the list of names.
void forget(Id id);

}  // namespace answers

/// Variables that end with the boot (Volatile.cpp).
namespace volatile_store {

EFI_STATUS start();
void convert_pointers();

EFI_STATUS get(Id id, ValueOut to);
EFI_STATUS set(Id id, Value value);
/// After the name that stands in `to`, or the first if that is empty.
EFI_STATUS next_name(NameOut to);
Space query();

}  // namespace volatile_store

}  // namespace bygone::variable
