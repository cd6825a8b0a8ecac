// EFI_RNG_PROTOCOL (UEFI 2.10, 37.5): a ChaCha20 key stream whose key is the host's 64 bytes of entropy folded in two, RDRAND mixed in
// where the processor has it. After each request the key is replaced by output, so that what was given out cannot be computed back. The
// entropy in the blob is wiped: the operating system shall not find our key.
// SPDX-License-Identifier: Apache-2.0
#include "ChaCha.h"

#include <BygoneBlob.h>

extern "C" {
#include <PiDxe.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Protocol/Rng.h>
}

namespace {

namespace chacha = bygone::chacha;

chacha::Key key;
bool has_rdrand;

void generate(UINT8* to, UINTN bytes) {
  std::uint64_t nonce = AsmReadTsc();
  UINT64 random = 0;
  if (has_rdrand && AsmRdRand64(&random)) nonce ^= random;
  chacha::Block output = {};
  for (std::uint64_t counter = 1; bytes != 0; ++counter) {
    output = chacha::block(key, counter, nonce);
    const UINTN part = MIN(bytes, sizeof output);
    CopyMem(to, output.data(), part);
    to += part;
    bytes -= part;
  }
  output = chacha::block(key, 0, nonce);
  CopyMem(key.data(), output.data(), sizeof key);
  ZeroMem(output.data(), sizeof output);
}

EFI_STATUS EFIAPI get_info(EFI_RNG_PROTOCOL* self, UINTN* bytes, EFI_RNG_ALGORITHM* algorithms) {
  if (self == nullptr || bytes == nullptr) return EFI_INVALID_PARAMETER;
  const bool fits = *bytes >= sizeof(EFI_RNG_ALGORITHM);
  if (fits && algorithms == nullptr) return EFI_INVALID_PARAMETER;
  *bytes = sizeof(EFI_RNG_ALGORITHM);
  if (!fits) return EFI_BUFFER_TOO_SMALL;
  CopyGuid(algorithms, &gEfiRngAlgorithmRaw);
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI get_rng(EFI_RNG_PROTOCOL* self, EFI_RNG_ALGORITHM* algorithm, UINTN bytes, UINT8* to) {
  if (self == nullptr || bytes == 0 || to == nullptr) return EFI_INVALID_PARAMETER;
  if (algorithm != nullptr && !CompareGuid(algorithm, &gEfiRngAlgorithmRaw)) return EFI_UNSUPPORTED;
  const EFI_TPL level = gBS->RaiseTPL(TPL_NOTIFY);
  generate(to, bytes);
  gBS->RestoreTPL(level);
  return EFI_SUCCESS;
}

EFI_RNG_PROTOCOL protocol = {get_info, get_rng};

}  // namespace

extern "C" EFI_STATUS EFIAPI RngEntry(EFI_HANDLE, EFI_SYSTEM_TABLE*) {
  UINT32 ecx = 0;
  AsmCpuid(1, nullptr, nullptr, &ecx, nullptr);
  has_rdrand = (ecx & BIT30) != 0;

  const bygone::blob::Record entropy = bygone::blob::here().find(bygone::blob::Type::kEntropy);
  const auto words = entropy.all<UINT32>();
  if (words.size() < 2 * key.size()) return EFI_UNSUPPORTED;  // better no random numbers than guessable ones
  for (std::size_t word = 0; word < key.size(); ++word) key[word] = words[word] ^ words[word + key.size()];
  ZeroMem(entropy.payload().begin(), entropy.payload().size());
  EFI_HANDLE handle = nullptr;
  return gBS->InstallMultipleProtocolInterfaces(&handle, &gEfiRngProtocolGuid, &protocol, nullptr);
}
