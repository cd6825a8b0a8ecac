#include "cpu/facilities.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <optional>

namespace bygone::cpu {
namespace {

struct Description {
  Facility facility;
  std::string_view name;
  std::array<std::optional<Facility>, 2> needs = {};
};

// Each after those that it needs.
constexpr std::array kDescriptions{
    Description{Facility::kSynic, "synic"},
    Description{Facility::kReferenceTime, "reference-time"},
    Description{Facility::kTimers, "timers", {Facility::kSynic, Facility::kReferenceTime}},
    Description{Facility::kVpIndex, "vp-index"},
    Description{Facility::kHypercalls, "hypercalls", {Facility::kSynic}},
    Description{Facility::kEventSignals, "event-signals", {Facility::kHypercalls}},
    Description{Facility::kApicRegisters, "apic-registers"},
};

}  // namespace

FacilitySet FacilitySet::all() {
  FacilitySet set;
  for (const Description& description : kDescriptions) set.add(description.facility);
  return set;
}

Result<FacilitySet> FacilitySet::parse(std::string_view text) {
  if (text == "all") return all();
  if (text == "none") return FacilitySet();
  FacilitySet set;
  for (;;) {
    const std::size_t comma = text.find(',');
    const std::string_view name = text.substr(0, comma);
    const Description* found = nullptr;
    std::string known = "all, none";
    for (const Description& description : kDescriptions) {
      if (description.name == name) found = &description;
      known += fmt::format(", {}", description.name);
    }
    if (found == nullptr) {
      return std::unexpected(Error{ErrorCode::kNotFound, fmt::format("no engine has a facility named \"{}\"", name),
                                   fmt::format("There are {}", known)});
    }
    set.add(found->facility);
    if (comma == std::string_view::npos) return set;
    text.remove_prefix(comma + 1);
  }
}

FacilitySet FacilitySet::consistent() const {
  FacilitySet set = *this;
  for (const Description& description : kDescriptions) {
    for (const std::optional<Facility>& need : description.needs) {
      if (need && !set.has(*need)) set.remove(description.facility);
    }
  }
  return set;
}

std::vector<std::string_view> FacilitySet::names() const {
  std::vector<std::string_view> names;
  for (const Description& description : kDescriptions) {
    if (has(description.facility)) names.push_back(description.name);
  }
  return names;
}

std::string FacilitySet::text() const { return empty() ? "none" : fmt::format("{}", fmt::join(names(), ",")); }

}  // namespace bygone::cpu
