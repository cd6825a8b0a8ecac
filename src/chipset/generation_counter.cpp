#include "chipset/generation_counter.h"

#include "support/saved_fields.h"

namespace bygone::chipset {

namespace {
constexpr std::uint32_t kSavedVersion = 1;
}

Result<void> GenerationCounter::place(memory::Gpa address) {
  const std::lock_guard lock(mutex_);
  if (address.value != 0) BYGONE_CHECK(memory_.write(address, std::as_bytes(std::span(id_))));
  address_ = address;
  return {};
}

void GenerationCounter::change(const Id& id) {
  {
    const std::lock_guard lock(mutex_);
    id_ = id;
    if (address_.value == 0) return;
    if (!memory_.write(address_, std::as_bytes(std::span(id_)))) return;  // cannot be: place() wrote there
  }
  if (notify_) notify_();
}

nlohmann::json GenerationCounter::save() const {
  const std::lock_guard lock(mutex_);
  return {{"version", kSavedVersion}, {"address", address_.value}, {"id", id_}};
}

Result<void> GenerationCounter::restore(const nlohmann::json& state) {
  SavedFields fields(state, "the generation counter", kSavedVersion);
  std::uint64_t address = 0;
  Id id = {};
  fields.read("address", address);
  fields.read("id", id);
  fields.require(address == 0 || memory_.host_span({address}, sizeof(id)).size() == sizeof(id), "its address is not RAM");
  BYGONE_CHECK(fields.finish());
  const std::lock_guard lock(mutex_);
  address_ = {address};
  id_ = id;
  return {};
}

void GenerationCounter::reset() {
  const std::lock_guard lock(mutex_);
  address_ = {};  // the next firmware places it anew
}

}  // namespace bygone::chipset
