#include "vmbus/device.h"

#include <nlohmann/json.hpp>

namespace bygone::vmbus {

void Device::on_gpadl_teardown(Channel&, GpadlId) {}
std::size_t Device::requests_in_flight(const Channel&) const { return 0; }
void Device::reset() {}
Result<nlohmann::json> Device::save() { return nlohmann::json::object(); }
Result<void> Device::restore(const nlohmann::json&) { return {}; }
nlohmann::json Device::inspect() const { return nlohmann::json::object(); }

}  // namespace bygone::vmbus
