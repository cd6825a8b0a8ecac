// Header of 64-bit images. GUEST_PROCESSORS, GUEST_MEMORY and GUEST_FLAGS come from the build.
  .section .header, "a"
  .quad 0x3154534555475942
  .long 0
  .long GUEST_PROCESSORS
  .long GUEST_MEMORY
  .long guest_start - GUEST_BASE_ADDRESS
  .long GUEST_FLAGS
  .long 0
  .section .note.GNU-stack, "", @progbits
