// What the modules in C++ share: memory and task priority levels that are given back where their owner ends, and no more. EDK II's
// structures are base classes of ours, so that the way from a protocol's `This` to our state is a static_cast that the compiler checks.
// Freestanding C++17: no exceptions, no virtual functions, nothing to construct before the entry point.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <new>

extern "C" {
#include <Uefi.h>
#include <Library/BaseMemoryLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/UefiBootServicesTableLib.h>
}

namespace bygone {

/// One object, or an array of what needs no destructor, from the pool; freed with its owner unless released before.
template <typename T>
class Pool {
 public:
  constexpr Pool() = default;
  explicit constexpr Pool(T* object) : object_(object) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    if (object_ == nullptr) return;
    object_->~T();
    FreePool(object_);
  }
  /// Null if there is no memory; all zeros but for what the type's own initializers say.
  static Pool create() {
    void* const memory = AllocatePool(sizeof(T));
    return Pool(memory == nullptr ? nullptr : new (memory) T{});
  }
  /// Zeros, or null.
  static Pool create_array(UINTN count) { return Pool(static_cast<T*>(AllocateZeroPool(count * sizeof(T)))); }

  explicit operator bool() const { return object_ != nullptr; }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  T& operator[](UINTN index) const { return object_[index]; }
  /// For a function of EDK II's that allocates.
  T** out() { return &object_; }
  T* release() {
    T* const object = object_;
    object_ = nullptr;
    return object;
  }

 private:
  T* object_ = nullptr;
};

/// Whole pages of boot services data, freed with their owner.
class Pages {
 public:
  constexpr Pages() = default;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { free(); }
  /// Zeros. False if there is no memory.
  bool allocate(UINTN count) {
    free();
    first_ = static_cast<UINT8*>(AllocatePages(count));
    if (first_ == nullptr) return false;
    count_ = count;
    ZeroMem(first_, EFI_PAGES_TO_SIZE(count));
    return true;
  }
  void free() {
    if (first_ != nullptr) FreePages(first_, count_);
    first_ = nullptr;
    count_ = 0;
  }
  /// From now on nobody's: it stays until the boot ends.
  UINT8* release() {
    UINT8* const first = first_;
    first_ = nullptr;
    count_ = 0;
    return first;
  }
  UINTN count() const { return count_; }
  /// Of the page with that index.
  UINT8* at(UINTN index) const { return first_ + EFI_PAGES_TO_SIZE(index); }
  UINTN address(UINTN index) const { return reinterpret_cast<UINTN>(at(index)); }

 private:
  UINT8* first_ = nullptr;
  UINTN count_ = 0;
};

/// The task priority level raised while it lives.
class RaisedTpl {
 public:
  explicit RaisedTpl(EFI_TPL level) : before_(gBS->RaiseTPL(level)) {}
  RaisedTpl(const RaisedTpl&) = delete;
  RaisedTpl& operator=(const RaisedTpl&) = delete;
  ~RaisedTpl() { gBS->RestoreTPL(before_); }

 private:
  const EFI_TPL before_;
};

/// What a handle has of a protocol, or null.
template <typename Protocol>
Protocol* protocol_of(EFI_HANDLE handle, EFI_GUID& guid) {
  void* interface = nullptr;
  return EFI_ERROR(gBS->HandleProtocol(handle, &guid, &interface)) ? nullptr : static_cast<Protocol*>(interface);
}

/// A protocol that is there once, or null.
template <typename Protocol>
Protocol* locate(EFI_GUID& guid) {
  void* interface = nullptr;
  return EFI_ERROR(gBS->LocateProtocol(&guid, nullptr, &interface)) ? nullptr : static_cast<Protocol*>(interface);
}

/// The handles that have a protocol at the moment, in the order in which they have got it.
class Handles {
 public:
  explicit Handles(EFI_GUID& guid) {
    if (EFI_ERROR(gBS->LocateHandleBuffer(ByProtocol, &guid, nullptr, &count_, handles_.out()))) count_ = 0;
  }
  bool is_empty() const { return count_ == 0; }
  const EFI_HANDLE* begin() const { return handles_.get(); }
  const EFI_HANDLE* end() const { return handles_.get() + count_; }

 private:
  Pool<EFI_HANDLE> handles_;
  UINTN count_ = 0;
};

}  // namespace bygone
