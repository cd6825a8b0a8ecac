#include "programs/bygone/machine_argument.h"

#include <ostream>

namespace bygone::programs {

namespace control = service::control;

namespace {

constexpr std::chrono::minutes kPatience(30);  // a large memory, a slow disk

/// Until the machine's process has let go of its folder.
Result<void> wait_until_gone(control::Client& client) {
  for (;;) {
    const auto event = client.next_event(kPatience);
    if (!event) return event.error().code == ErrorCode::kCancelled ? Result<void>() : std::unexpected(event.error());
    if (!*event) return fail(ErrorCode::kBusy, "the machine is saved, and its process does not end");
    if (std::holds_alternative<control::Ended>((*event)->event)) return {};
  }
}

}  // namespace

CLI::Option* add_machine_argument(CLI::App& command, std::string& name) {
  return command.add_option("machine", name, "The machine's name, or the path of its folder")->required()->type_name("NAME");
}

Result<library::MachineFolder> find_machine(const std::string& name) {
  BYGONE_ASSIGN(const auto library, library::Library::of_user());
  return library.find(name);
}

void tell_warnings(const library::ReadDefinition& read, CommandContext& context) {
  for (const std::string& warning : read.warnings) context.err() << "bygone: " << warning << '\n';
}

Result<std::unique_ptr<control::Client>> connect_to(const std::string& name) {
  BYGONE_ASSIGN(const auto machine, find_machine(name));
  return control::Client::connect(machine.name);
}

Result<nlohmann::json> running_status(const library::MachineFolder& machine) {
  auto client = control::Client::connect(machine.name, std::chrono::seconds(2));
  if (!client && client.error().code == ErrorCode::kNotFound) return nlohmann::json();
  if (!client) return std::unexpected(std::move(client).error());
  auto reply = (*client)->ask(control::request::Status{});
  if (!reply && reply.error().code == ErrorCode::kCancelled) return nlohmann::json();
  if (!reply) return std::unexpected(std::move(reply).error());
  reply->message.erase("id");
  reply->message.erase("reply");
  return std::move(reply->message);
}

void add_request_command(CLI::App& root, CommandContext& context, const std::string& name, const std::string& description,
                         control::RequestBody body, std::initializer_list<Example> examples) {
  CLI::App* command = root.add_subcommand(name, description);
  auto machine = std::make_shared<std::string>();
  add_machine_argument(*command, *machine);
  command->callback([machine, body = std::move(body), &context] {
    const auto send = [&]() -> Result<void> {
      BYGONE_ASSIGN(const auto client, connect_to(*machine));
      client->set_limit(kPatience);
      BYGONE_CHECK(client->ask(body));
      if (std::holds_alternative<control::request::Save>(body)) return wait_until_gone(*client);
      return {};
    };
    context.finish(send());
  });
  add_examples(*command, examples);
}

}  // namespace bygone::programs
