// <linux/kvm.h>, made right for C++: Debian 12's headers declare flexible arrays through an empty struct, which has a size in
// C++, so that every list would be laid out four or eight bytes too far and its ioctl number would be another.
#pragma once

#include <linux/stddef.h>

#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]

#include <linux/kvm.h>

static_assert(sizeof(kvm_cpuid2) == 8);
static_assert(sizeof(kvm_msrs) == 8);
static_assert(sizeof(kvm_irq_routing) == 8);
static_assert(sizeof(kvm_xsave) == 4096);
