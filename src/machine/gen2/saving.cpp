// A machine's saved state: taken from a paused machine, given to a new one that has not run yet.
//
//   save     processors stop → time stops → the bus settles → its loops are held → parts, processors, memory → file
//   restore  file → memory → clock → processors → hypervisor → chipset → bus
//
// The bus comes first when saving, because devices finish their work in guest memory and may interrupt; it comes last when
// restoring for the same reason.
#include <algorithm>
#include <chrono>
#include <future>

#include "cpu/time_stamps.h"
#include "machine/gen2/parts.h"
#include "machine/saved_state/memory_image.h"
#include "machine/saved_state/processor_state.h"
#include "support/cbor.h"
#include "support/saved_fields.h"

namespace bygone::machine::gen2 {
namespace {

using nlohmann::json;
using saved_state::SectionKind;
using saved_state::StateReader;
using saved_state::StateWriter;

constexpr std::uint32_t kManifestVersion = 1;
// Processors are read one after the other while their TSCs go on; further apart than this is a guest's own doing.
constexpr std::uint64_t kTscToleranceSeconds = 1;
// A TSC that is off by this much is off by less than hosts' own clocks are: 500 parts per million.
constexpr std::uint64_t kTscDriftParts = 2000;

std::int64_t unix_milliseconds() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::unexpected<Error> refuse(std::string why, std::string hint) {
  return std::unexpected(Error{ErrorCode::kUnsupported, std::move(why), std::move(hint)});
}

Result<json> read_cbor(const StateReader& file, SectionKind kind) {
  BYGONE_ASSIGN(const std::vector<std::byte> payload, file.read_only(kind));
  auto value = from_cbor(payload);
  if (!value) return std::unexpected(std::move(value).error().within(fmt::format("{}: the {} section", file.name(), to_string(kind))));
  return value;
}

}  // namespace

/// What a restoring machine reads before it is put together.
struct Machine::SavedMachine {
  StateReader file;
  json manifest;
  cpu::CpuidTable cpuid;
  hyperv::FeatureSet features;
  std::uint64_t tsc_frequency = 0;
  Guid system_id;
};

void Machine::SavedMachineDeleter::operator()(SavedMachine* machine) const { delete machine; }

Result<nlohmann::json> read_saved_manifest(const std::filesystem::path& path) {
  BYGONE_ASSIGN(const StateReader file, StateReader::open(path));
  return read_cbor(file, SectionKind::kManifest);
}

// ---- What is saved ----

std::vector<Machine::Parts::SavedPart> Machine::Parts::saved_parts() {
  std::vector<SavedPart> parts;
  const auto add = [&](std::string_view name, chipset::Savable* part) {
    if (part != nullptr) parts.push_back({name, part});
  };
  // The order is that of restoring. A new part is one line here.
  add("io_apic", io_apic.get());
  add("power", power.get());
  add("rtc", rtc.get());
  add("watchdog", watchdog.get());
  add("generation", generation.get());
  add("com1", com1.get());
  add("com2", com2.get());
  add("helper_ports", helper_device.get());
  return parts;
}

std::vector<EventLoop*> Machine::Parts::loops() const {
  std::vector<EventLoop*> result = {loop.get(), storage_loop.get()};
  for (const auto& network : networks) result.push_back(&network->loop());
  if (sockets) result.push_back(sockets_loop.get());
  return result;
}

json Machine::Parts::disk_facts(std::size_t lun) const {
  const devices::storage::Medium medium = disks[lun] ? devices::storage::Medium{disks[lun]} : storage->medium(static_cast<std::uint8_t>(lun));
  json facts = {{"size", medium.device ? medium.device->info().size_bytes : 0}, {"content", medium.device ? medium.device->content_stamp() : ""}};
  if (!medium.name.empty()) facts["medium"] = medium.name;
  return facts;
}

json Machine::Parts::saved_disk(std::size_t lun) const {
  const json list = saved->manifest.value("disks", json::array());
  return list.is_array() && lun < list.size() && list[lun].is_object() ? list[lun] : json::object();
}

json Machine::Parts::manifest() const {
  json slots = json::array();
  for (const memory::Slot& slot : memory.slots()) slots.push_back({slot.base.value, slot.size});
  json disk_list = json::array();
  for (std::size_t lun = 0; lun < disks.size(); ++lun) disk_list.push_back(disk_facts(lun));
  return {{"version", kManifestVersion},
          {"kind", "generation 2"},
          {"saved_at", unix_milliseconds()},
          {"memory_bytes", options.memory_bytes},
          {"slots", std::move(slots)},
          {"processors", options.processors},
          {"profile", to_string(options.profile)},
          {"firmware", boot_image.is_firmware},
          {"system_id", system_id.text()},
          {"engine", options.engine->name()},
          {"cpuid", saved_state::cpuid_to_json(cpuid)},
          {"features", features.names()},
          {"tsc_frequency", partition->tsc_frequency()},
          {"apic_timer_frequency", partition->apic_timer_frequency()},
          {"machine_time", timers.clock().now().count()},
          {"disks", std::move(disk_list)}};
}

Result<json> Machine::Parts::save_parts() {
  json parts = json::object();
  if (sockets) parts["sockets"] = sockets->save();
  BYGONE_ASSIGN(parts["bus"], bus->save());
  parts["hypervisor"] = hypervisor->save();
  for (const SavedPart& part : saved_parts()) parts[std::string(part.name)] = part.part->save();
  return parts;
}

Result<json> Machine::Parts::save_processors() {
  std::vector<cpu::VcpuState> states;
  for (std::uint32_t i = 0; i < options.processors; ++i) {
    auto state = partition->vcpu({i}).save_state();
    if (!state) return std::unexpected(std::move(state).error().within(fmt::format("saving processor {}", i)));
    states.push_back(std::move(*state));
  }
  cpu::align_time_stamps(states, partition->tsc_frequency() * kTscToleranceSeconds);
  json processors = json::array();
  for (const cpu::VcpuState& state : states) processors.push_back(saved_state::processor_to_json(state));
  return processors;
}

Result<void> Machine::Parts::save(const std::filesystem::path& path, const saved_state::Progress& progress) {
  if (has_ended()) return fail(ErrorCode::kInvalidArgument, "the machine has ended; there is nothing to save");
  BYGONE_ASSIGN(StateWriter file, StateWriter::create(path));
  BYGONE_CHECK(bus->settle());
  std::vector<LoopHold> holds;
  for (EventLoop* each : loops()) holds.emplace_back(*each);
  BYGONE_ASSIGN(const json parts, save_parts());
  BYGONE_ASSIGN(const json processors, save_processors());
  // Now that no request is on its way: what the guest has written becomes durable before the state that relies on it.
  for (const auto& device : disks) {
    if (device) BYGONE_CHECK(disk::flush_blocks(*device));
  }
  BYGONE_CHECK(file.append(SectionKind::kManifest, 0, to_cbor(manifest())));
  BYGONE_CHECK(file.append(SectionKind::kProcessors, 0, to_cbor(processors)));
  BYGONE_CHECK(file.append(SectionKind::kParts, 0, to_cbor(parts)));
  BYGONE_CHECK(saved_state::save_memory(memory, file, progress));
  return file.commit();
}

// ---- What is restored ----

Result<void> Machine::Parts::open_saved_state() {
  BYGONE_ASSIGN(StateReader file, StateReader::open(options.saved_state));
  BYGONE_ASSIGN(json manifest, read_cbor(file, SectionKind::kManifest));
  const std::string part = file.name() + ": the manifest";
  SavedFields fields(manifest, part, kManifestVersion);
  std::uint64_t memory_bytes = 0, tsc_frequency = 0, apic_frequency = 0;
  std::uint32_t processors = 0;
  std::string profile, id;
  bool is_firmware = false;
  fields.read("memory_bytes", memory_bytes);
  fields.read("processors", processors);
  fields.read("profile", profile);
  fields.read("firmware", is_firmware);
  fields.read("system_id", id);
  fields.read("tsc_frequency", tsc_frequency);
  fields.read("apic_timer_frequency", apic_frequency);
  const json* table = fields.nested("cpuid");
  const json* names = fields.nested("features");
  fields.require(names != nullptr && names->is_array(), "features are no list");
  BYGONE_CHECK(fields.finish());

  const std::string hint = "Give the machine back what it had when it was saved, or delete its saved state to start it afresh";
  if (memory_bytes != options.memory_bytes) {
    return refuse(fmt::format("the machine was saved with {} MiB of memory and has {} now", memory_bytes >> 20, options.memory_bytes >> 20), hint);
  }
  if (processors != options.processors) {
    return refuse(fmt::format("the machine was saved with {} processors and has {} now", processors, options.processors), hint);
  }
  if (profile != to_string(options.profile)) {
    return refuse(fmt::format("the machine was saved with the guest profile \"{}\" and has \"{}\" now", profile, to_string(options.profile)), hint);
  }
  if (is_firmware != boot_image.is_firmware) return refuse("the machine was saved with another way to start (firmware or kernel)", hint);
  BYGONE_ASSIGN(cpu::CpuidTable saved_cpuid, saved_state::cpuid_from_json(*table));
  hyperv::FeatureSet saved_features;
  for (const json& name : *names) {
    if (!name.is_string()) return fail(ErrorCode::kCorrupt, "{}: a feature has no name", part);
    BYGONE_ASSIGN(const hyperv::Feature feature, hyperv::feature_named(name.get_ref<const std::string&>()));
    saved_features.add(feature);
  }
  BYGONE_ASSIGN(const Guid saved_id, Guid::parse(id));
  saved.reset(new SavedMachine{std::move(file), std::move(manifest), std::move(saved_cpuid), saved_features, tsc_frequency, saved_id});
  system_id = saved_id;
  return {};
}

Result<void> Machine::Parts::adopt_saved_processors(cpu::CpuidTable& table) {
  if (!saved) return {};
  BYGONE_CHECK(saved_state::check_processor(saved->cpuid, table));
  const hyperv::FeatureSet impossible = impossible_features(), missing = saved->features.without(saved->features.without(impossible));
  if (!missing.is_empty()) {
    return refuse(fmt::format("the machine was saved with {}, which the engine {} cannot do", fmt::join(missing.names(), ", "), options.engine->name()),
                  "Resume it on the engine it was saved on");
  }
  features = saved->features;
  table = saved->cpuid;
  return {};
}

Result<void> Machine::Parts::check_disks() const {
  const json list = saved->manifest.value("disks", json::array());
  if (!list.is_array() || list.size() != disks.size()) {
    return refuse(fmt::format("the machine was saved with {} disks and has {} now", list.size(), disks.size()), "Attach the disks it had");
  }
  for (std::size_t i = 0; i < disks.size(); ++i) {
    const json then = saved_disk(i), now = disk_facts(i);
    if (then.value("size", json()) != now["size"]) return refuse(fmt::format("disk {} has another size than when the machine was saved", i), "Attach the disks it had");
    if (then.value("content", json()) != now["content"] && !options.accepts_changed_disks) {
      return refuse(fmt::format("disk {} has been written since the machine was saved", i),
                    "Resuming would mix the guest's memory of its files with other files and destroy them; delete the saved state to start afresh");
    }
  }
  return {};
}

Result<void> Machine::Parts::restore() {
  if (saved->tsc_frequency > 0) {
    const std::uint64_t now = partition->tsc_frequency(), then = saved->tsc_frequency;
    const std::uint64_t difference = now > then ? now - then : then - now;
    if (difference > then / kTscDriftParts) {
      log.warning("the processor's time stamp counter runs at {} Hz, at {} Hz when the machine was saved; a guest that keeps time by it alone will drift", now, then);
    }
  }
  BYGONE_ASSIGN(const json processors, read_cbor(saved->file, SectionKind::kProcessors));
  BYGONE_ASSIGN(const json parts, read_cbor(saved->file, SectionKind::kParts));
  if (!processors.is_array() || processors.size() != options.processors) return fail(ErrorCode::kCorrupt, "{}: there is not one state for each processor", saved->file.name());
  SavedFields fields(saved->manifest, saved->file.name(), kManifestVersion);
  std::int64_t machine_time = 0;
  fields.read("machine_time", machine_time);
  fields.require(machine_time >= 0, "the machine's time is negative");
  BYGONE_CHECK(fields.finish());

  stop_time();
  start_loops();
  std::promise<Result<void>> checked;
  storage_loop->post([this, &checked] { checked.set_value(check_disks()); });  // on the loop on which the controller takes its drives
  BYGONE_CHECK(checked.get_future().get());
  BYGONE_CHECK(saved_state::restore_memory(memory, saved->file, options.restore_progress));
  timers.set_now(MachineTime(machine_time));
  for (std::uint32_t i = 0; i < options.processors; ++i) {
    BYGONE_ASSIGN(const cpu::VcpuState state, saved_state::processor_from_json(processors[i]));
    auto restored = partition->vcpu({i}).restore_state(state);
    if (!restored) return std::unexpected(std::move(restored).error().within(fmt::format("restoring processor {}", i)));
  }
  const auto state_of = [&](std::string_view name) -> Result<const json*> {
    const auto found = parts.is_object() ? parts.find(name) : parts.end();
    if (found == parts.end()) return refuse(fmt::format("the machine has the part {} and had it not when it was saved", name), "Take it away to resume");
    return &*found;
  };
  for (const auto& [name, value] : parts.items()) {
    const bool is_here = name == "bus" || name == "hypervisor" || (name == "sockets" && sockets) || std::ranges::any_of(saved_parts(), [&](const SavedPart& part) { return part.name == name; });
    if (!is_here) return refuse(fmt::format("the machine had the part {} when it was saved and has it no more", name), "Give it back to resume");
  }
  BYGONE_ASSIGN(const json* hypervisor_state, state_of("hypervisor"));
  BYGONE_CHECK(hypervisor->restore(*hypervisor_state));
  for (const SavedPart& part : saved_parts()) {
    BYGONE_ASSIGN(const json* part_state, state_of(part.name));
    BYGONE_CHECK(part.part->restore(*part_state));
  }
  if (sockets && parts.contains("sockets")) {  // before the bus, which must find the devices that the guest knows
    BYGONE_ASSIGN(const json* sockets_state, state_of("sockets"));
    BYGONE_CHECK(sockets->restore(*sockets_state));
  }
  BYGONE_ASSIGN(const json* bus_state, state_of("bus"));
  BYGONE_CHECK(bus->restore(*bus_state));
  saved.reset();
  is_restored = true;
  return {};
}

}  // namespace bygone::machine::gen2
