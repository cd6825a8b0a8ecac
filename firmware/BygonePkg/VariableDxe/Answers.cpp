// What the host's store has answered, kept until the boot ends: the boot manager and its libraries ask for the same few variables again
// and again, and for the list of all names, and every command leaves the guest twice. Nobody but us changes a variable before then.
// SPDX-License-Identifier: Apache-2.0
#include "Variable.h"

namespace bygone::variable::answers {
namespace {

/// No more than so many bytes in all; what comes after that is asked for each time.
constexpr UINTN kMostBytes = SIZE_256KB;

struct Kept {
  Kept* next;
  Answer answer;
  host::Command command;
  EFI_GUID vendor;
  UINTN name_bytes;  ///< of the name asked for, which comes first behind this; then the name, then the data answered

  const UINT8* name() const { return reinterpret_cast<const UINT8*>(this + 1); }
  UINTN bytes() const { return sizeof *this + name_bytes + answer.name_bytes + answer.data_bytes; }
  bool is_of(const CHAR16* wanted, UINTN wanted_bytes, const EFI_GUID* wanted_vendor) const {
    return name_bytes == wanted_bytes && CompareMem(name(), wanted, wanted_bytes) == 0 &&
           (wanted_bytes == 0 || CompareGuid(&vendor, wanted_vendor));
  }
};

Kept* first_kept;
UINTN kept_bytes;

/// Returns where the next piece has its place.
UINT8* append(UINT8* to, const void* from, UINTN bytes) {
  CopyMem(to, from, bytes);
  return to + bytes;
}

}  // namespace

const Answer* find(const Question& question) {
  for (const Kept* kept = first_kept; kept != nullptr; kept = kept->next) {
    if (kept->command == question.command && kept->is_of(question.name, question.name_bytes, question.vendor)) return &kept->answer;
  }
  return nullptr;
}

void keep(const Question& question, const Answer& answer) {
  const UINTN bytes = sizeof(Kept) + question.name_bytes + answer.name_bytes + answer.data_bytes;
  if (kept_bytes + bytes > kMostBytes) return;
  void* const memory = AllocatePool(bytes);
  if (memory == nullptr) return;
  auto* const kept = new (memory) Kept{nullptr, answer, question.command, *question.vendor, question.name_bytes};
  UINT8* const name = append(reinterpret_cast<UINT8*>(kept + 1), question.name, question.name_bytes);
  UINT8* const data = append(name, answer.name, answer.name_bytes);
  append(data, answer.data, answer.data_bytes);
  kept->answer.name = name;
  kept->answer.data = data;
  kept_bytes += bytes;
  Kept** end = &first_kept;
  while (*end != nullptr) end = &(*end)->next;
  *end = kept;
}

void forget(Id id) {
  const UINTN name_bytes = id.name_bytes();
  for (Kept** link = &first_kept; *link != nullptr;) {
    Kept* const kept = *link;
    if (kept->command == host::Command::kGet && !kept->is_of(id.name, name_bytes, id.vendor)) {
      link = &kept->next;
      continue;
    }
    *link = kept->next;
    kept_bytes -= kept->bytes();
    FreePool(kept);
  }
}

}  // namespace bygone::variable::answers
