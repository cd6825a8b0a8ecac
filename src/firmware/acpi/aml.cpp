#include "firmware/acpi/aml.h"

#include <cstddef>

namespace bygone::firmware::aml {
namespace {

// Opcodes of 20.3.
constexpr std::uint8_t kZeroOp = 0x00, kOneOp = 0x01, kNameOp = 0x08, kBytePrefix = 0x0A, kWordPrefix = 0x0B, kDWordPrefix = 0x0C;
constexpr std::uint8_t kStringPrefix = 0x0D, kQWordPrefix = 0x0E, kScopeOp = 0x10, kBufferOp = 0x11, kPackageOp = 0x12;
constexpr std::uint8_t kMethodOp = 0x14, kDualNamePrefix = 0x2E, kMultiNamePrefix = 0x2F, kExtOp = 0x5B, kDeviceOp = 0x82;
constexpr std::uint8_t kNotifyOp = 0x86, kReturnOp = 0xA4;

void append(Bytes& to, const Bytes& from) { to.insert(to.end(), from.begin(), from.end()); }

void append_little(Bytes& to, std::uint64_t value, unsigned count) {
  for (unsigned i = 0; i < count; ++i) to.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

// 20.2.4: PkgLength counts itself.
Bytes with_length(const Bytes& content) {
  Bytes result;
  const std::size_t size = content.size();
  if (size + 1 < 0x40) {
    result.push_back(static_cast<std::uint8_t>(size + 1));
  } else {
    unsigned extra = 1;
    while ((size + 1 + extra) >> (4 + 8 * extra) != 0) ++extra;
    const std::size_t total = size + 1 + extra;
    result.push_back(static_cast<std::uint8_t>((extra << 6) | (total & 0xF)));
    append_little(result, total >> 4, extra);
  }
  append(result, content);
  return result;
}

Bytes opcode(std::initializer_list<std::uint8_t> op, const Bytes& content) {
  Bytes result(op);
  append(result, content);
  return result;
}

// 6.4.3.5: DWord and QWord address space descriptors share their shape. `unit` is 4 or 8 bytes.
Bytes memory_window(std::uint8_t tag, unsigned unit, std::uint64_t base, std::uint64_t length) {
  Bytes result = {tag};
  append_little(result, 3 + 5 * unit, 2);
  result.push_back(0);           // memory range
  result.push_back(0x0C);        // producer, positive decode, min and max fixed
  result.push_back(0x01);        // read-write, not cacheable
  append_little(result, 0, unit);  // granularity
  append_little(result, base, unit);
  append_little(result, base + length - 1, unit);
  append_little(result, 0, unit);  // translation
  append_little(result, length, unit);
  return result;
}

}  // namespace

Bytes join(std::initializer_list<Bytes> pieces) {
  Bytes result;
  for (const Bytes& piece : pieces) append(result, piece);
  return result;
}

Bytes name_path(std::string_view path) {
  Bytes result;
  if (!path.empty() && path.front() == '\\') {
    result.push_back('\\');
    path.remove_prefix(1);
  }
  Bytes segments;
  std::size_t count = 0;
  while (!path.empty()) {
    const std::string_view segment = path.substr(0, path.find('.'));
    for (std::size_t i = 0; i < 4; ++i) segments.push_back(i < segment.size() ? static_cast<std::uint8_t>(segment[i]) : '_');
    ++count;
    path.remove_prefix(segment.size() < path.size() ? segment.size() + 1 : path.size());
  }
  if (count == 0) result.push_back(0);
  if (count == 2) result.push_back(kDualNamePrefix);
  if (count > 2) {
    result.push_back(kMultiNamePrefix);
    result.push_back(static_cast<std::uint8_t>(count));
  }
  append(result, segments);
  return result;
}

Bytes integer(std::uint64_t value) {
  if (value == 0) return {kZeroOp};
  if (value == 1) return {kOneOp};
  const auto [prefix, size] = value <= 0xFF         ? std::pair{kBytePrefix, 1U}
                              : value <= 0xFFFF     ? std::pair{kWordPrefix, 2U}
                              : value <= 0xFFFFFFFF ? std::pair{kDWordPrefix, 4U}
                                                    : std::pair{kQWordPrefix, 8U};
  Bytes result = {prefix};
  append_little(result, value, size);
  return result;
}

Bytes string(std::string_view text) {
  Bytes result = {kStringPrefix};
  result.insert(result.end(), text.begin(), text.end());
  result.push_back(0);
  return result;
}

Bytes buffer(const Bytes& content) { return opcode({kBufferOp}, with_length(join({integer(content.size()), content}))); }

Bytes package(std::initializer_list<Bytes> elements) {
  return opcode({kPackageOp}, with_length(join({{static_cast<std::uint8_t>(elements.size())}, join(elements)})));
}

Bytes eisa_id(std::string_view id) {
  const auto letter = [&](std::size_t i) { return static_cast<std::uint32_t>(id[i] - 0x40) & 0x1F; };
  const auto digit = [&](std::size_t i) {
    const char c = id[i];
    return static_cast<std::uint32_t>(c >= 'A' ? c - 'A' + 10 : c - '0');
  };
  const std::uint32_t vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2);
  const std::uint32_t product = (digit(3) << 12) | (digit(4) << 8) | (digit(5) << 4) | digit(6);
  Bytes result = {kDWordPrefix};
  for (const std::uint32_t byte : {vendor >> 8, vendor, product >> 8, product}) result.push_back(static_cast<std::uint8_t>(byte));
  return result;
}

Bytes scope(std::string_view path, const Bytes& content) { return opcode({kScopeOp}, with_length(join({name_path(path), content}))); }
Bytes device(std::string_view name, const Bytes& content) {
  return opcode({kExtOp, kDeviceOp}, with_length(join({name_path(name), content})));
}
Bytes named(std::string_view name, const Bytes& object) { return opcode({kNameOp}, join({name_path(name), object})); }
Bytes method(std::string_view name, std::uint8_t arguments, const Bytes& body) {
  return opcode({kMethodOp}, with_length(join({name_path(name), {arguments}, body})));
}
Bytes return_value(const Bytes& value) { return opcode({kReturnOp}, value); }
Bytes notify(std::string_view object, std::uint8_t value) { return opcode({kNotifyOp}, join({name_path(object), integer(value)})); }

Bytes resource_template(std::initializer_list<Bytes> descriptors) {
  Bytes content = join(descriptors);
  content.push_back(0x79);  // 6.4.2.9: end tag, checksum 0 means "take it as good"
  content.push_back(0x00);
  return buffer(content);
}

Bytes io(std::uint16_t port, std::uint8_t length) {
  Bytes result = {0x47, 0x01};  // 6.4.2.5: 16-bit decode
  append_little(result, port, 2);
  append_little(result, port, 2);
  result.push_back(1);
  result.push_back(length);
  return result;
}

Bytes irq(std::uint8_t number) {
  Bytes result = {0x22};  // 6.4.2.1 without the flags byte: edge, active high, exclusive
  append_little(result, 1U << number, 2);
  return result;
}

Bytes memory32_fixed(std::uint32_t base, std::uint32_t length) {
  Bytes result = {0x86, 0x09, 0x00, 0x01};  // 6.4.3.4, read-write
  append_little(result, base, 4);
  append_little(result, length, 4);
  return result;
}

Bytes dword_memory_window(std::uint32_t base, std::uint32_t length) { return memory_window(0x87, 4, base, length); }
Bytes qword_memory_window(std::uint64_t base, std::uint64_t length) { return memory_window(0x8A, 8, base, length); }

}  // namespace bygone::firmware::aml
