/** @file
  EFI_RNG_PROTOCOL (UEFI 2.10, 37.5): a ChaCha20 key stream (RFC 8439) whose key is the host's 64 bytes of entropy folded in two,
  RDRAND mixed in where the processor has it. After each request the key is replaced by output, so that what was given out
  cannot be computed back. The entropy in the blob is wiped: the operating system shall not find our key.

  SPDX-License-Identifier: Apache-2.0
**/
#include <PiDxe.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/BlobLib.h>
#include <Library/DebugLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Protocol/Rng.h>

#define KEY_WORDS    8
#define BLOCK_WORDS  16

STATIC UINT32   mKey[KEY_WORDS];
STATIC BOOLEAN  mRdrand;

STATIC VOID
Quarter (
  IN OUT UINT32  *State,
  IN     UINTN   A,
  IN     UINTN   B,
  IN     UINTN   C,
  IN     UINTN   D
  )
{
  State[A] += State[B];
  State[D]  = LRotU32 (State[D] ^ State[A], 16);
  State[C] += State[D];
  State[B]  = LRotU32 (State[B] ^ State[C], 12);
  State[A] += State[B];
  State[D]  = LRotU32 (State[D] ^ State[A], 8);
  State[C] += State[D];
  State[B]  = LRotU32 (State[B] ^ State[C], 7);
}

STATIC VOID
Block (
  IN  CONST UINT32  Key[KEY_WORDS],
  IN  UINT64        Counter,
  IN  UINT64        Nonce,
  OUT UINT32        Output[BLOCK_WORDS]
  )
{
  UINT32  Start[BLOCK_WORDS] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 };
  UINTN   Index;

  CopyMem (&Start[4], Key, KEY_WORDS * sizeof (UINT32));
  CopyMem (&Start[12], &Counter, sizeof (Counter));
  CopyMem (&Start[14], &Nonce, sizeof (Nonce));
  CopyMem (Output, Start, sizeof (Start));
  for (Index = 0; Index < 10; ++Index) {
    Quarter (Output, 0, 4, 8, 12);
    Quarter (Output, 1, 5, 9, 13);
    Quarter (Output, 2, 6, 10, 14);
    Quarter (Output, 3, 7, 11, 15);
    Quarter (Output, 0, 5, 10, 15);
    Quarter (Output, 1, 6, 11, 12);
    Quarter (Output, 2, 7, 8, 13);
    Quarter (Output, 3, 4, 9, 14);
  }

  for (Index = 0; Index < BLOCK_WORDS; ++Index) {
    Output[Index] += Start[Index];
  }
}

STATIC VOID
Generate (
  OUT UINT8  *Buffer,
  IN  UINTN  Bytes
  )
{
  UINT32  Output[BLOCK_WORDS];
  UINT64  Counter;
  UINT64  Nonce;
  UINTN   Part;

  Nonce = AsmReadTsc ();
  if (mRdrand) {
    UINT64  Random;

    if (AsmRdRand64 (&Random)) {
      Nonce ^= Random;
    }
  }

  for (Counter = 1; Bytes != 0; ++Counter) {
    Block (mKey, Counter, Nonce, Output);
    Part = MIN (Bytes, sizeof (Output));
    CopyMem (Buffer, Output, Part);
    Buffer += Part;
    Bytes  -= Part;
  }

  Block (mKey, 0, Nonce, Output);
  CopyMem (mKey, Output, sizeof (mKey));
  ZeroMem (Output, sizeof (Output));
}

STATIC EFI_STATUS
EFIAPI
GetInfo (
  IN     EFI_RNG_PROTOCOL   *This,
  IN OUT UINTN              *AlgorithmListBytes,
  OUT    EFI_RNG_ALGORITHM  *AlgorithmList
  )
{
  if ((This == NULL) || (AlgorithmListBytes == NULL)) {
    return EFI_INVALID_PARAMETER;
  }

  if (*AlgorithmListBytes < sizeof (EFI_RNG_ALGORITHM)) {
    *AlgorithmListBytes = sizeof (EFI_RNG_ALGORITHM);
    return EFI_BUFFER_TOO_SMALL;
  }

  if (AlgorithmList == NULL) {
    return EFI_INVALID_PARAMETER;
  }

  *AlgorithmListBytes = sizeof (EFI_RNG_ALGORITHM);
  CopyGuid (AlgorithmList, &gEfiRngAlgorithmRaw);
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
GetRng (
  IN  EFI_RNG_PROTOCOL   *This,
  IN  EFI_RNG_ALGORITHM  *Algorithm OPTIONAL,
  IN  UINTN              ValueBytes,
  OUT UINT8              *Value
  )
{
  EFI_TPL  Tpl;

  if ((This == NULL) || (ValueBytes == 0) || (Value == NULL)) {
    return EFI_INVALID_PARAMETER;
  }

  if ((Algorithm != NULL) && !CompareGuid (Algorithm, &gEfiRngAlgorithmRaw)) {
    return EFI_UNSUPPORTED;
  }

  Tpl = gBS->RaiseTPL (TPL_NOTIFY);
  Generate (Value, ValueBytes);
  gBS->RestoreTPL (Tpl);
  return EFI_SUCCESS;
}

STATIC EFI_RNG_PROTOCOL  mRng = { GetInfo, GetRng };

EFI_STATUS
EFIAPI
RngEntry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  CONST UINT32  *Entropy;
  UINTN         Bytes;
  UINTN         Index;
  UINT32        Ecx;
  EFI_HANDLE    Handle;

  AsmCpuid (1, NULL, NULL, &Ecx, NULL);
  mRdrand = (BOOLEAN)((Ecx & BIT30) != 0);

  Bytes   = 0;
  Entropy = BlobFind (BlobEntropy, &Bytes);
  if ((Entropy == NULL) || (Bytes < 2 * sizeof (mKey))) {
    // Better no random numbers than guessable ones.
    return EFI_UNSUPPORTED;
  }

  for (Index = 0; Index < KEY_WORDS; ++Index) {
    mKey[Index] = Entropy[Index] ^ Entropy[Index + KEY_WORDS];
  }

  ZeroMem ((VOID *)Entropy, Bytes);
  Handle = NULL;
  return gBS->InstallMultipleProtocolInterfaces (&Handle, &gEfiRngProtocolGuid, &mRng, NULL);
}
