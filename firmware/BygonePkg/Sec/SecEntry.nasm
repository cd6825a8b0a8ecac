;; @file
;  Entry in long mode, from the loader (docs/firmware-interface.md, "Image and entry state"). There is no stack yet: it goes
;  into the free memory behind the configuration blob.
;
;  SPDX-License-Identifier: Apache-2.0
;;
    DEFAULT REL
    SECTION .text

extern ASM_PFX(SecMain)

BLOB_ADDRESS     equ 0x709000
BLOB_BYTES       equ 12            ; offset of the blob's total length
SEC_STACK_BYTES  equ 0x10000

global ASM_PFX(_ModuleEntryPoint)
ASM_PFX(_ModuleEntryPoint):
    cli
    cld
    mov     ecx, BLOB_ADDRESS
    mov     edx, [rcx + BLOB_BYTES]
    lea     rdx, [rcx + rdx + 0xFFF]
    and     rdx, ~0xFFF             ; second argument: first free address behind the blob
    lea     rsp, [rdx + SEC_STACK_BYTES - 0x20]
    call    ASM_PFX(SecMain)
.dead:
    hlt
    jmp     .dead

; VOID EFIAPI SecSwitchStack (VOID *EntryPoint, VOID *HobList, VOID *NewStackTop);
global ASM_PFX(SecSwitchStack)
ASM_PFX(SecSwitchStack):
    mov     rax, rcx
    mov     rcx, rdx
    lea     rsp, [r8 - 0x20]        ; 16-byte aligned, with the callee's shadow space
    xor     ebp, ebp
    call    rax
    jmp     ASM_PFX(_ModuleEntryPoint).dead
