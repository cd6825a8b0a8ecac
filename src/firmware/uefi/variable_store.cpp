#include "firmware/uefi/variable_store.h"

#include <nlohmann/json.hpp>

#include <cstring>

#include "spec/uefi/handover.h"
#include "support/cbor.h"
#include "support/file.h"

namespace bygone::firmware {
namespace {

using Json = nlohmann::json;
constexpr int kFormatVersion = 1;
constexpr std::size_t kMaximumFileBytes = 4 << 20;

Json::binary_t binary(const void* bytes, std::size_t size) {
  const auto* begin = static_cast<const std::uint8_t*>(bytes);
  return Json::binary_t(std::vector<std::uint8_t>(begin, begin + size));
}

std::vector<std::uint8_t> encode(const std::map<VariableKey, Variable>& variables) {
  Json list = Json::array();
  for (const auto& [key, variable] : variables) {
    list.push_back({{"vendor", binary(key.vendor.bytes.data(), 16)},
                    {"name", binary(key.name.data(), key.name.size() * 2)},
                    {"attributes", variable.attributes},
                    {"data", binary(variable.data.data(), variable.data.size())}});
  }
  return Json::to_cbor({{"format", "bygone-variables"}, {"version", kFormatVersion}, {"variables", std::move(list)}});
}

Result<std::map<VariableKey, Variable>> decode(std::span<const std::byte> file) {
  const Json root = from_cbor(file).value_or(Json());
  const auto refuse = [](const char* why) { return fail(ErrorCode::kCorrupt, "{}", why); };
  if (!root.is_object() || root.value("format", Json()) != "bygone-variables") return refuse("it is not a variable store");
  if (root.value("version", Json()) != kFormatVersion) return refuse("its version is not known to this program");
  const auto list = root.find("variables");
  if (list == root.end() || !list->is_array()) return refuse("it has no list of variables");
  std::map<VariableKey, Variable> variables;
  for (const Json& item : *list) {
    if (!item.is_object()) return refuse("a variable is not an object");
    const Json vendor = item.value("vendor", Json()), name = item.value("name", Json());
    const Json attributes = item.value("attributes", Json()), data = item.value("data", Json());
    if (!vendor.is_binary() || vendor.get_binary().size() != 16 || !name.is_binary() || name.get_binary().size() % 2 != 0 ||
        name.get_binary().size() > spec::uefi::kMaximumNameBytes || !attributes.is_number_unsigned() || !data.is_binary() ||
        data.get_binary().size() > spec::uefi::kMaximumDataBytes) {
      return refuse("a variable is malformed");
    }
    VariableKey key;
    std::memcpy(key.vendor.bytes.data(), vendor.get_binary().data(), 16);
    key.name.resize(name.get_binary().size() / 2);
    if (!key.name.empty()) std::memcpy(key.name.data(), name.get_binary().data(), name.get_binary().size());
    Variable variable{attributes.get<std::uint32_t>(), std::vector<std::byte>(data.get_binary().size())};
    if (!variable.data.empty()) std::memcpy(variable.data.data(), data.get_binary().data(), variable.data.size());
    variables[std::move(key)] = std::move(variable);
  }
  return variables;
}

}  // namespace

Result<VariableStore> VariableStore::open(std::filesystem::path path) {
  VariableStore store;
  store.path_ = std::move(path);
  auto file = read_file(store.path_, kMaximumFileBytes);
  if (!file && file.error().code == ErrorCode::kNotFound) return store;
  if (!file) return std::unexpected(std::move(file).error());
  auto variables = decode(*file);
  if (!variables) {
    Error error = std::move(variables).error().within(fmt::format("reading UEFI variables from {}", store.path_.string()));
    error.hint = "Delete the file to start with fresh variables";
    return std::unexpected(std::move(error));
  }
  store.variables_ = std::move(*variables);
  return store;
}

std::vector<std::byte> VariableStore::content() const {
  const std::vector<std::uint8_t> bytes = encode(variables_);
  const auto* first = reinterpret_cast<const std::byte*>(bytes.data());
  return {first, first + bytes.size()};
}

Result<void> VariableStore::set_content(std::span<const std::byte> content) {
  BYGONE_ASSIGN(auto variables, decode(content));
  return replace(std::move(variables));
}

const Variable* VariableStore::find(const VariableKey& key) const {
  const auto found = variables_.find(key);
  return found == variables_.end() ? nullptr : &found->second;
}

const VariableKey* VariableStore::next(const std::optional<VariableKey>& key) const {
  const auto found = key ? variables_.upper_bound(*key) : variables_.begin();
  return found == variables_.end() ? nullptr : &found->first;
}

std::size_t VariableStore::used_bytes() const {
  std::size_t total = 0;
  for (const auto& [key, variable] : variables_) total += key.name.size() * 2 + sizeof(Guid) + variable.data.size();
  return total;
}

Result<void> VariableStore::replace(Map changed) {
  Map old = std::exchange(variables_, std::move(changed));
  Result<void> outcome = {};
  if (used_bytes() > kMaximumBytes) {
    outcome = fail(ErrorCode::kExhausted, "the UEFI variables exceed {} bytes", kMaximumBytes);
  } else if (!path_.empty()) {
    const std::vector<std::uint8_t> content = encode(variables_);
    outcome = replace_file(path_, std::as_bytes(std::span(content)));
  }
  if (!outcome) variables_ = std::move(old);
  return outcome;
}

Result<void> VariableStore::set(const VariableKey& key, Variable variable) {
  Map changed = variables_;
  changed[key] = std::move(variable);
  return replace(std::move(changed));
}

Result<void> VariableStore::remove(const VariableKey& key) {
  Map changed = variables_;
  changed.erase(key);
  return replace(std::move(changed));
}

}  // namespace bygone::firmware
