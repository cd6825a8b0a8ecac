// `bygone create`: makes a machine: its folder, its definition and its disk.
#include <unistd.h>

#include <filesystem>
#include <iostream>

#include "disk/tools/create.h"
#include "machine/gen2/network_text.h"
#include "machine/gen2/option_text.h"
#include "programs/bygone/commands.h"
#include "programs/bygone/machine_argument.h"
#include "support/size_text.h"

namespace bygone::programs {
namespace {

namespace fs = std::filesystem;
using library::Document;

struct CreateArguments {
  std::string name, place;
  std::string guest = "linux", engine = "auto", cpu_model = "host", memory = "1G";
  std::uint32_t processors = 1;
  std::vector<std::string> disks, dvds;
  std::string new_disk, disk_kind = "dynamic", parent;
  std::string kernel, initrd, append, firmware, boot_order;
  std::vector<std::string> networks;
  std::string com2 = "none", notes;
};

/// Paths of images elsewhere are kept absolute, so that they do not depend on where the command was given.
std::string absolute(const std::string& path) { return path.empty() ? path : fs::absolute(path).lexically_normal().string(); }

void put(Document& object, const char* key, const std::string& value) {
  if (!value.empty()) object[key] = value;
}

/// As `bygone boot` takes them: one behind NAT when nothing is said, "none" for none.
std::vector<std::string> networks_of(const CreateArguments& arguments) {
  if (arguments.networks.empty()) return {"nat"};
  return arguments.networks[0] == "none" ? std::vector<std::string>() : arguments.networks;
}

Document definition_of(const CreateArguments& arguments) {
  Document document = {{"version", 1},
                       {"name", arguments.name},
                       {"id", Guid::random().text()},
                       {"generation", 2},
                       {"guest", arguments.guest},
                       {"engine", arguments.engine},
                       {"processors", arguments.processors},
                       {"cpu_model", arguments.cpu_model},
                       {"memory", arguments.memory}};
  Document boot = Document::object();
  put(boot, "firmware", absolute(arguments.firmware));
  put(boot, "order", arguments.boot_order);
  put(boot, "kernel", absolute(arguments.kernel));
  put(boot, "initrd", absolute(arguments.initrd));
  put(boot, "command_line", arguments.append);
  document["boot"] = std::move(boot);
  document["disks"] = Document::array();
  if (!arguments.new_disk.empty() || !arguments.parent.empty()) document["disks"].push_back({{"path", arguments.name + ".vhdx"}});
  for (const std::string& disk : arguments.disks) document["disks"].push_back({{"path", absolute(disk)}});
  document["dvds"] = Document::array();
  for (const std::string& dvd : arguments.dvds) document["dvds"].push_back({{"path", absolute(dvd)}});
  document["network"] = Document::array();
  for (const std::string& network : networks_of(arguments)) document["network"].push_back({{"connection", network}});
  document["com1"] = "console";
  document["com2"] = arguments.com2;
  document["notes"] = arguments.notes;
  return document;
}

Result<void> make_disk(const CreateArguments& arguments, const fs::path& folder) {
  if (arguments.new_disk.empty() && arguments.parent.empty()) return {};
  disk::CreateOptions options;
  if (!arguments.new_disk.empty()) {
    BYGONE_ASSIGN(options.size_bytes, parse_size(arguments.new_disk));
  }
  options.kind = arguments.disk_kind == "fixed" ? disk::DiskKind::kFixed : disk::DiskKind::kDynamic;
  if (!arguments.parent.empty()) {
    options.kind = disk::DiskKind::kDifferencing;
    options.parent = absolute(arguments.parent);
  }
  return disk::create_disk((folder / (arguments.name + ".vhdx")).string(), options);
}

/// One question; an empty answer takes `otherwise`. Errors: kCancelled at the end of input.
Result<std::string> ask(CommandContext& context, const std::string& question, const std::string& otherwise) {
  context.out() << question << (otherwise.empty() ? "" : " [" + otherwise + "]") << ": " << std::flush;
  std::string answer;
  if (!std::getline(std::cin, answer)) return fail(ErrorCode::kCancelled, "no machine was made");
  return answer.empty() ? otherwise : answer;
}

/// The three questions of the classic wizard: name and place; memory and network; disk.
Result<void> ask_all(CreateArguments& arguments, CommandContext& context) {
  BYGONE_ASSIGN(const auto library, library::Library::of_user());
  BYGONE_ASSIGN(arguments.name, ask(context, "1. The machine's name", ""));
  BYGONE_CHECK(library::check_name(arguments.name));
  BYGONE_ASSIGN(arguments.place, ask(context, "   The folder to make its folder in", library.default_place().string()));
  BYGONE_ASSIGN(arguments.memory, ask(context, "2. Memory", arguments.memory));
  BYGONE_CHECK(parse_size(arguments.memory));
  BYGONE_ASSIGN(const std::string network, ask(context, "   Network (nat, none, or as of --network)", "nat"));
  arguments.networks = {network};
  BYGONE_ASSIGN(arguments.disk_kind, ask(context, "3. Disk: dynamic, fixed, differencing or existing", "dynamic"));
  if (arguments.disk_kind == "existing") {
    BYGONE_ASSIGN(const std::string disk, ask(context, "   The image to use, where it is", ""));
    arguments.disks = {disk};
  } else if (arguments.disk_kind == "differencing") {
    BYGONE_ASSIGN(arguments.parent, ask(context, "   The image that it keeps differences from", ""));
  } else if (arguments.disk_kind == "dynamic" || arguments.disk_kind == "fixed") {
    BYGONE_ASSIGN(arguments.new_disk, ask(context, "   Its size", "64G"));
  } else {
    return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a kind of disk; nothing was made", arguments.disk_kind);
  }
  return {};
}

Result<void> create(CreateArguments& arguments, CommandContext& context) {
  if (arguments.name.empty()) {
    if (::isatty(STDIN_FILENO) != 1) return fail(ErrorCode::kInvalidArgument, "give the new machine's name; on a terminal, bygone create asks for it");
    BYGONE_CHECK(ask_all(arguments, context));
  }
  BYGONE_CHECK(library::check_name(arguments.name));
  BYGONE_CHECK(machine::gen2::parse_networks(arguments.networks));
  BYGONE_CHECK(machine::gen2::parse_serial(arguments.com2));
  BYGONE_ASSIGN(auto library, library::Library::of_user());
  if (const auto there = library.find(arguments.name); there) {
    return std::unexpected(Error{ErrorCode::kAlreadyExists, fmt::format("there is a machine \"{}\" in {}", arguments.name, there->folder.string()),
                                 "Choose another name, or bygone delete it"});
  }
  const fs::path place = arguments.place.empty() ? library.default_place() : fs::path(absolute(arguments.place));
  BYGONE_ASSIGN(const auto machine, library::create(place, definition_of(arguments),
                                                    [&](const fs::path& folder) { return make_disk(arguments, folder); }));
  BYGONE_CHECK(library.add_place(place));
  if (context.is_json()) {
    context.print(nlohmann::json{{"name", machine.name}, {"folder", machine.folder.string()}});
  } else {
    context.print(fmt::format("created \"{}\" in {}", machine.name, machine.folder.string()));
  }
  return {};
}

}  // namespace

void add_create_command(CLI::App& root, CommandContext& context) {
  auto arguments = std::make_shared<CreateArguments>();
  CLI::App* command = root.add_subcommand("create", "Make a machine: its folder, definition and disk");
  command->add_option("machine", arguments->name, "The new machine's name; without it, and on a terminal, questions are asked")->type_name("NAME");
  command->add_option("--place", arguments->place, "The folder to make its folder in, remembered; by default the Virtual Machines folder")->type_name("DIR");
  command->add_option("--guest", arguments->guest, "What the machine is to please")->check(CLI::IsMember({"linux", "windows", "legacy-windows"}))->capture_default_str();
  command->add_option("--memory", arguments->memory, "Memory, such as 512M or 2G")->capture_default_str()->type_name("SIZE");
  command->add_option("--cpus", arguments->processors, "Processors, 1 to 64")->capture_default_str()->type_name("COUNT");
  command->add_option("--engine", arguments->engine, "What runs the processors")->check(CLI::IsMember({"auto", "kvm", "software"}))->capture_default_str();
  command->add_option("--cpu", arguments->cpu_model, "The processor that the guest sees")->check(CLI::IsMember({"host", "legacy"}))->capture_default_str();
  command->add_option("--disk-size", arguments->new_disk, "Make a disk of this size, such as 40G")->type_name("SIZE");
  command->add_option("--disk-kind", arguments->disk_kind, "Whether that disk's file grows with what is written")->check(CLI::IsMember({"dynamic", "fixed"}))->capture_default_str();
  command->add_option("--parent", arguments->parent, "Make a disk that keeps only differences from this image")->type_name("FILE");
  command->add_option("--disk", arguments->disks, "Use an existing image where it is; may be repeated")->type_name("FILE");
  command->add_option("--dvd", arguments->dvds, "A DVD drive with this image; may be repeated")->type_name("FILE");
  command->add_option("--network", arguments->networks, "A network adapter as of bygone boot: nat (the default), tap:NAME, unplugged, none, with settings; may be repeated")->type_name("NETWORK");
  command->add_option("--kernel", arguments->kernel, "A Linux kernel to start instead of firmware")->type_name("FILE");
  command->add_option("--initrd", arguments->initrd, "Its initial RAM disk")->type_name("FILE");
  command->add_option("--append", arguments->append, "Its command line")->type_name("TEXT");
  command->add_option("--firmware", arguments->firmware, "UEFI firmware other than Bygone's own")->type_name("FILE");
  command->add_option("--boot-order", arguments->boot_order, "Drives that the firmware tries first, such as dvd,disk")->type_name("LIST");
  command->add_option("--com2", arguments->com2, "The second serial port: none, null, pty, file:PATH or socket:PATH")->capture_default_str()->type_name("PORT");
  command->add_option("--notes", arguments->notes, "Whatever you like")->type_name("TEXT");
  context.add_json_flag(*command);
  add_examples(*command, {{"A machine with a new disk, to install from a DVD", "bygone create Debian --memory 2G --cpus 2 --disk-size 40G --dvd debian-12.iso"},
                          {"With three questions", "bygone create"},
                          {"A machine on top of an existing disk, which stays as it is", "bygone create Trial --parent Debian.vhdx"}});
  command->callback([arguments, &context] { context.finish(create(*arguments, context)); });
}

}  // namespace bygone::programs
