// Numbers of model-specific registers (Intel SDM volume 4; AMD64 APM volume 2, appendix A).
#pragma once

#include <cstdint>

namespace bygone::cpu::translator::msr {

inline constexpr std::uint32_t kTsc = 0x10, kApicBase = 0x1B, kTscAdjust = 0x3B, kSpeculationControl = 0x48, kPredictionCommand = 0x49;
inline constexpr std::uint32_t kMicrocode = 0x8B, kMtrrCapabilities = 0xFE, kSysenterCs = 0x174, kSysenterEsp = 0x175;
inline constexpr std::uint32_t kSysenterEip = 0x176, kMachineCheckCapabilities = 0x179, kMachineCheckStatus = 0x17A;
inline constexpr std::uint32_t kMiscEnable = 0x1A0, kDebugControl = 0x1D9, kMtrrVariable = 0x200, kMtrrFixed64K = 0x250;
inline constexpr std::uint32_t kMtrrFixed16K = 0x258, kMtrrFixed4K = 0x268, kPat = 0x277, kMtrrDefaultType = 0x2FF;
inline constexpr std::uint32_t kTscDeadline = 0x6E0, kX2ApicFirst = 0x800, kX2ApicLast = 0x8FF, kXss = 0xDA0;
inline constexpr std::uint32_t kEfer = 0xC000'0080, kStar = 0xC000'0081, kLstar = 0xC000'0082, kCstar = 0xC000'0083;
inline constexpr std::uint32_t kSfmask = 0xC000'0084, kFsBase = 0xC000'0100, kGsBase = 0xC000'0101, kKernelGsBase = 0xC000'0102;
inline constexpr std::uint32_t kTscAux = 0xC000'0103, kAmdHardwareConfiguration = 0xC001'0015, kAmdPatchLoader = 0xC001'0020;
inline constexpr std::uint32_t kAmdDecodeConfiguration = 0xC001'1029;

}  // namespace bygone::cpu::translator::msr
