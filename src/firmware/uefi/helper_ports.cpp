#include "firmware/uefi/helper_ports.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "support/saved_fields.h"

namespace bygone::firmware {

namespace uefi = spec::uefi;
using uefi::NvramCommand;
using uefi::NvramDescriptor;
using uefi::Selector;
using uefi::Status;

namespace {
constexpr std::uint32_t kSavedVersion = 1;
}

HelperPorts::HelperPorts(memory::GuestMemory& memory, VariableStore& variables, Events events, Log log)
    : memory_(memory), variables_(variables), events_(std::move(events)), log_(std::move(log)) {}

std::uint32_t HelperPorts::read(std::uint16_t port, std::uint8_t size) {
  const std::lock_guard lock(mutex_);
  if (port == uefi::kDataPort && size == 4 && selector_ == static_cast<std::uint32_t>(Selector::kNfitSize)) return 0;  // a table of no bytes
  return 0xFFFFFFFF;  // no other selector of ours has data to read; all-ones is what "absent" reads as
}

void HelperPorts::write(std::uint16_t port, std::uint8_t size, std::uint32_t value) {
  if (size != 4) return;
  const std::lock_guard lock(mutex_);
  if (port == uefi::kSelectorPort) selector_ = value;
  if (port == uefi::kDataPort) write_data(value);
}

void HelperPorts::reset() {
  const std::lock_guard lock(mutex_);
  selector_ = 0;
  is_runtime_ = false;
}

nlohmann::json HelperPorts::save() const {
  const std::lock_guard lock(mutex_);
  nlohmann::json state = {{"version", kSavedVersion}, {"selector", selector_}, {"generation_id_low", generation_id_low_}, {"runtime", is_runtime_}};
  if (!variables_.has_file()) {
    const std::vector<std::byte> content = variables_.content();
    const auto* first = reinterpret_cast<const std::uint8_t*>(content.data());
    state["variables"] = nlohmann::json::binary({first, first + content.size()});
  }
  return state;
}

Result<void> HelperPorts::restore(const nlohmann::json& state) {
  SavedFields fields(state, "the firmware's helper ports", kSavedVersion);
  std::uint32_t selector = 0, generation_id_low = 0;
  bool is_runtime = false;
  fields.read("selector", selector);
  fields.read("generation_id_low", generation_id_low);
  fields.read("runtime", is_runtime);
  const nlohmann::json* variables = variables_.has_file() ? nullptr : fields.nested("variables");
  fields.require(variables == nullptr || variables->is_binary(), "the variables are no bytes");
  BYGONE_CHECK(fields.finish());
  const std::lock_guard lock(mutex_);
  if (variables != nullptr) BYGONE_CHECK(variables_.set_content(std::as_bytes(std::span(variables->get_binary()))));
  selector_ = selector;
  generation_id_low_ = generation_id_low;
  is_runtime_ = is_runtime;
  return {};
}

nlohmann::json HelperPorts::inspect() const {
  const std::lock_guard lock(mutex_);
  return {{"selector", selector_}, {"runtime", is_runtime_}, {"variable_bytes", variables_.used_bytes()}};
}

void HelperPorts::write_data(std::uint32_t value) {
  switch (static_cast<Selector>(selector_)) {
    case Selector::kGenerationIdLow: generation_id_low_ = value; return;
    case Selector::kGenerationIdHigh:
      if (events_.generation_id_placed) {
        events_.generation_id_placed((std::uint64_t{value} << 32) | generation_id_low_);
      }
      return;
    case Selector::kBootFinalize:
      if (events_.boot_finalized) events_.boot_finalized();
      return;
    case Selector::kNvram: run_nvram({value}); return;
    case Selector::kCrypto: run_crypto({value}); return;
    case Selector::kNfitSize: return;
    case Selector::kDebugString: log_debug_string({value}); return;
  }
  if (log_limit_.allow()) log_.debug("the firmware wrote {:#x} to unknown selector {:#x}", value, selector_);
}

void HelperPorts::run_nvram(memory::Gpa address) {
  auto descriptor = memory_.read_object<NvramDescriptor>(address);
  if (!descriptor) {
    if (log_limit_.allow()) log_.warning("the firmware's variable request at {:#x} is not in RAM", address.value);
    return;
  }
  Status status = Status::kUnsupported;
  switch (static_cast<NvramCommand>(descriptor->command.value())) {
    case NvramCommand::kGet: status = get(*descriptor); break;
    case NvramCommand::kSet: status = set(*descriptor); break;
    case NvramCommand::kGetFirstName: status = next_name(*descriptor, true); break;
    case NvramCommand::kGetNextName: status = next_name(*descriptor, false); break;
    case NvramCommand::kQueryInfo: {
      const uefi::NvramQueryInfo info{descriptor->attributes, VariableStore::kMaximumBytes,
                                      VariableStore::kMaximumBytes - variables_.used_bytes(), uefi::kMaximumDataBytes};
      std::memcpy(reinterpret_cast<std::byte*>(&*descriptor) + offsetof(NvramDescriptor, attributes), &info, sizeof info);
      status = Status::kSuccess;
      break;
    }
    case NvramCommand::kSignalRuntime:
      is_runtime_ = true;
      status = Status::kSuccess;
      break;
    case NvramCommand::kDebugString: status = Status::kSuccess; break;
  }
  descriptor->status = static_cast<std::uint64_t>(status);
  if (auto written = memory_.write_object(address, *descriptor); !written && log_limit_.allow()) {
    log_.warning("answering the firmware's variable request: {}", written.error().text());
  }
}

void HelperPorts::run_crypto(memory::Gpa address) {
  auto descriptor = memory_.read_object<uefi::CryptoDescriptor>(address);
  if (!descriptor) {
    if (log_limit_.allow()) log_.warning("the firmware's request for random numbers at {:#x} is not in RAM", address.value);
    return;
  }
  const std::size_t bytes = descriptor->buffer_bytes;
  Status status = Status::kUnsupported;
  if (descriptor->command == uefi::kCryptoRandomNumber) {
    std::array<std::byte, uefi::kMaximumRandomBytes> random;
    if (bytes > random.size()) {
      status = Status::kInvalidParameter;
    } else if (::getrandom(random.data(), bytes, 0) != static_cast<ssize_t>(bytes)) {
      status = Status::kDeviceError;
    } else {
      status = memory_.write({descriptor->buffer_address}, std::span(random).first(bytes)) ? Status::kSuccess : Status::kInvalidParameter;
    }
  }
  descriptor->status = static_cast<std::uint64_t>(status);
  if (auto written = memory_.write_object(address, *descriptor); !written && log_limit_.allow()) {
    log_.warning("answering the firmware's request for random numbers: {}", written.error().text());
  }
}

bool HelperPorts::is_visible(const Variable& variable) const {
  return !is_runtime_ || (variable.attributes & uefi::kVariableRuntime) != 0;
}

std::optional<std::u16string> HelperPorts::read_name(const NvramDescriptor& descriptor) const {
  const std::uint32_t bytes = descriptor.name_bytes;
  if (bytes < 2 || bytes % 2 != 0 || bytes > uefi::kMaximumNameBytes) return std::nullopt;
  std::u16string name(bytes / 2, u'\0');
  if (!memory_.read({descriptor.name_address}, std::as_writable_bytes(std::span(name)))) return std::nullopt;
  const std::size_t end = name.find(u'\0');
  if (end == std::u16string::npos) return std::nullopt;
  name.resize(end);
  return name;
}

Status HelperPorts::get(NvramDescriptor& descriptor) {
  const auto name = read_name(descriptor);
  if (!name) return Status::kNotFound;
  const Variable* variable = variables_.find({descriptor.vendor, *name});
  if (variable == nullptr || !is_visible(*variable)) return Status::kNotFound;
  const std::uint32_t capacity = descriptor.data_bytes;
  descriptor.attributes = variable->attributes;
  descriptor.data_bytes = static_cast<std::uint32_t>(variable->data.size());
  if (capacity < variable->data.size()) return Status::kBufferTooSmall;
  return memory_.write({descriptor.data_address}, variable->data) ? Status::kSuccess : Status::kInvalidParameter;
}

Status HelperPorts::set(const NvramDescriptor& descriptor) {
  const auto name = read_name(descriptor);
  if (!name || name->empty()) return Status::kInvalidParameter;
  const VariableKey key{descriptor.vendor, *name};
  const Variable* old = variables_.find(key);
  const std::uint32_t attributes = descriptor.attributes & ~uefi::kVariableAppend;
  const bool is_append = (descriptor.attributes & uefi::kVariableAppend) != 0;
  if (is_runtime_ && ((old != nullptr && !is_visible(*old)) || (attributes != 0 && (attributes & uefi::kVariableRuntime) == 0))) {
    return Status::kWriteProtected;
  }
  const std::uint32_t bytes = descriptor.data_bytes;
  const bool has_access = (attributes & (uefi::kVariableBootService | uefi::kVariableRuntime)) != 0;
  if (!has_access || (bytes == 0 && !is_append)) {
    if (old == nullptr) return Status::kNotFound;
    return variables_.remove(key) ? Status::kSuccess : Status::kDeviceError;
  }
  if (old != nullptr && old->attributes != attributes) return Status::kInvalidParameter;
  Variable variable{attributes, {}};
  if (is_append && old != nullptr) variable.data = old->data;
  if (bytes > uefi::kMaximumDataBytes - std::min(variable.data.size(), uefi::kMaximumDataBytes)) return Status::kOutOfResources;
  const std::size_t have = variable.data.size();
  variable.data.resize(have + bytes);
  if (!memory_.read({descriptor.data_address}, std::span(variable.data).subspan(have))) return Status::kInvalidParameter;
  const auto outcome = variables_.set(key, std::move(variable));
  if (outcome) return Status::kSuccess;
  if (log_limit_.allow()) log_.warning("storing a UEFI variable: {}", outcome.error().text());
  return outcome.error().code == ErrorCode::kExhausted || outcome.error().code == ErrorCode::kNoSpace ? Status::kOutOfResources
                                                                                                       : Status::kDeviceError;
}

Status HelperPorts::next_name(NvramDescriptor& descriptor, bool is_first) {
  std::optional<VariableKey> key;
  if (!is_first) {
    // The name's capacity stands in name_bytes; the name itself ends at its NUL.
    NvramDescriptor bounded = descriptor;
    bounded.name_bytes = std::min<std::uint32_t>(descriptor.name_bytes, uefi::kMaximumNameBytes) & ~1U;
    const auto name = read_name(bounded);
    if (!name) return Status::kInvalidParameter;
    key = VariableKey{descriptor.vendor, *name};
    const Variable* current = variables_.find(*key);
    if (current == nullptr || !is_visible(*current)) return Status::kNotFound;
  }
  const VariableKey* next = variables_.next(key);
  while (next != nullptr && !is_visible(*variables_.find(*next))) next = variables_.next(*next);
  if (next == nullptr) return Status::kNotFound;
  const std::size_t needed = (next->name.size() + 1) * 2;
  const std::uint32_t capacity = descriptor.name_bytes;
  descriptor.name_bytes = static_cast<std::uint32_t>(needed);
  if (capacity < needed) return Status::kBufferTooSmall;
  descriptor.vendor = next->vendor;
  const auto* bytes = reinterpret_cast<const std::byte*>(next->name.c_str());
  return memory_.write({descriptor.name_address}, {bytes, needed}) ? Status::kSuccess : Status::kInvalidParameter;
}

void HelperPorts::log_debug_string(memory::Gpa address) {
  if (!log_limit_.allow()) return;
  std::string text;
  for (std::uint64_t i = 0; i < 512; ++i) {
    const auto c = memory_.read_object<char>(address + i);
    if (!c || *c == '\0') break;
    text += *c >= ' ' && *c < 0x7F ? *c : '.';
  }
  log_.warning("the firmware says: {}", text);
}

}  // namespace bygone::firmware
