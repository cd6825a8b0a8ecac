#include "machine/gdb/registers.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <vector>

namespace bygone::machine::gdb {
namespace {

enum class Home {
  kGeneral,     ///< index: Gpr
  kRip, kFlags,
  kSelector,    ///< index: SegmentName
  kBase,        ///< index: SegmentName
  kX87,         ///< index: ST register, in the XSAVE image
  kX87Word,     ///< index: offset in the XSAVE image, two bytes shown as four
  kX87Tag,
  kXmm,         ///< index: XMM register
  kMxcsr,
  kControl,     ///< index: 0, 2, 3, 4, 8
  kEfer,
};

struct Register {
  std::string name;
  Home home;
  std::size_t index;
  std::size_t bits;
  std::string type;
};

struct FeatureGroup {
  std::string_view name;
  std::vector<Register> registers;
};

// The legacy area of an XSAVE image: Intel SDM volume 1, table 10-2.
constexpr std::size_t kFcw = 0, kFsw = 2, kFtw = 4, kFop = 6, kFip = 8, kFcs = 12, kFdp = 16, kFds = 20, kMxcsr = 24, kSt = 32, kXmm = 160;
constexpr std::size_t kLegacyBytes = 512, kStateBits = 512;

std::vector<FeatureGroup> make_groups() {
  using cpu::Gpr;
  FeatureGroup core{"org.gnu.gdb.i386.core", {}};
  const std::array<std::pair<const char*, Gpr>, 8> named = {{{"rax", Gpr::kRax}, {"rbx", Gpr::kRbx}, {"rcx", Gpr::kRcx}, {"rdx", Gpr::kRdx},
                                                             {"rsi", Gpr::kRsi}, {"rdi", Gpr::kRdi}, {"rbp", Gpr::kRbp}, {"rsp", Gpr::kRsp}}};
  for (const auto& [name, which] : named) {
    const bool is_pointer = which == Gpr::kRbp || which == Gpr::kRsp;
    core.registers.push_back({name, Home::kGeneral, static_cast<std::size_t>(which), 64, is_pointer ? "data_ptr" : "int64"});
  }
  for (std::size_t i = 8; i < 16; ++i) core.registers.push_back({fmt::format("r{}", i), Home::kGeneral, i, 64, "int64"});
  core.registers.push_back({"rip", Home::kRip, 0, 64, "code_ptr"});
  core.registers.push_back({"eflags", Home::kFlags, 0, 32, "i386_eflags"});
  using cpu::SegmentName;
  const std::array<std::pair<const char*, SegmentName>, 6> selectors = {{{"cs", SegmentName::kCs}, {"ss", SegmentName::kSs}, {"ds", SegmentName::kDs},
                                                                         {"es", SegmentName::kEs}, {"fs", SegmentName::kFs}, {"gs", SegmentName::kGs}}};
  for (const auto& [name, which] : selectors) core.registers.push_back({name, Home::kSelector, static_cast<std::size_t>(which), 32, "int32"});
  for (std::size_t i = 0; i < 8; ++i) core.registers.push_back({fmt::format("st{}", i), Home::kX87, i, 80, "i387_ext"});
  const std::array<std::pair<const char*, std::size_t>, 7> words = {{{"fctrl", kFcw}, {"fstat", kFsw}, {"fiseg", kFcs}, {"fioff", kFip}, {"foseg", kFds}, {"fooff", kFdp}, {"fop", kFop}}};
  for (const auto& [name, offset] : words) {
    core.registers.push_back({name, Home::kX87Word, offset, 32, "int"});
    if (offset == kFsw) core.registers.push_back({"ftag", Home::kX87Tag, 0, 32, "int"});
  }
  FeatureGroup sse{"org.gnu.gdb.i386.sse", {}};
  for (std::size_t i = 0; i < 16; ++i) sse.registers.push_back({fmt::format("xmm{}", i), Home::kXmm, i, 128, "vec128"});
  sse.registers.push_back({"mxcsr", Home::kMxcsr, 0, 32, "int"});
  FeatureGroup bases{"org.gnu.gdb.i386.segments",
                     {{"fs_base", Home::kBase, static_cast<std::size_t>(SegmentName::kFs), 64, "int"},
                      {"gs_base", Home::kBase, static_cast<std::size_t>(SegmentName::kGs), 64, "int"}}};
  FeatureGroup system{"org.bygone.system", {}};
  for (const std::size_t control : {0U, 2U, 3U, 4U, 8U}) system.registers.push_back({fmt::format("cr{}", control), Home::kControl, control, 64, "int64"});
  system.registers.push_back({"efer", Home::kEfer, 0, 64, "int64"});
  return {core, sse, bases, system};
}

const std::vector<FeatureGroup>& groups() {
  static const std::vector<FeatureGroup> kGroups = make_groups();
  return kGroups;
}

const Register* find_register(std::size_t number) {
  for (const FeatureGroup& group : groups()) {
    if (number < group.registers.size()) return &group.registers[number];
    number -= group.registers.size();
  }
  return nullptr;
}

template <typename T>
std::string bytes_of_value(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// The legacy area, of a processor that has never been given one too.
std::string legacy_area(const cpu::VcpuState& state) {
  std::string area(kLegacyBytes, '\0');
  if (state.extended.xsave.size() >= kLegacyBytes) {
    std::memcpy(area.data(), state.extended.xsave.data(), kLegacyBytes);
  } else {
    constexpr std::uint16_t kFcwInitial = 0x37F, kMxcsrInitial = 0x1F80;
    std::memcpy(area.data() + kFcw, &kFcwInitial, 2);
    std::memcpy(area.data() + kMxcsr, &kMxcsrInitial, 2);
  }
  return area;
}

const std::uint64_t* control_register(const cpu::SystemRegisters& system, std::size_t number) {
  switch (number) {
    case 0: return &system.cr0;
    case 2: return &system.cr2;
    case 3: return &system.cr3;
    case 4: return &system.cr4;
    default: return &system.cr8;
  }
}

/// The full tag word of the abridged one: in use (0, "valid", whatever it holds) or empty (3).
std::uint32_t full_tag(std::uint8_t abridged) {
  std::uint32_t tag = 0;
  for (unsigned i = 0; i < 8; ++i) tag |= (abridged >> i & 1) != 0 ? 0 : 3U << (2 * i);
  return tag;
}

std::string read_value(const cpu::VcpuState& state, const Register& which) {
  switch (which.home) {
    case Home::kGeneral: return bytes_of_value(state.general.gpr[which.index]);
    case Home::kRip: return bytes_of_value(state.general.rip);
    case Home::kFlags: return bytes_of_value(static_cast<std::uint32_t>(state.general.rflags));
    case Home::kSelector: return bytes_of_value(std::uint32_t{state.system.segments[which.index].selector});
    case Home::kBase: return bytes_of_value(state.system.segments[which.index].base);
    case Home::kX87: return legacy_area(state).substr(kSt + 16 * which.index, 10);
    case Home::kX87Word: {
      const std::size_t size = which.index == kFip || which.index == kFdp ? 4 : 2;
      return legacy_area(state).substr(which.index, size) + std::string(4 - size, '\0');
    }
    case Home::kX87Tag: return bytes_of_value(full_tag(static_cast<std::uint8_t>(legacy_area(state)[kFtw])));
    case Home::kXmm: return legacy_area(state).substr(kXmm + 16 * which.index, 16);
    case Home::kMxcsr: return legacy_area(state).substr(kMxcsr, 4);
    case Home::kControl: return bytes_of_value(*control_register(state.system, which.index));
    case Home::kEfer: return bytes_of_value(state.system.efer);
  }
  return {};
}

/// Puts bytes into the XSAVE image and marks `component` (bit 0: x87, 1: SSE) as in use.
bool write_legacy(cpu::VcpuState& state, std::size_t offset, std::string_view bytes, unsigned component) {
  auto& image = state.extended.xsave;
  if (image.size() < kLegacyBytes + 8) return legacy_area(state).substr(offset, bytes.size()) == bytes;
  std::memcpy(image.data() + offset, bytes.data(), bytes.size());
  image[kStateBits] |= std::byte{static_cast<std::uint8_t>(1U << component)};
  return true;
}

}  // namespace

const std::string& target_description() {
  static const std::string kDescription = [] {
    std::string xml = "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">"
                      "<architecture>i386:x86-64</architecture>";
    for (const FeatureGroup& group : groups()) {
      xml += fmt::format("<feature name=\"{}\">", group.name);
      if (group.name == "org.gnu.gdb.i386.core") {
        xml += "<flags id=\"i386_eflags\" size=\"4\">";
        const std::array<std::pair<const char*, int>, 17> flags = {
            {{"CF", 0}, {"", 1}, {"PF", 2}, {"AF", 4}, {"ZF", 6}, {"SF", 7}, {"TF", 8}, {"IF", 9}, {"DF", 10}, {"OF", 11}, {"NT", 14}, {"RF", 16},
             {"VM", 17}, {"AC", 18}, {"VIF", 19}, {"VIP", 20}, {"ID", 21}}};
        for (const auto& [name, bit] : flags) xml += fmt::format("<field name=\"{}\" start=\"{}\" end=\"{}\"/>", name, bit, bit);
        xml += "</flags>";
      }
      if (group.name == "org.gnu.gdb.i386.sse") {
        xml += "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
               "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
               "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/><union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
               "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
               "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>";
      }
      for (const Register& each : group.registers) {
        xml += fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\"{}/>", each.name, each.bits, each.type,
                           each.home == Home::kX87Word || each.home == Home::kX87Tag ? " group=\"float\"" : "");
      }
      xml += "</feature>";
    }
    return xml + "</target>";
  }();
  return kDescription;
}

std::size_t register_count() {
  std::size_t count = 0;
  for (const FeatureGroup& group : groups()) count += group.registers.size();
  return count;
}

std::string read_register(const cpu::VcpuState& state, std::size_t number) {
  const Register* which = find_register(number);
  return which == nullptr ? std::string() : read_value(state, *which);
}

bool write_register(cpu::VcpuState& state, std::size_t number, std::string_view bytes) {
  const Register* which = find_register(number);
  if (which == nullptr || bytes.size() != which->bits / 8) return false;
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
  switch (which->home) {
    case Home::kGeneral: state.general.gpr[which->index] = value; return true;
    case Home::kRip: state.general.rip = value; return true;
    case Home::kFlags: state.general.rflags = (state.general.rflags & ~0xFFFFFFFFULL) | value; return true;
    case Home::kBase: state.system.segments[which->index].base = value; return true;
    case Home::kX87: return write_legacy(state, kSt + 16 * which->index, bytes, 0);
    case Home::kXmm: return write_legacy(state, kXmm + 16 * which->index, bytes, 1);
    case Home::kMxcsr: return write_legacy(state, kMxcsr, bytes, 1);
    case Home::kX87Word: return write_legacy(state, which->index, bytes.substr(0, which->index == kFip || which->index == kFdp ? 4 : 2), 0);
    default: return read_value(state, *which) == bytes;  // selectors without their descriptors, control registers: only as they are
  }
}

std::string read_all_registers(const cpu::VcpuState& state) {
  std::string all;
  for (std::size_t i = 0; i < register_count(); ++i) all += read_register(state, i);
  return all;
}

bool write_all_registers(cpu::VcpuState& state, std::string_view bytes) {
  cpu::VcpuState changed = state;
  for (std::size_t i = 0; i < register_count(); ++i) {
    const std::size_t size = find_register(i)->bits / 8;
    if (bytes.size() < size || !write_register(changed, i, bytes.substr(0, size))) return false;
    bytes.remove_prefix(size);
  }
  if (!bytes.empty()) return false;
  state = std::move(changed);
  return true;
}

}  // namespace bygone::machine::gdb
