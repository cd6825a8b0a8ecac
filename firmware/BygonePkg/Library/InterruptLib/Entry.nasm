;; @file
;  See InterruptLib.h. The handler is compiled code of the Microsoft convention: it may change RAX, RCX, RDX, R8 - R11, and XMM
;  registers, for it calls what boot loaders have registered.
;
;  SPDX-License-Identifier: Apache-2.0
;;
    DEFAULT REL
    SECTION .text

extern ASM_PFX(gInterruptHandler)

SHADOW_BYTES  equ 32
FXSAVE_BYTES  equ 512

global ASM_PFX(InterruptEntry)
ASM_PFX(InterruptEntry):
    push    rbp
    mov     rbp, rsp
    push    rax
    push    rcx
    push    rdx
    push    r8
    push    r9
    push    r10
    push    r11
    sub     rsp, FXSAVE_BYTES + SHADOW_BYTES
    and     rsp, -16
    fxsave64 [rsp + SHADOW_BYTES]
    cld
    call    [ASM_PFX(gInterruptHandler)]
    fxrstor64 [rsp + SHADOW_BYTES]
    lea     rsp, [rbp - 7 * 8]
    pop     r11
    pop     r10
    pop     r9
    pop     r8
    pop     rdx
    pop     rcx
    pop     rax
    pop     rbp
    iretq
