// What a hand does at a running machine: `bygone type`, `bygone click`, and the plain requests pause, resume, reset, save.
#include <fcntl.h>

#include "programs/bygone/commands.h"
#include "programs/bygone/machine_argument.h"
#include "service/control/key_codes.h"

namespace bygone::programs {
namespace {

namespace control = service::control;
namespace request = service::control::request;

struct TypeArguments {
  std::string name, text;
  std::vector<std::string> combinations;
  bool ends_with_enter = false;
};

struct ClickArguments {
  std::string name, button = "left";
  std::uint32_t x = 0, y = 0;
  bool is_double = false;
};

struct DriveArguments {
  std::string name, file;
  std::uint8_t drive = 0;
  bool is_forced = false;
};

Result<void> eject(const DriveArguments& arguments) {
  BYGONE_ASSIGN(const auto client, connect_to(arguments.name));
  BYGONE_CHECK(client->ask(request::Eject{arguments.drive, arguments.is_forced}));
  return {};
}

Result<void> insert(const DriveArguments& arguments) {
  BYGONE_ASSIGN(const auto client, connect_to(arguments.name));
  const UniqueFd image(::open(arguments.file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!image) return fail_errno(errno, "opening " + arguments.file);
  const int file = image.get();
  BYGONE_CHECK(client->ask(request::Insert{arguments.drive, std::filesystem::absolute(arguments.file)}, std::span(&file, 1)));
  return {};
}

Result<void> type(const TypeArguments& arguments) {
  constexpr std::size_t kPiece = 256;  // takes the machine, which strikes at a guest's pace, a second or two
  const std::string text = arguments.text + (arguments.ends_with_enter ? "\n" : "");
  BYGONE_CHECK(control::keys_for_text(text));  // all of it or nothing
  BYGONE_ASSIGN(const auto client, connect_to(arguments.name));
  for (std::size_t at = 0; at < text.size(); at += kPiece) BYGONE_CHECK(client->ask(request::Type{text.substr(at, kPiece)}));
  for (const std::string& combination : arguments.combinations) {
    BYGONE_ASSIGN(auto keys, control::keys_for_combination(combination));
    BYGONE_CHECK(client->ask(request::Keys{std::move(keys)}));
  }
  return {};
}

Result<void> click(const ClickArguments& arguments) {
  BYGONE_ASSIGN(const auto client, connect_to(arguments.name));
  const std::uint8_t button = arguments.button == "left" ? 0 : arguments.button == "right" ? 1 : 2;
  BYGONE_CHECK(client->ask(request::Click{arguments.x, arguments.y, button, static_cast<std::uint8_t>(arguments.is_double ? 2 : 1)}));
  return {};
}

}  // namespace

void add_type_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("type", "Strike keys at a running machine, as on a US keyboard");
  auto arguments = std::make_shared<TypeArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_option("text", arguments->text, "What to type; ASCII, with line breaks and tabs as the keys")->type_name("TEXT");
  command->add_flag("--enter", arguments->ends_with_enter, "And Enter after it");
  command->add_option("--keys", arguments->combinations, "Keys by name, pressed together, such as ctrl-alt-del; after the text; may be repeated")->type_name("KEYS");
  add_examples(*command, {{"A command and Enter", "bygone type Demo --enter \"ls -l\""}, {"Ctrl-Alt-Del", "bygone type Demo --keys ctrl-alt-del"}});
  command->callback([arguments, &context] { context.finish(type(*arguments)); });
}

void add_click_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("click", "Click at a place of a running machine's screen");
  auto arguments = std::make_shared<ClickArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_option("x", arguments->x, "Pixels from the left")->required()->type_name("X");
  command->add_option("y", arguments->y, "Pixels from the top")->required()->type_name("Y");
  command->add_option("--button", arguments->button, "Which button")->check(CLI::IsMember({"left", "right", "middle"}))->capture_default_str();
  command->add_flag("--double", arguments->is_double, "Twice");
  add_examples(*command, {{"The upper left corner", "bygone click Demo 5 5"}, {"Open what is there", "bygone click Demo 200 150 --double"}});
  command->callback([arguments, &context] { context.finish(click(*arguments)); });
}

void add_drive_commands(CLI::App& root, CommandContext& context) {
  auto arguments = std::make_shared<DriveArguments>();
  CLI::App* ejects = root.add_subcommand("eject", "Take the DVD out of a running machine's drive");
  CLI::App* inserts = root.add_subcommand("insert", "Put a DVD image into a running machine's drive");
  for (CLI::App* command : {ejects, inserts}) {
    add_machine_argument(*command, arguments->name);
    command->add_option("--drive", arguments->drive, "Which drive, from 0")->type_name("NUMBER")->capture_default_str();
  }
  ejects->add_flag("--force", arguments->is_forced, "Also when the guest has locked the tray");
  inserts->add_option("file", arguments->file, "The image")->required()->type_name("FILE");
  add_examples(*ejects, {{"Until the next start, when the definition's is in it again", "bygone eject Demo"}});
  add_examples(*inserts, {{"The second disc", "bygone insert Demo disc2.iso"}});
  ejects->callback([arguments, &context] { context.finish(eject(*arguments)); });
  inserts->callback([arguments, &context] { context.finish(insert(*arguments)); });
}

void add_lifecycle_commands(CLI::App& root, CommandContext& context) {
  add_request_command(root, context, "pause", "Stop a machine's processors where they are", request::Pause{}, {{"Stop time in the guest", "bygone pause Demo"}});
  add_request_command(root, context, "resume", "Let a paused machine go on", request::Resume{}, {{"Go on", "bygone resume Demo"}});
  add_request_command(root, context, "reset", "Start a machine anew, as with its reset button", request::Reset{}, {{"The guest is not asked", "bygone reset Demo"}});
  // Writing a large memory to a slow disk takes its time.
  add_request_command(root, context, "save", "Write a machine's whole state to its folder, and end it; start goes on from there", request::Save{},
                      {{"Put it away", "bygone save Demo"}, {"And go on", "bygone start Demo"}});
}

}  // namespace bygone::programs
