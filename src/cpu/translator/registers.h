// Bits of the control, flag and model-specific registers (Intel SDM volume 3, 2.3-2.5 and volume 4).
#pragma once

#include <cstdint>

namespace bygone::cpu::translator {

namespace rflags {
inline constexpr std::uint64_t kCf = 1U << 0, kPf = 1U << 2, kAf = 1U << 4, kZf = 1U << 6, kSf = 1U << 7, kTf = 1U << 8;
inline constexpr std::uint64_t kIf = 1U << 9, kDf = 1U << 10, kOf = 1U << 11, kIopl = 3U << 12, kNt = 1U << 14, kRf = 1U << 16;
inline constexpr std::uint64_t kVm = 1U << 17, kAc = 1U << 18, kVif = 1U << 19, kVip = 1U << 20, kId = 1U << 21;
inline constexpr std::uint64_t kStatus = kCf | kPf | kAf | kZf | kSf | kOf;
inline constexpr std::uint64_t kFixed = 2;
}  // namespace rflags

namespace cr0 {
inline constexpr std::uint64_t kPe = 1U << 0, kMp = 1U << 1, kEm = 1U << 2, kTs = 1U << 3, kEt = 1U << 4, kNe = 1U << 5;
inline constexpr std::uint64_t kWp = 1U << 16, kAm = 1U << 18, kNw = 1U << 29, kCd = 1U << 30, kPg = 1U << 31;
}  // namespace cr0

namespace cr4 {
inline constexpr std::uint64_t kVme = 1U << 0, kPvi = 1U << 1, kTsd = 1U << 2, kDe = 1U << 3, kPse = 1U << 4, kPae = 1U << 5;
inline constexpr std::uint64_t kMce = 1U << 6, kPge = 1U << 7, kPce = 1U << 8, kOsfxsr = 1U << 9, kOsxmmexcpt = 1U << 10;
inline constexpr std::uint64_t kUmip = 1U << 11, kLa57 = 1U << 12, kFsgsbase = 1U << 16, kPcide = 1U << 17;
inline constexpr std::uint64_t kOsxsave = 1U << 18, kSmep = 1U << 20, kSmap = 1U << 21, kPke = 1U << 22;
}  // namespace cr4

namespace efer {
inline constexpr std::uint64_t kSce = 1U << 0, kLme = 1U << 8, kLma = 1U << 10, kNxe = 1U << 11, kFfxsr = 1U << 14;
}  // namespace efer

namespace vector {
inline constexpr std::uint8_t kDe = 0, kDb = 1, kNmi = 2, kBp = 3, kOf = 4, kBr = 5, kUd = 6, kNm = 7, kDf = 8, kTs = 10, kNp = 11;
inline constexpr std::uint8_t kSs = 12, kGp = 13, kPf = 14, kMf = 16, kAc = 17, kMc = 18, kXm = 19;
}  // namespace vector

namespace page_fault {
inline constexpr std::uint32_t kPresent = 1, kWrite = 2, kUser = 4, kReserved = 8, kFetch = 16;
}  // namespace page_fault

}  // namespace bygone::cpu::translator
