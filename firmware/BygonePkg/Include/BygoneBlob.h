// The configuration blob: what the host tells the firmware (docs/firmware-interface.md, "Configuration blob"). A record that does not fit
// ends the walk over it: the blob is the host's, but a damaged one shall stop the machine with a message, not send it astray.
// Nothing of EDK II in it: blob_test.cpp runs it on the host.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace bygone::blob {

constexpr std::uintptr_t kAddress = 0x709000;

enum class Type : std::uint32_t {
  kCount = 0x00,
  kBiosInformation = 0x01,
  kSrat = 0x02,
  kMemoryMap = 0x03,
  kEntropy = 0x04,
  kBiosGuid = 0x05,
  kSystemSerial = 0x06,
  kBaseSerial = 0x07,
  kChassisSerial = 0x08,
  kChassisAssetTag = 0x09,
  kBiosLockString = 0x0A,
  kSmbiosProcessor = 0x0B,
  kProcessorSocket = 0x0C,
  kProcessorManufacturer = 0x0D,
  kProcessorVersion = 0x0E,
  kProcessorSerial = 0x0F,
  kProcessorAssetTag = 0x10,
  kProcessorPartNumber = 0x11,
  kFlags = 0x12,
  kProcessorInformation = 0x13,
  kMmioRanges = 0x14,
  kAcpiTable = 0x16,
  kMadt = 0x18,
  kSystemManufacturer = 0x1A,
  kSystemProductName = 0x1B,
  kSystemVersion = 0x1C,
  kSystemSku = 0x1D,
  kSystemFamily = 0x1E,
  kMemoryDeviceSerial = 0x1F,
  kSlit = 0x20,
  kAspt = 0x21,
  kPptt = 0x22,
  kMcfg = 0x24,
  kSsdt = 0x25,
  kHmat = 0x26,
  kIort = 0x27,
};

#pragma pack(1)

struct Header {
  Type type;
  std::uint32_t length;  ///< this header included; a multiple of 8
};

/// The first record.
struct Count {
  static constexpr Type kType = Type::kCount;
  Header header;
  std::uint32_t count;
  std::uint32_t bytes;  ///< of all records
};

struct MemoryRange {
  static constexpr Type kType = Type::kMemoryMap;
  std::uint64_t base;
  std::uint64_t length;
  std::uint32_t flags;
  std::uint32_t reserved;

  constexpr bool is_ram() const { return flags == 0; }
  constexpr bool is_reserved() const { return (flags & 1) != 0; }
  constexpr bool is_persistent() const { return (flags & 2) != 0; }
  constexpr std::uint64_t end() const { return base + length; }
};

/// A gap in memory; the low one comes first.
struct MmioRange {
  static constexpr Type kType = Type::kMmioRanges;
  std::uint64_t first_page;
  std::uint64_t pages;

  constexpr std::uint64_t base() const { return first_page << 12; }
  constexpr std::uint64_t length() const { return pages << 12; }
  constexpr std::uint64_t end() const { return base() + length(); }
};

constexpr std::size_t kMmioRangeCount = 2;

struct Flags {
  static constexpr Type kType = Type::kFlags;
  std::uint64_t value;

  constexpr bool has_no_front_page() const { return (value >> 14 & 1) != 0; }
  constexpr bool are_mtrrs_set() const { return (value >> 28 & 1) != 0; }
};

struct Processors {
  static constexpr Type kType = Type::kProcessorInformation;
  std::uint32_t maximum_count;
  std::uint32_t count;
  std::uint32_t per_socket;
  std::uint32_t threads_per_core;
};

struct SmbiosProcessor {
  static constexpr Type kType = Type::kSmbiosProcessor;
  std::uint64_t id;
  std::uint16_t external_clock;
  std::uint16_t maximum_speed;
  std::uint16_t current_speed;
  std::uint16_t characteristics;
  std::uint16_t family2;
  std::uint8_t processor_type;
  std::uint8_t voltage;
  std::uint8_t status;
  std::uint8_t upgrade;
  std::uint16_t reserved;
};

#pragma pack()

static_assert(sizeof(Count) == 16 && sizeof(MemoryRange) == 24 && sizeof(MmioRange) == 16 && sizeof(Flags) == 8);
static_assert(sizeof(Processors) == 16 && sizeof(SmbiosProcessor) == 24);

/// Elements in memory that somebody else owns.
template <typename T>
class Span {
 public:
  constexpr Span() = default;
  constexpr Span(T* first, std::size_t size) : first_(first), size_(size) {}
  constexpr T* begin() const { return first_; }
  constexpr T* end() const { return first_ + size_; }
  constexpr std::size_t size() const { return size_; }
  constexpr T& operator[](std::size_t index) const { return first_[index]; }

 private:
  T* first_ = nullptr;
  std::size_t size_ = 0;
};

/// One record: its type and what it holds, which lies within the blob. A record that is not there holds nothing.
class Record {
 public:
  constexpr Record(Type type, Span<std::uint8_t> payload) : type_(type), payload_(payload) {}
  constexpr Type type() const { return type_; }
  /// With what it is padded with.
  constexpr Span<std::uint8_t> payload() const { return payload_; }
  /// Null if there is less.
  template <typename T>
  const T* as() const {
    return payload_.size() >= sizeof(T) ? reinterpret_cast<const T*>(payload_.begin()) : nullptr;
  }
  /// As many as there are.
  template <typename T>
  Span<const T> all() const {
    return {reinterpret_cast<const T*>(payload_.begin()), payload_.size() / sizeof(T)};
  }
  /// Text that ends with 0, or `otherwise`, which may be null, if it is empty or does not end.
  const char* text(const char* otherwise) const {
    if (payload_.size() == 0 || payload_[0] == 0) return otherwise;
    for (const std::uint8_t character : payload_) {
      if (character == 0) return reinterpret_cast<const char*>(payload_.begin());
    }
    return otherwise;
  }

 private:
  Type type_;
  Span<std::uint8_t> payload_;
};

/// All records behind the first, which says where they end.
class Blob {
 public:
  class Iterator {
   public:
    Iterator(std::uint8_t* at, std::size_t room) : at_(at), room_(room) { check(); }
    bool operator!=(const Iterator& other) const { return at_ != other.at_; }
    Iterator& operator++() {
      const std::uint32_t length = header().length;
      at_ += length;
      room_ -= length;
      check();
      return *this;
    }
    Record operator*() const { return {header().type, {at_ + sizeof(Header), header().length - sizeof(Header)}}; }

   private:
    const Header& header() const { return *reinterpret_cast<const Header*>(at_); }
    void check() {
      const bool has_header = room_ >= sizeof(Header);
      if (has_header && header().length >= sizeof(Header) && header().length % 8 == 0 && header().length <= room_) return;
      at_ = nullptr;
      room_ = 0;
    }

    std::uint8_t* at_;
    std::size_t room_;
  };

  explicit Blob(std::uint8_t* first) : first_(first) {
    const auto& count = *reinterpret_cast<const Count*>(first);
    const bool is_blob = count.header.type == Type::kCount && count.header.length == sizeof count && count.bytes >= sizeof count;
    bytes_ = is_blob ? count.bytes : sizeof count;
  }

  Iterator begin() const { return {first_ + sizeof(Count), bytes_ - sizeof(Count)}; }
  Iterator end() const { return {nullptr, 0}; }

  /// The first of a type.
  Record find(Type type) const {
    for (const Record record : *this) {
      if (record.type() == type) return record;
    }
    return {type, {}};
  }
  template <typename T>
  const T* find() const {
    return find(T::kType).template as<T>();
  }
  template <typename T>
  Span<const T> all() const {
    return find(T::kType).template all<T>();
  }
  Flags flags() const {
    const auto* const flags = find<Flags>();
    return flags != nullptr ? *flags : Flags{};
  }

 private:
  std::uint8_t* first_;
  std::size_t bytes_;
};

/// Where the loader has left it.
inline Blob here() { return Blob(reinterpret_cast<std::uint8_t*>(kAddress)); }

}  // namespace bygone::blob
