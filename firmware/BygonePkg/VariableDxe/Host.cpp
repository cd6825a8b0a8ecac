// Commands to the host's variable store (docs/firmware-interface.md, "NVRAM commands"). The descriptor and the bounce buffer keep their
// physical addresses for ever; only our pointers to them change.
// SPDX-License-Identifier: Apache-2.0
#include "Variable.h"

#include <BygoneHelperPorts.h>

namespace bygone::variable::host {
namespace {

using answers::Answer;
using answers::Question;

constexpr UINT64 kPending = MAX_UINT64;

#pragma pack(1)

struct Descriptor {
  Command command;
  UINT64 status;  ///< without the error bit
  union {
    struct {
      UINT32 attributes;
      UINT64 name;
      UINT32 name_bytes;
      EFI_GUID vendor;
      UINT64 data;
      UINT32 data_bytes;
    } variable;
    struct {
      UINT32 attributes;
      Space space;
    } query;
    UINT64 runtime_flags;
  };
};

#pragma pack()

static_assert(sizeof(Descriptor) == 56, "the host's layout");

struct Buffer {
  Descriptor descriptor;
  UINT8 padding[8];
  UINT8 name[kMaximumNameBytes];
  UINT8 data[kMaximumDataBytes];
};

Buffer* buffer;
EFI_PHYSICAL_ADDRESS buffer_address;
bool has_store;
bool has_ended;  ///< the operating system has taken over

Descriptor& new_command(Command command) {
  ZeroMem(&buffer->descriptor, sizeof buffer->descriptor);
  buffer->descriptor.command = command;
  return buffer->descriptor;
}

EFI_STATUS execute() {
  if (!has_store) return EFI_NOT_FOUND;
  volatile Descriptor& descriptor = buffer->descriptor;
  UINT64 status = 0;
  do {
    descriptor.status = kPending;
    MemoryFence();
    helper::write(helper::Selector::kNvramCommand, static_cast<UINT32>(buffer_address));
    MemoryFence();
    status = descriptor.status;
    if (status == kPending) return EFI_DEVICE_ERROR;  // no helper answered
  } while (ENCODE_ERROR(status) == EFI_NOT_READY);
  return status == 0 ? EFI_SUCCESS : ENCODE_ERROR(status);
}

EFI_STATUS set_name(Descriptor& descriptor, Id id) {
  const UINTN bytes = id.name_bytes();
  if (bytes > kMaximumNameBytes) return EFI_INVALID_PARAMETER;
  CopyMem(buffer->name, id.name, bytes);
  descriptor.variable.name = buffer_address + OFFSET_OF(Buffer, name);
  descriptor.variable.name_bytes = static_cast<UINT32>(bytes);
  descriptor.variable.vendor = *id.vendor;
  return EFI_SUCCESS;
}

/// Whether answers are kept: not at run time, when memory is the operating system's and the host may change variables.
bool keeps_answers() { return has_store && !has_ended && !EfiAtRuntime(); }

/// Puts an answer that was kept where the host puts its own.
void recall(const Answer& answer) {
  auto& variable = buffer->descriptor.variable;
  CopyMem(buffer->name, answer.name, answer.name_bytes);
  CopyMem(buffer->data, answer.data, answer.data_bytes);
  variable.name_bytes = static_cast<UINT32>(answer.name_bytes);
  variable.data_bytes = static_cast<UINT32>(answer.data_bytes);
  variable.attributes = answer.attributes;
  if (answer.name_bytes != 0) variable.vendor = answer.vendor;
}

/// The host's own answer as it stands in the buffer.
Answer answer_of(EFI_STATUS status) {
  const Descriptor& descriptor = buffer->descriptor;
  Answer answer = {};
  answer.status = status;
  answer.name = buffer->name;
  answer.data = buffer->data;
  if (EFI_ERROR(status)) return answer;
  if (descriptor.command == Command::kGet) {
    answer.attributes = descriptor.variable.attributes;
    answer.data_bytes = descriptor.variable.data_bytes;
  } else {
    answer.name_bytes = descriptor.variable.name_bytes;
    answer.vendor = descriptor.variable.vendor;
  }
  return answer;
}

/// Executes a command that only asks, or recalls what the host has answered to it before.
EFI_STATUS ask(const Question& question) {
  if (!keeps_answers()) return execute();
  if (const Answer* const found = answers::find(question); found != nullptr) {
    recall(*found);
    return found->status;
  }
  const Answer answer = answer_of(execute());
  // An error other than "there is none" may pass; an answer that is too long is refused by our caller.
  const bool may_pass = EFI_ERROR(answer.status) && answer.status != EFI_NOT_FOUND;
  if (!may_pass && answer.data_bytes <= kMaximumDataBytes && answer.name_bytes <= kMaximumNameBytes) answers::keep(question, answer);
  return answer.status;
}

/// Asks for a name and hands the answer to the caller's buffer, in which the name asked for stands. `asked_bytes`: of that; 0: there is
/// none.
EFI_STATUS ask_name(Descriptor& descriptor, UINTN asked_bytes, NameOut to) {
  descriptor.variable.name = buffer_address + OFFSET_OF(Buffer, name);
  descriptor.variable.name_bytes = kMaximumNameBytes;
  const EFI_STATUS status = ask({descriptor.command, to.name, asked_bytes, to.vendor});
  if (EFI_ERROR(status)) return status;
  const UINTN bytes = descriptor.variable.name_bytes;
  if (bytes > kMaximumNameBytes || bytes < sizeof(CHAR16)) return EFI_DEVICE_ERROR;
  const bool fits = bytes <= *to.bytes;
  *to.bytes = bytes;
  if (!fits) return EFI_BUFFER_TOO_SMALL;
  CopyMem(to.name, buffer->name, bytes);
  *to.vendor = descriptor.variable.vendor;
  return EFI_SUCCESS;
}

}  // namespace

bool is_present() { return has_store; }

EFI_STATUS start() {
  buffer_address = MAX_UINT32;  // the command is a 32-bit port write
  const EFI_STATUS status =
      gBS->AllocatePages(AllocateMaxAddress, EfiRuntimeServicesData, EFI_SIZE_TO_PAGES(sizeof(Buffer)), &buffer_address);
  if (EFI_ERROR(status)) return status;
  buffer = reinterpret_cast<Buffer*>(buffer_address);
  ZeroMem(buffer, sizeof *buffer);
  new_command(Command::kQueryInfo).query.attributes = EFI_VARIABLE_NON_VOLATILE | EFI_VARIABLE_BOOTSERVICE_ACCESS;
  has_store = true;
  has_store = execute() != EFI_DEVICE_ERROR;
  return EFI_SUCCESS;
}

void convert_pointers() { EfiConvertPointer(0, reinterpret_cast<void**>(&buffer)); }

EFI_STATUS get(Id id, ValueOut to) {
  Descriptor& descriptor = new_command(Command::kGet);
  if (EFI_ERROR(set_name(descriptor, id))) return EFI_NOT_FOUND;
  descriptor.variable.data = buffer_address + OFFSET_OF(Buffer, data);
  descriptor.variable.data_bytes = kMaximumDataBytes;
  const EFI_STATUS status = ask({Command::kGet, id.name, id.name_bytes(), id.vendor});
  if (EFI_ERROR(status)) return status == EFI_BUFFER_TOO_SMALL ? EFI_DEVICE_ERROR : status;
  const UINTN bytes = descriptor.variable.data_bytes;
  if (bytes > kMaximumDataBytes) return EFI_DEVICE_ERROR;
  if (to.attributes != nullptr) *to.attributes = descriptor.variable.attributes;
  if (bytes > *to.bytes) {
    *to.bytes = bytes;
    return EFI_BUFFER_TOO_SMALL;
  }
  if (to.data == nullptr && bytes != 0) return EFI_INVALID_PARAMETER;
  CopyMem(to.data, buffer->data, bytes);
  *to.bytes = bytes;
  return EFI_SUCCESS;
}

EFI_STATUS set(Id id, Value value) {
  if (value.bytes > kMaximumDataBytes) return EFI_INVALID_PARAMETER;
  Descriptor& descriptor = new_command(Command::kSet);
  const EFI_STATUS status = set_name(descriptor, id);
  if (EFI_ERROR(status)) return status;
  if (keeps_answers()) answers::forget(id);
  CopyMem(buffer->data, value.data, value.bytes);
  descriptor.variable.attributes = value.attributes;
  descriptor.variable.data = buffer_address + OFFSET_OF(Buffer, data);
  descriptor.variable.data_bytes = static_cast<UINT32>(value.bytes);
  return execute();
}

EFI_STATUS first_name(NameOut to) { return ask_name(new_command(Command::kGetFirstName), 0, to); }

EFI_STATUS next_name(NameOut to) {
  const Id id = {to.name, to.vendor};
  Descriptor& descriptor = new_command(Command::kGetNextName);
  const EFI_STATUS status = set_name(descriptor, id);
  return EFI_ERROR(status) ? status : ask_name(descriptor, id.name_bytes(), to);
}

EFI_STATUS query(UINT32 attributes, Space& space) {
  Descriptor& descriptor = new_command(Command::kQueryInfo);
  descriptor.query.attributes = attributes;
  const EFI_STATUS status = execute();
  if (!EFI_ERROR(status)) space = descriptor.query.space;
  return status;
}

void enter_runtime() {
  has_ended = true;
  new_command(Command::kSignalRuntime);
  execute();
}

}  // namespace bygone::variable::host
