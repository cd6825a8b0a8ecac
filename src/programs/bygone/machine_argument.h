// What the commands on machines share: the NAME argument, and the way to a definition or a running machine. Threading: main thread.
#pragma once

#include <memory>
#include <string>

#include "library/library.h"
#include "programs/bygone/command_context.h"
#include "service/control/client.h"

namespace bygone::programs {

/// Adds the required positional NAME.
CLI::Option* add_machine_argument(CLI::App& command, std::string& name);

/// By name or path, in the person's library.
[[nodiscard]] Result<library::MachineFolder> find_machine(const std::string& name);
/// What a definition has that means nothing to this version, on standard error.
void tell_warnings(const library::ReadDefinition& read, CommandContext& context);
/// To a machine that is there and runs. Errors: kNotFound for either.
[[nodiscard]] Result<std::unique_ptr<service::control::Client>> connect_to(const std::string& name);
/// Whether a machine's process answers, and what it says; null: it does not run.
[[nodiscard]] Result<nlohmann::json> running_status(const library::MachineFolder& machine);
/// Adds a command that takes a machine's name and sends it one request.
void add_request_command(CLI::App& root, CommandContext& context, const std::string& name, const std::string& description,
                         service::control::RequestBody body, std::initializer_list<Example> examples);

}  // namespace bygone::programs
