#include "cpu/translator/cpuid_model.h"

#include <array>
#include <cstring>
#include <string_view>

#include "cpu/translator/xsave.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint32_t bit(unsigned number) { return std::uint32_t{1} << number; }

template <typename... Bits>
constexpr std::uint32_t bits(Bits... numbers) {
  return (bit(static_cast<unsigned>(numbers)) | ...);
}

// Family 1Ah: its vendor's mitigations for older families do not apply to it.
constexpr std::uint32_t kSignature = 0x00B0'0F21;

// Leaf 1, Intel SDM volume 2, table 3-10 and 3-11.
constexpr std::uint32_t kLeaf1Edx = bits(0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26);
constexpr std::uint32_t kLeaf1EcxAlways = bits(13, 17, 21, 24, 31);       // CX16, PCID, x2APIC, TSC deadline, hypervisor
constexpr std::uint32_t kLeaf1EcxHost = bits(0, 1, 9, 19, 20, 22, 23, 25, 30);  // SSE3 … RDRAND
constexpr std::uint32_t kLeaf1EcxAvx = bits(12, 26, 28, 29);              // FMA, XSAVE, AVX, F16C
constexpr std::uint32_t kLeaf7EbxAlways = bits(0, 7, 9, 10, 20);          // FSGSBASE, SMEP, ERMS, INVPCID, SMAP
constexpr std::uint32_t kLeaf7EbxHost = bits(3, 8, 18, 19, 23, 24);       // BMI1, BMI2, RDSEED, ADX, CLFLUSHOPT, CLWB
constexpr std::uint32_t kLeaf7EbxSha = bit(29);
constexpr std::uint32_t kLeaf7EbxAvx2 = bit(5);
constexpr std::uint32_t kLeaf7EbxAvx512 = bits(16, 17, 21, 28, 30, 31);   // F, DQ, IFMA, CD, BW, VL
constexpr std::uint32_t kLeaf7Ecx = bits(2, 22);                          // UMIP, RDPID
constexpr std::uint32_t kLeaf7EcxGfni = bit(8);
constexpr std::uint32_t kLeaf7EcxAvx = bits(9, 10);                       // VAES, VPCLMULQDQ
constexpr std::uint32_t kLeaf7EcxAvx512 = bits(1, 6, 11, 12, 14);         // VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ
constexpr std::uint32_t kLeaf7Edx = bit(4);                               // fast short REP MOVSB

bool host_has_avx() {
  return __builtin_cpu_supports("avx") != 0;  // looks at XCR0 too
}

CpuidResult name_piece(std::string_view name, std::size_t piece) {
  std::array<char, 48> text = {};
  std::memcpy(text.data(), name.data(), std::min(name.size(), text.size() - 1));
  CpuidResult result;
  std::memcpy(&result.eax, text.data() + 16 * piece, 4);
  std::memcpy(&result.ebx, text.data() + 16 * piece + 4, 4);
  std::memcpy(&result.ecx, text.data() + 16 * piece + 8, 4);
  std::memcpy(&result.edx, text.data() + 16 * piece + 12, 4);
  return result;
}

}  // namespace

CpuidTable host_model() {
  constexpr std::uint32_t kAuth = 0x6874'7541, kEnti = 0x6974'6E65, kCamd = 0x444D'4163;
  const bool avx = host_has_avx();
  const CpuidResult host1 = host_cpuid(1);
  const CpuidResult host7 = host_cpuid(7, 0);
  const CpuidResult host_extended = host_cpuid(0x8000'0001);
  CpuidTable table;
  const auto set = [&](std::uint32_t leaf, CpuidResult result) { table.set({leaf, std::nullopt, result}); };
  const auto set_sub = [&](std::uint32_t leaf, std::uint32_t subleaf, CpuidResult result) { table.set({leaf, subleaf, result}); };

  set(0, {0xD, kAuth, kCamd, kEnti});
  set(1, {kSignature, 8U << 8 | 1U << 16, kLeaf1EcxAlways | (host1.ecx & kLeaf1EcxHost) | (avx ? host1.ecx & kLeaf1EcxAvx : 0), kLeaf1Edx});
  const bool avx512 = avx && xsave::host_has_avx512();
  std::uint32_t leaf7_ebx = kLeaf7EbxAlways | (host7.ebx & (kLeaf7EbxHost | kLeaf7EbxSha));
  std::uint32_t leaf7_ecx = kLeaf7Ecx | (host7.ecx & kLeaf7EcxGfni);
  if (avx) leaf7_ebx |= host7.ebx & kLeaf7EbxAvx2;
  if (avx) leaf7_ecx |= host7.ecx & kLeaf7EcxAvx;
  if (avx512) leaf7_ebx |= host7.ebx & kLeaf7EbxAvx512;
  if (avx512) leaf7_ecx |= host7.ecx & kLeaf7EcxAvx512;
  set_sub(7, 0, {0, leaf7_ebx, leaf7_ecx, kLeaf7Edx});
  if (avx) {
    const std::uint32_t size = xsave::standard_size(xsave::offered());
    set_sub(0xD, 0, {static_cast<std::uint32_t>(xsave::offered()), size, size, 0});
    set_sub(0xD, 1, {bits(0, 1, 2), size, 0, 0});  // XSAVEOPT, XSAVEC, XGETBV with ECX 1
    for (unsigned i = xsave::kFirstExtended; i < xsave::kComponentEnd; ++i) {
      if (const xsave::Place place = xsave::place_of(i); place.size != 0) set_sub(0xD, i, {place.size, place.offset, 0, 0});
    }
  }
  set(0x8000'0000, {0x8000'0021, kAuth, kCamd, kEnti});
  const std::uint32_t extended_ecx = bits(0, 8) | (host_extended.ecx & bit(5));  // LAHF, PREFETCHW, LZCNT
  constexpr std::uint32_t kDuplicated = bits(0, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 23, 24);
  set(0x8000'0001, {kSignature, 0, extended_ecx, kDuplicated | bits(11, 20, 26, 27, 29)});  // SYSCALL, NX, 1 GiB, RDTSCP, LM
  for (std::uint32_t piece = 0; piece < 3; ++piece) set(0x8000'0002 + piece, name_piece("Bygone Software Processor", piece));
  set(0x8000'0005, {0xFF48'FF40, 0xFF48'FF40, 0x300C'0140, 0x2008'0140});  // L1: 48 KiB data, 32 KiB code, 64-byte lines
  set(0x8000'0006, {0, 0x6200'6200, 0x0400'8140, 0x0080'9140});            // L2: 1 MiB, L3: 16 MiB
  set(0x8000'0007, {0, 0, 0, bit(8)});                                     // invariant TSC
  set(0x8000'0008, {0x302E, bits(26), 0, 0});                              // 46 bits physical, 48 linear; no store bypass
  set(0x8000'0021, {bits(0, 2, 6, 8, 27, 28, 29), 0, 0, 0});               // LFENCE serialises, automatic IBRS, not SRSO-prone
  return table;
}

void set_processor_count(CpuidTable& table, std::uint32_t count) {
  CpuidEntry one{1, std::nullopt, table.query(1, 0)};
  one.result.ebx = (one.result.ebx & 0xFF00'FFFF) | (count << 16);
  if (count > 1) one.result.edx |= bit(28);
  table.set(one);
  CpuidEntry legacy{0x8000'0001, std::nullopt, table.query(0x8000'0001, 0)};
  if (count > 1) legacy.result.ecx |= bit(1);  // cores, not threads
  table.set(legacy);
  CpuidEntry sizes{0x8000'0008, std::nullopt, table.query(0x8000'0008, 0)};
  sizes.result.ecx = (sizes.result.ecx & ~std::uint32_t{0xFF}) | (count - 1);
  table.set(sizes);
}

void hide_random_numbers(CpuidTable& table) {
  CpuidEntry one{1, std::nullopt, table.query(1, 0)};
  one.result.ecx &= ~bit(30);
  table.set(one);
  CpuidEntry seven{7, 0, table.query(7, 0)};
  seven.result.ebx &= ~bit(18);
  table.set(seven);
}

}  // namespace bygone::cpu::translator
