#include "spec/agent/cbor.h"

#include <limits>

namespace bygone::spec::agent {
namespace {

/// Major types, RFC 8949 section 3.1.
enum class Major : std::uint8_t { kUnsigned = 0, kNegative = 1, kBytes = 2, kText = 3, kArray = 4, kMap = 5, kTag = 6, kSimple = 7 };

/// Simple values, RFC 8949 section 3.3.
constexpr std::uint8_t kSimpleFalse = 20;
constexpr std::uint8_t kSimpleTrue = 21;
constexpr std::uint8_t kSimpleNull = 22;

class Writer {
 public:
  void write(const CborValue& value) {
    std::visit([this](const auto& alternative) { write_alternative(alternative); }, value.variant());
  }
  [[nodiscard]] std::vector<std::byte> take() && { return std::move(bytes_); }

 private:
  void head(Major major, std::uint64_t argument) {
    const auto type = static_cast<unsigned>(major) << 5;
    if (argument < 24) {
      put(type | static_cast<unsigned>(argument));
    } else if (argument <= 0xFF) {
      put(type | 24);
      big_endian(argument, 1);
    } else if (argument <= 0xFFFF) {
      put(type | 25);
      big_endian(argument, 2);
    } else if (argument <= 0xFFFFFFFF) {
      put(type | 26);
      big_endian(argument, 4);
    } else {
      put(type | 27);
      big_endian(argument, 8);
    }
  }
  void put(unsigned byte) { bytes_.push_back(static_cast<std::byte>(byte)); }
  void big_endian(std::uint64_t value, unsigned size) {
    for (unsigned shift = size * 8; shift > 0; shift -= 8) put(static_cast<unsigned>(value >> (shift - 8)) & 0xFF);
  }

  void write_alternative(std::monostate) { head(Major::kSimple, kSimpleNull); }
  void write_alternative(bool value) { head(Major::kSimple, value ? kSimpleTrue : kSimpleFalse); }
  void write_alternative(std::uint64_t value) { head(Major::kUnsigned, value); }
  void write_alternative(std::int64_t value) {
    if (value >= 0) {
      head(Major::kUnsigned, static_cast<std::uint64_t>(value));
    } else {
      head(Major::kNegative, static_cast<std::uint64_t>(-(value + 1)));
    }
  }
  void write_alternative(const std::string& text) {
    head(Major::kText, text.size());
    const auto raw = std::as_bytes(std::span(text));
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
  }
  void write_alternative(const CborBytes& data) {
    head(Major::kBytes, data.size());
    bytes_.insert(bytes_.end(), data.begin(), data.end());
  }
  void write_alternative(const CborArray& array) {
    head(Major::kArray, array.size());
    for (const CborValue& element : array) write(element);
  }
  void write_alternative(const CborMap& map) {
    head(Major::kMap, map.size());
    for (const auto& [key, value] : map) {
      write_alternative(key);
      write(value);
    }
  }

  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] bool at_end() const { return position_ == bytes_.size(); }

  [[nodiscard]] Result<CborValue> value(int depth) {
    if (++items_ > kMaximumCborItems) return fail(ErrorCode::kExhausted, "a message has more than {} items", kMaximumCborItems);
    BYGONE_ASSIGN(const Head head, read_head());
    switch (head.major) {
      case Major::kUnsigned:
        return CborValue(head.argument);
      case Major::kNegative:
        if (head.argument > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
          return fail(ErrorCode::kOutOfRange, "a negative number does not fit in 64 bits");
        }
        return CborValue(-1 - static_cast<std::int64_t>(head.argument));
      case Major::kBytes: {
        BYGONE_ASSIGN(const auto data, take(head.argument));
        return CborValue(CborBytes(data.begin(), data.end()));
      }
      case Major::kText: {
        BYGONE_ASSIGN(std::string text, take_text(head.argument));
        return CborValue(std::move(text));
      }
      case Major::kArray:
        return array(head.argument, depth);
      case Major::kMap:
        return map(head.argument, depth);
      case Major::kTag:
        return fail(ErrorCode::kUnsupported, "a message has a CBOR tag, which the protocol does not use");
      case Major::kSimple:
        break;
    }
    return simple(head);
  }

 private:
  struct Head {
    Major major;
    std::uint8_t information;
    std::uint64_t argument;
  };

  [[nodiscard]] Result<Head> read_head() {
    BYGONE_ASSIGN(const auto first, take(1));
    const auto byte = std::to_integer<std::uint8_t>(first[0]);
    Head head{static_cast<Major>(byte >> 5), static_cast<std::uint8_t>(byte & 0x1F), 0};
    if (head.information < 24) {
      head.argument = head.information;
      return head;
    }
    if (head.information > 27) {
      return fail(ErrorCode::kUnsupported, "a message has an item of indefinite length or of a reserved form (byte {:#04x})", byte);
    }
    BYGONE_ASSIGN(const auto rest, take(std::uint64_t{1} << (head.information - 24)));
    for (const std::byte part : rest) head.argument = head.argument << 8 | std::to_integer<std::uint64_t>(part);
    return head;
  }

  [[nodiscard]] Result<CborValue> simple(const Head& head) const {
    switch (head.information) {
      case kSimpleFalse:
        return CborValue(false);
      case kSimpleTrue:
        return CborValue(true);
      case kSimpleNull:
        return CborValue();
      default:
        return fail(ErrorCode::kUnsupported, "a message has a floating-point or unknown simple value ({})", head.information);
    }
  }

  [[nodiscard]] Result<CborValue> array(std::uint64_t count, int depth) {
    BYGONE_CHECK(check_container(count, 1, depth));
    CborArray elements;
    elements.reserve(static_cast<std::size_t>(count));
    for (std::uint64_t i = 0; i < count; ++i) {
      BYGONE_ASSIGN(CborValue element, value(depth + 1));
      elements.push_back(std::move(element));
    }
    return CborValue(std::move(elements));
  }

  [[nodiscard]] Result<CborValue> map(std::uint64_t count, int depth) {
    BYGONE_CHECK(check_container(count, 2, depth));
    CborMap entries;
    for (std::uint64_t i = 0; i < count; ++i) {
      BYGONE_ASSIGN(const Head head, read_head());
      if (head.major != Major::kText) return fail(ErrorCode::kCorrupt, "a map of a message has a key that is not text");
      BYGONE_ASSIGN(std::string key, take_text(head.argument));
      if (find(entries, key) != nullptr) return fail(ErrorCode::kCorrupt, "a map of a message has the key \"{}\" twice", key);
      BYGONE_ASSIGN(CborValue entry, value(depth + 1));
      entries.emplace_back(std::move(key), std::move(entry));
      if (entries.size() > kMaximumMapEntries) {
        return fail(ErrorCode::kExhausted, "a map of a message has more than {} entries", kMaximumMapEntries);
      }
    }
    return CborValue(std::move(entries));
  }

  /// Every item takes at least one byte, so that a count is checked against what is there before anything is reserved.
  [[nodiscard]] Result<void> check_container(std::uint64_t count, std::uint64_t bytes_each, int depth) const {
    if (depth >= kMaximumCborDepth) return fail(ErrorCode::kExhausted, "a message is nested deeper than {} levels", kMaximumCborDepth);
    if (count > kMaximumCborItems - items_) return fail(ErrorCode::kExhausted, "a message has more than {} items", kMaximumCborItems);
    if (count > (bytes_.size() - position_) / bytes_each) return fail(ErrorCode::kCorrupt, "a message ends inside a list or map");
    return {};
  }

  [[nodiscard]] Result<std::span<const std::byte>> take(std::uint64_t size) {
    if (size > bytes_.size() - position_) return fail(ErrorCode::kCorrupt, "a message ends in the middle of a value");
    const auto part = bytes_.subspan(position_, static_cast<std::size_t>(size));
    position_ += part.size();
    return part;
  }
  [[nodiscard]] Result<std::string> take_text(std::uint64_t size) {
    BYGONE_ASSIGN(const auto raw, take(size));
    return std::string(reinterpret_cast<const char*>(raw.data()), raw.size());
  }

  /// Keys are looked up one after another; the protocol's largest map has a dozen.
  static constexpr std::size_t kMaximumMapEntries = 64;

  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
  std::size_t items_ = 0;
};

}  // namespace

const CborValue* find(const CborMap& map, std::string_view key) {
  for (const auto& [name, value] : map) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::vector<std::byte> encode_cbor(const CborValue& value) {
  Writer writer;
  writer.write(value);
  return std::move(writer).take();
}

Result<CborValue> decode_cbor(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  BYGONE_ASSIGN(CborValue value, reader.value(0));
  if (!reader.at_end()) return fail(ErrorCode::kCorrupt, "a message has bytes after its end");
  return value;
}

}  // namespace bygone::spec::agent
