// What CpuDxe asks of memory types. Who has made the machine has set them, the same for every processor (docs/firmware-interface.md, "Image
// and entry state"), and nobody changes them before the operating system does. So the registers are read once; EDK II's own library reads
// all of them for every image that is loaded, and each read leaves the guest.
// SPDX-License-Identifier: Apache-2.0
#include <BygoneMtrr.h>

extern "C" {
#include <Library/BaseMemoryLib.h>
#include <Library/MtrrLib.h>
}

namespace {

namespace mtrr = bygone::mtrr;
using Type = MTRR_MEMORY_CACHE_TYPE;

static_assert(ARRAY_SIZE(mtrr::kFixedRanges) == MTRR_NUMBER_OF_FIXED_MTRR);

/// The ranges that hold what lies below 1 MiB.
UINTN fixed_ranges_of(PHYSICAL_ADDRESS address) {
  UINTN index = ARRAY_SIZE(mtrr::kFixedRanges) - 1;
  while (mtrr::kFixedRanges[index].base > address) --index;
  return index;
}

/// All registers, as they were when they were first asked for.
class Registers {
 public:
  const Registers& read() {
    if (is_read_) return *this;
    is_read_ = true;
    is_supported_ = mtrr::are_there();
    if (!is_supported_) return *this;
    settings_.MtrrDefType = AsmReadMsr64(MSR_IA32_MTRR_DEF_TYPE);
    for (UINTN index = 0; index < ARRAY_SIZE(mtrr::kFixedRanges); ++index) {
      settings_.Fixed.Mtrr[index] = AsmReadMsr64(mtrr::kFixedRanges[index].msr);
    }
    variable_count_ = MIN(mtrr::variable_count(), MTRR_NUMBER_OF_VARIABLE_MTRR);
    for (UINT32 range = 0; range < variable_count_; ++range) {
      settings_.Variables.Mtrr[range] = {AsmReadMsr64(mtrr::base_msr(range)), AsmReadMsr64(mtrr::mask_msr(range))};
    }
    return *this;
  }

  bool is_supported() const { return is_supported_; }
  UINT32 variable_count() const { return variable_count_; }
  const MTRR_VARIABLE_SETTING& variable(UINT32 range) const { return settings_.Variables.Mtrr[range]; }
  const MTRR_SETTINGS& settings() const { return settings_; }

  Type default_type() const { return is_supported_ ? type_in(settings_.MtrrDefType) : CacheUncacheable; }

  Type type_of(PHYSICAL_ADDRESS address) const {
    if (!is_enabled()) return CacheUncacheable;
    return is_fixed(address) ? fixed_type(address) : variable_type(address);
  }

  /// Whether it is the type of everything in a range.
  bool has_type(PHYSICAL_ADDRESS base, UINT64 length, Type type) const {
    for (UINT64 offset = 0; offset < length;) {
      const PHYSICAL_ADDRESS address = base + offset;
      if (type_of(address) != type) return false;
      const UINT64 last_of_same = address | (block_at(address) - 1);
      if (last_of_same - base >= length - 1) return true;
      offset = last_of_same - base + 1;
    }
    return true;
  }

 private:
  static Type type_in(UINT64 value) { return static_cast<Type>(value & mtrr::kTypeMask); }

  bool is_enabled() const { return is_supported_ && (settings_.MtrrDefType & mtrr::kEnabled) != 0; }

  bool is_fixed(PHYSICAL_ADDRESS address) const {
    return address < BASE_1MB && (settings_.MtrrDefType & mtrr::kFixedEnabled) != 0;
  }

  Type fixed_type(PHYSICAL_ADDRESS address) const {
    const UINTN index = fixed_ranges_of(address);
    const mtrr::FixedRanges& ranges = mtrr::kFixedRanges[index];
    return type_in(settings_.Fixed.Mtrr[index] >> (address - ranges.base) / ranges.unit * 8);
  }

  /// Where ranges overlap, uncached wins; then written through over written back (12.11.4.1).
  Type variable_type(PHYSICAL_ADDRESS address) const {
    Type found = CacheInvalid;
    for (UINT32 range = 0; range < variable_count_; ++range) {
      const MTRR_VARIABLE_SETTING& setting = variable(range);
      if ((setting.Mask & mtrr::kRangeValid) == 0) continue;
      if (((address ^ setting.Base) & setting.Mask & ~UINT64{EFI_PAGE_MASK}) == 0) found = MIN(found, type_in(setting.Base));
    }
    return found == CacheInvalid ? default_type() : found;
  }

  /// A power of two: within an aligned block of so many bytes around the address the type is one.
  UINT64 block_at(PHYSICAL_ADDRESS address) const {
    if (!is_enabled()) return BIT63;
    if (is_fixed(address)) return mtrr::kFixedRanges[fixed_ranges_of(address)].unit;
    UINT64 masks = BIT63;
    for (UINT32 range = 0; range < variable_count_; ++range) {
      if ((variable(range).Mask & mtrr::kRangeValid) != 0) masks |= variable(range).Mask & ~UINT64{EFI_PAGE_MASK};
    }
    return masks & (~masks + 1);
  }

  bool is_read_ = false;
  bool is_supported_ = false;
  UINT32 variable_count_ = 0;
  MTRR_SETTINGS settings_ = {};
};

Registers registers;

}  // namespace

BOOLEAN EFIAPI IsMtrrSupported() { return registers.read().is_supported(); }

UINT32 EFIAPI GetVariableMtrrCount() { return registers.read().variable_count(); }

/// None is kept for the operating system: the firmware sets none.
UINT32 EFIAPI GetFirmwareVariableMtrrCount() { return GetVariableMtrrCount(); }

Type EFIAPI MtrrGetDefaultMemoryType() { return registers.read().default_type(); }

Type EFIAPI MtrrGetMemoryAttribute(PHYSICAL_ADDRESS address) { return registers.read().type_of(address); }

/// Types are not ours to change: only what they are already is accepted.
RETURN_STATUS EFIAPI MtrrSetMemoryAttribute(PHYSICAL_ADDRESS base, UINT64 length, Type type) {
  if (length == 0) return RETURN_INVALID_PARAMETER;
  return registers.read().has_type(base, length, type) ? RETURN_SUCCESS : RETURN_ACCESS_DENIED;
}

MTRR_FIXED_SETTINGS* EFIAPI MtrrGetFixedMtrr(MTRR_FIXED_SETTINGS* settings) {
  *settings = registers.read().settings().Fixed;
  return settings;
}

MTRR_SETTINGS* EFIAPI MtrrGetAllMtrrs(MTRR_SETTINGS* settings) {
  *settings = registers.read().settings();
  return settings;
}

/// CpuDxe gives other processors what the first has; there they have it from the start.
MTRR_SETTINGS* EFIAPI MtrrSetAllMtrrs(MTRR_SETTINGS* settings) { return settings; }

UINT32 EFIAPI MtrrGetMemoryAttributeInVariableMtrr(UINT64 valid_bits, UINT64 valid_address, VARIABLE_MTRR* ranges) {
  registers.read();
  ZeroMem(ranges, MTRR_NUMBER_OF_VARIABLE_MTRR * sizeof *ranges);
  UINT32 used = 0;
  for (UINT32 range = 0; range < registers.variable_count(); ++range) {
    const MTRR_VARIABLE_SETTING& setting = registers.variable(range);
    if ((setting.Mask & mtrr::kRangeValid) == 0) continue;
    const UINT64 length = (~(setting.Mask & valid_address) & valid_bits) + 1;
    ranges[range] = {setting.Base & valid_address, length, setting.Base & mtrr::kTypeMask, mtrr::base_msr(range), TRUE, TRUE};
    ++used;
  }
  return used;
}
