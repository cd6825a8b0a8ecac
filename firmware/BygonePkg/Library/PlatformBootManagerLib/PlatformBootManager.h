// The platform's part of BDS.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <BygoneCxx.h>
#include <Protocol/VmbusChannel.h>

extern "C" {
#include <PiDxe.h>
#include <Library/BaseLib.h>
#include <Library/DebugLib.h>
#include <Library/DevicePathLib.h>
#include <Library/UefiBootManagerLib.h>
#include <Library/UefiLib.h>
#include <Library/UefiRuntimeServicesTableLib.h>
#include <Protocol/Cpu.h>
#include <Protocol/LoadedImage.h>
}

namespace bygone::boot {

/// Calls `function(handle)` for each channel of an interface type.
template <typename Function>
void for_each_channel(const EFI_GUID& interface_type, Function function) {
  for (const EFI_HANDLE handle : Handles(gBygoneVmbusChannelProtocolGuid)) {
    const auto* const channel = protocol_of<ChannelProtocol>(handle, gBygoneVmbusChannelProtocolGuid);
    if (channel != nullptr && CompareGuid(&channel->interface_type, &interface_type)) function(handle);
  }
}

/// A load option that EDK II's library fills in with `make(option)`, freed with its owner.
class LoadOption : public EFI_BOOT_MANAGER_LOAD_OPTION {
 public:
  template <typename Make>
  explicit LoadOption(Make make) : EFI_BOOT_MANAGER_LOAD_OPTION(), is_made_(!EFI_ERROR(make(*this))) {}
  LoadOption(const LoadOption&) = delete;
  LoadOption& operator=(const LoadOption&) = delete;
  ~LoadOption() {
    if (is_made_) EfiBootManagerFreeLoadOption(this);
  }
  explicit operator bool() const { return is_made_; }

 private:
  const bool is_made_;
};

/// All boot options as they are in the variables.
class BootOptions {
 public:
  BootOptions() : options_(EfiBootManagerGetLoadOptions(&count_, LoadOptionTypeBoot)) {}
  BootOptions(const BootOptions&) = delete;
  BootOptions& operator=(const BootOptions&) = delete;
  ~BootOptions() {
    if (options_ != nullptr) EfiBootManagerFreeLoadOptions(options_, count_);
  }
  bool has(const EFI_BOOT_MANAGER_LOAD_OPTION& option) const { return EfiBootManagerFindLoadOption(&option, options_, count_) != -1; }
  EFI_BOOT_MANAGER_LOAD_OPTION* begin() const { return options_; }
  EFI_BOOT_MANAGER_LOAD_OPTION* end() const { return options_ + count_; }

 private:
  UINTN count_ = 0;
  EFI_BOOT_MANAGER_LOAD_OPTION* const options_;
};

/// Points ConIn, ConOut and ErrOut at the keyboard, the screen and COM1, as far as they exist (Console.cpp).
void describe_consoles();

/// Keeps EDK II's list of what can be booted to what a person would boot from (BootOptions.cpp).
void filter_boot_options();

/// Publishes the boot logo's picture for BootLogoLib (Logo.cpp).
void publish_logo();

/// An application loaded from a disk or a volume: its code is EfiLoaderCode, drivers' is not.
inline bool is_application(const EFI_LOADED_IMAGE_PROTOCOL& image) { return image.ImageCodeType == EfiLoaderCode; }

inline bool holds(const EFI_LOADED_IMAGE_PROTOCOL& image, UINT64 address) {
  const auto base = reinterpret_cast<UINTN>(image.ImageBase);
  return address >= base && address - base < image.ImageSize;
}

/// Applications that run (Applications.cpp).
namespace applications {

/// From now on what they have registered ends with them.
void watch();

/// Closes the events of one that is about to be ended, if it is the innermost that runs: only that one can be.
void silence(EFI_HANDLE handle);

}  // namespace applications

/// From now on a fault in a boot loader ends that loader only (Faults.cpp).
void catch_faults();

/// Stacks for faults and what comes after them (FaultStacks.cpp).
namespace fault_stacks {

/// Has the processor take the vectors below `vector_count` on a stack of their own, and watches the end of the stack that boot loaders run
/// on.
EFI_STATUS prepare(EFI_CPU_ARCH_PROTOCOL& cpu, UINTN vector_count);

/// Whether a stack pointer is into them: what it belongs to is the handling of a fault.
bool hold(UINT64 address);

/// The stack pointer with which a function is entered that goes on after a fault, on a stack of its own.
UINT64 recovery_top();

}  // namespace fault_stacks
}  // namespace bygone::boot
