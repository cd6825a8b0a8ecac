/** @file
  The hypervisor's interface as far as the firmware uses it (Hypervisor Top Level Functional Specification 6.0b).

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_HYPERV_H_
#define BYGONE_HYPERV_H_

#define HV_CPUID_SIGNATURE        0x40000000
#define HV_CPUID_INTERFACE        0x40000001   ///< EAX "Hv#1"
#define HV_CPUID_FEATURES         0x40000003
#define HV_CPUID_RECOMMENDATIONS  0x40000004

#define HV_FEATURE_SYNIC              BIT2
#define HV_FEATURE_SYNTHETIC_TIMERS   BIT3
#define HV_FEATURE_HYPERCALL_MSRS     BIT5
#define HV_FEATURE_FREQUENCY_MSRS     BIT11
#define HV_FEATURE_EDX_DIRECT_TIMERS  BIT19
#define HV_RECOMMEND_NO_AUTO_EOI      BIT9

#define HV_MSR_GUEST_OS_ID     0x40000000
#define HV_MSR_HYPERCALL       0x40000001
#define HV_MSR_VP_INDEX        0x40000002
#define HV_MSR_TSC_FREQUENCY   0x40000022
#define HV_MSR_APIC_FREQUENCY  0x40000023
#define HV_MSR_SCONTROL        0x40000080
#define HV_MSR_SIEFP           0x40000082
#define HV_MSR_SIMP            0x40000083
#define HV_MSR_EOM             0x40000084
#define HV_MSR_SINT0           0x40000090
#define HV_MSR_STIMER0_CONFIG  0x400000B0
#define HV_MSR_STIMER0_COUNT   0x400000B1

#define HV_SINT_MASKED    BIT16
#define HV_SINT_AUTO_EOI  BIT17

#define HV_STIMER_ENABLE       BIT0
#define HV_STIMER_PERIODIC     BIT1
#define HV_STIMER_LAZY         BIT2   ///< late ticks may be dropped
#define HV_STIMER_AUTO_ENABLE  BIT3
#define HV_STIMER_DIRECT       BIT12

#define HV_CALL_POST_MESSAGE  0x5C
#define HV_CALL_SIGNAL_EVENT  0x5D
#define HV_CALL_FAST          BIT16

#define HV_STATUS_INSUFFICIENT_BUFFERS  0x33
#define HV_STATUS_INSUFFICIENT_MEMORY   0x0B

#define HV_MESSAGE_PAYLOAD  240

#pragma pack(1)

typedef struct {
  UINT32    Type;          ///< 0: the slot is empty
  UINT8     PayloadSize;
  UINT8     Flags;         ///< bit 0: another message waits for EOM
  UINT16    Reserved;
  UINT64    Origin;
  UINT8     Payload[HV_MESSAGE_PAYLOAD];
} HV_MESSAGE;

typedef struct {
  UINT32    ConnectionId;
  UINT32    Reserved;
  UINT32    MessageType;
  UINT32    PayloadSize;
  UINT8     Payload[HV_MESSAGE_PAYLOAD];
} HV_POST_MESSAGE_INPUT;

#pragma pack()

/// The hypercall page takes control, input and output in RCX, RDX and R8: the EFIAPI convention.
typedef
UINT64
(EFIAPI *HV_HYPERCALL)(
  UINT64  Control,
  UINT64  Input,
  UINT64  Output
  );

#endif
