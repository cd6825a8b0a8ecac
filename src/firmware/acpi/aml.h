// A small writer of ACPI Machine Language: just the objects that the machine's DSDT is made of.
// ACPI 6.4 chapter 20 (AML) and 6.4 (resource descriptors). Threading: pure functions over values.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace bygone::firmware::aml {

using Bytes = std::vector<std::uint8_t>;

/// Concatenates pieces of AML.
[[nodiscard]] Bytes join(std::initializer_list<Bytes> pieces);

/// 20.2.2: a name such as "\\_SB", "VMOD" or "\\_SB.VMOD.VMBS"; segments are padded with '_'.
[[nodiscard]] Bytes name_path(std::string_view path);
[[nodiscard]] Bytes integer(std::uint64_t value);
[[nodiscard]] Bytes string(std::string_view text);
[[nodiscard]] Bytes buffer(const Bytes& content);
[[nodiscard]] Bytes package(std::initializer_list<Bytes> elements);
/// "PNP0501" as the 32-bit number of 19.3.4.
[[nodiscard]] Bytes eisa_id(std::string_view id);

[[nodiscard]] Bytes scope(std::string_view path, const Bytes& content);
[[nodiscard]] Bytes device(std::string_view name, const Bytes& content);
[[nodiscard]] Bytes named(std::string_view name, const Bytes& object);
[[nodiscard]] Bytes method(std::string_view name, std::uint8_t arguments, const Bytes& body);
[[nodiscard]] Bytes return_value(const Bytes& value);
[[nodiscard]] Bytes notify(std::string_view object, std::uint8_t value);

/// _CRS buffers: resource_template({io(…), irq(…)}).
[[nodiscard]] Bytes resource_template(std::initializer_list<Bytes> descriptors);
[[nodiscard]] Bytes io(std::uint16_t port, std::uint8_t length);
/// An edge-triggered, active-high, exclusive interrupt 0-15.
[[nodiscard]] Bytes irq(std::uint8_t number);
[[nodiscard]] Bytes memory32_fixed(std::uint32_t base, std::uint32_t length);
/// Ranges that the device hands to its children (producer), uncached, fixed.
[[nodiscard]] Bytes dword_memory_window(std::uint32_t base, std::uint32_t length);
[[nodiscard]] Bytes qword_memory_window(std::uint64_t base, std::uint64_t length);

}  // namespace bygone::firmware::aml
