// `bygone disk`: makes, looks at and changes disk images.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <ostream>

#include "disk/tools/create.h"
#include "disk/tools/inspect.h"
#include "disk/tools/transform.h"
#include "programs/bygone/commands.h"
#include "programs/bygone/foreign_image.h"

namespace bygone::programs {
namespace {

using nlohmann::json;

/// Draws a bar on a terminal; with --json prints a line of JSON now and then.
class ProgressPrinter {
 public:
  explicit ProgressPrinter(CommandContext& context) : context_(context) {}
  ~ProgressPrinter() {
    if (has_bar_) context_.err() << "\r\033[K" << std::flush;
  }
  ProgressPrinter(const ProgressPrinter&) = delete;
  ProgressPrinter& operator=(const ProgressPrinter&) = delete;

  [[nodiscard]] disk::Progress progress() {
    return {[this](std::uint64_t done, std::uint64_t total) { show(done, total); }, &context_.cancelled()};
  }

 private:
  void show(std::uint64_t done, std::uint64_t total) {
    constexpr std::chrono::milliseconds kBetween(100);
    const auto now = std::chrono::steady_clock::now();
    if (total == 0 || now - last_ < kBetween) return;
    last_ = now;
    const double part = static_cast<double>(done) / static_cast<double>(total);
    if (context_.is_json()) {
      context_.err() << json{{"progress", part}}.dump() << "\n" << std::flush;
    } else if (context_.shows_progress_bar()) {
      constexpr int kWidth = 40;
      const int filled = static_cast<int>(part * kWidth);
      has_bar_ = true;
      context_.err() << fmt::format("\r[{:#<{}}{:.<{}}] {:3.0f} %", "", filled, "", kWidth - filled, 100 * part) << std::flush;
    }
  }

  CommandContext& context_;
  std::chrono::steady_clock::time_point last_;
  bool has_bar_ = false;
};

const CLI::Validator& size_check() {
  static const CLI::Validator check(
      [](std::string& text) {
        const Result<std::uint64_t> size = disk::parse_size(text);
        return size ? std::string() : size.error().message;
      },
      "");
  return check;
}

std::uint64_t size_of(const std::string& text) { return text.empty() ? 0 : disk::parse_size(text).value(); }

CLI::Option* add_file(CLI::App& command, std::string& file, const std::string& description) {
  return command.add_option("file", file, description)->required()->type_name("FILE");
}

/// What describes a new image, for `create` and `convert`.
struct NewImage {
  std::string format;
  std::string kind = "dynamic";
  std::string block_size;
  std::uint32_t sector_size = 512;

  void add_to(CLI::App& command) {
    command.add_option("--format", format, "The format; by default what the name ends in")->check(CLI::IsMember({"vhdx", "vhd", "raw"}));
    command.add_option("--kind", kind, "Whether the file grows with what is written")->check(CLI::IsMember({"dynamic", "fixed"}));
    command.add_option("--block-size", block_size, "The unit in which the file grows, such as 32M")->type_name("SIZE")->check(size_check());
    command.add_option("--sector-size", sector_size, "Bytes of a sector as the guest sees it")->check(CLI::IsMember({512U, 4096U}));
  }

  [[nodiscard]] Result<disk::CreateOptions> options(const std::string& path) const {
    disk::CreateOptions result;
    if (format.empty()) {
      BYGONE_ASSIGN(result.format, disk::format_of_name(path));
    } else {
      result.format = format == "vhdx" ? disk::DiskFormat::kVhdx : format == "vhd" ? disk::DiskFormat::kVhd : disk::DiskFormat::kRaw;
    }
    result.kind = kind == "fixed" ? disk::DiskKind::kFixed : disk::DiskKind::kDynamic;
    const std::uint64_t block = size_of(block_size);
    if (block > (256U << 20)) return fail(ErrorCode::kInvalidArgument, "blocks of {} are larger than any format has", block_size);
    result.block_bytes = static_cast<std::uint32_t>(block);
    result.logical_sector_bytes = sector_size;
    return result;
  }
};

void add_create(CLI::App& disk, CommandContext& context) {
  struct Options {
    std::string file, size, parent;
    NewImage image;
  };
  CLI::App* command = disk.add_subcommand("create", "Make a new disk image");
  auto options = std::make_shared<Options>();
  add_file(*command, options->file, "The new image, which must not exist");
  command->add_option("size", options->size, "The disk's size, such as 40G; a child's is its parent's")->type_name("SIZE")->check(size_check());
  command->add_option("--parent", options->parent, "Make a differencing image over this one")->type_name("FILE");
  options->image.add_to(*command);
  context.add_json_flag(*command);
  add_examples(*command, {{"A disk that grows to 40 GiB", "bygone disk create xp.vhdx 40G"},
                          {"One whose space is reserved at once", "bygone disk create data.vhd 10G --kind fixed"},
                          {"Changes to xp.vhdx in a file of their own", "bygone disk create trial.vhdx --parent xp.vhdx"}});
  command->callback([options, &context] {
    const auto work = [&]() -> Result<void> {
      BYGONE_ASSIGN(disk::CreateOptions create, options->image.options(options->file));
      create.size_bytes = size_of(options->size);
      create.parent = options->parent;
      if (!create.parent.empty()) create.kind = disk::DiskKind::kDifferencing;
      if (create.parent.empty() && create.size_bytes == 0) {
        return std::unexpected(Error{ErrorCode::kInvalidArgument, "a new disk needs a size", "Such as: bygone disk create xp.vhdx 40G"});
      }
      return disk::create_disk(options->file, create);
    };
    context.finish(work());
  });
}

json to_json(const disk::ImageFacts& facts) {
  json value = {{"file", facts.path},
                {"format", to_string(facts.format)},
                {"kind", facts.kind},
                {"size", facts.info.size_bytes},
                {"file_size", facts.file_bytes},
                {"host_size", facts.host_bytes},
                {"block_size", facts.block_bytes},
                {"logical_sector_size", facts.info.logical_sector_bytes},
                {"physical_sector_size", facts.info.physical_sector_bytes},
                {"identity", facts.info.identity.text()},
                {"link_identity", facts.link_identity.text()},
                {"closed_in_order", facts.was_closed_in_order}};
  if (facts.parent_path) value["parent"] = {{"file", *facts.parent_path}, {"missing", facts.is_parent_missing}};
  return value;
}

std::string to_text(const disk::ImageFacts& facts) {
  std::string text = fmt::format("{}\n  kind         {}\n  size         {} ({} bytes)\n  on the host  {} (the file: {})\n  sectors      {} / {} bytes\n",
                                 facts.path, facts.kind, disk::size_text(facts.info.size_bytes), facts.info.size_bytes,
                                 disk::size_text(facts.host_bytes), disk::size_text(facts.file_bytes),
                                 facts.info.logical_sector_bytes, facts.info.physical_sector_bytes);
  if (facts.block_bytes != 0) text += fmt::format("  blocks       {}\n", disk::size_text(facts.block_bytes));
  if (!facts.info.identity.is_zero()) text += fmt::format("  identity     {}\n", facts.info.identity.text());
  if (!facts.was_closed_in_order) text += "  was not closed in order; the next opening puts that right\n";
  if (facts.parent_path) {
    text += fmt::format("  parent       {}{}\n", *facts.parent_path, facts.is_parent_missing ? " (missing)" : "");
  }
  text.pop_back();
  return text;
}

void add_info(CLI::App& disk, CommandContext& context) {
  CLI::App* command = disk.add_subcommand("info", "Say what an image and its parents are");
  auto file = std::make_shared<std::string>();
  add_file(*command, *file, "The image");
  context.add_json_flag(*command);
  add_examples(*command, {{"A disk and the chain behind it", "bygone disk info trial.vhdx"}});
  command->callback([file, &context] {
    const auto work = [&]() -> Result<void> {
      BYGONE_ASSIGN(const auto chain, disk::describe_chain(*file));
      if (context.is_json()) {
        json list = json::array();
        for (const disk::ImageFacts& facts : chain) list.push_back(to_json(facts));
        context.print(list);
      } else {
        for (const disk::ImageFacts& facts : chain) context.print(to_text(facts));
      }
      return {};
    };
    context.finish(work());
  });
}

void add_check(CLI::App& disk, CommandContext& context) {
  struct Options {
    std::string file;
    bool repairs = false;
  };
  CLI::App* command = disk.add_subcommand("check", "Check an image's structures");
  auto options = std::make_shared<Options>();
  add_file(*command, options->file, "The image");
  command->add_flag("--repair", options->repairs, "Put right what can be: replay the log, restore damaged copies");
  context.add_json_flag(*command);
  add_examples(*command, {{"After a crash of the host", "bygone disk check --repair xp.vhdx"}});
  command->callback([options, &context] {
    const auto work = [&]() -> Result<void> {
      ProgressPrinter printer(context);
      BYGONE_ASSIGN(const auto findings, disk::check_image(options->file, options->repairs, printer.progress()));
      json list = json::array();
      std::size_t damages = 0;
      for (const disk::Finding& finding : findings) {
        const bool is_damage = finding.level == disk::Finding::Level::kDamage;
        if (is_damage && !finding.is_repaired) ++damages;
        list.push_back({{"level", is_damage ? "damage" : "note"}, {"text", finding.text}, {"repaired", finding.is_repaired}});
        if (!context.is_json()) {
          context.print(fmt::format("{}: {}{}", is_damage ? "damage" : "note", finding.text, finding.is_repaired ? " (repaired)" : ""));
        }
      }
      if (context.is_json()) {
        context.print(json{{"file", options->file}, {"sound", damages == 0}, {"findings", list}});
      } else if (damages == 0) {
        context.print(fmt::format("{}: sound", options->file));
      }
      if (damages == 0) return {};
      if (context.is_json()) return context.finish(ExitCode::kFailed), Result<void>{};
      return fail(ErrorCode::kCorrupt, "{} is damaged in {} place{}", options->file, damages, damages == 1 ? "" : "s");
    };
    const Result<void> result = work();
    if (!result || context.exit_code() == ExitCode::kDone) context.finish(result);
  });
}

void add_convert(CLI::App& disk, CommandContext& context) {
  struct Options {
    std::string source, target;
    bool is_forced = false;
    NewImage image;
  };
  CLI::App* command = disk.add_subcommand("convert", "Copy a disk into a new image of any format");
  auto options = std::make_shared<Options>();
  command->add_option("source", options->source, "The image to read; qcow2, vmdk and others through qemu-img")->required()->type_name("FILE");
  command->add_option("target", options->target, "The new image")->required()->type_name("FILE");
  command->add_flag("--force", options->is_forced, "Replace the target when it exists");
  options->image.add_to(*command);
  context.add_json_flag(*command);
  add_examples(*command, {{"From Virtual PC to a modern format", "bygone disk convert \"Windows XP.vhd\" xp.vhdx"},
                          {"A chain into one file", "bygone disk convert trial.vhdx whole.vhdx"}});
  command->callback([options, &context] {
    const auto work = [&]() -> Result<void> {
      BYGONE_ASSIGN(const disk::CreateOptions create, options->image.options(options->target));
      ProgressPrinter printer(context);
      BYGONE_ASSIGN(const ReadableSource source, make_readable(options->source, options->target, context, printer.progress()));
      return disk::convert_disk(source.path(), options->target, create, options->is_forced, printer.progress());
    };
    context.finish(work());
  });
}

void add_resize(CLI::App& disk, CommandContext& context) {
  struct Options {
    std::string file, size;
    bool shrinks = false;
  };
  CLI::App* command = disk.add_subcommand("resize", "Change a disk's size");
  auto options = std::make_shared<Options>();
  add_file(*command, options->file, "The image");
  command->add_option("size", options->size, "The new size")->required()->type_name("SIZE")->check(size_check());
  command->add_flag("--shrink", options->shrinks, "Allow a smaller size, losing what lies behind it");
  context.add_json_flag(*command);
  add_examples(*command, {{"More room", "bygone disk resize xp.vhdx 80G"}});
  command->callback([options, &context] {
    context.finish(disk::resize_disk(options->file, size_of(options->size), options->shrinks));
  });
}

void add_compact(CLI::App& disk, CommandContext& context) {
  CLI::App* command = disk.add_subcommand("compact", "Give the space of zeroed and trimmed blocks back");
  auto file = std::make_shared<std::string>();
  add_file(*command, *file, "The image");
  context.add_json_flag(*command);
  add_examples(*command, {{"After deleting much inside", "bygone disk compact xp.vhdx"}});
  command->callback([file, &context] {
    ProgressPrinter printer(context);
    context.finish(disk::compact_disk(*file, printer.progress()));
  });
}

void add_merge(CLI::App& disk, CommandContext& context) {
  struct Options {
    std::string file;
    bool keeps = false;
  };
  CLI::App* command = disk.add_subcommand("merge", "Write a differencing image into its parent and delete it");
  auto options = std::make_shared<Options>();
  add_file(*command, options->file, "The differencing image");
  command->add_flag("--keep", options->keeps, "Keep the differencing image's file");
  context.add_json_flag(*command);
  add_examples(*command, {{"Make the changes of a trial permanent", "bygone disk merge trial.vhdx"}});
  command->callback([options, &context] {
    const auto work = [&]() -> Result<void> {
      ProgressPrinter printer(context);
      BYGONE_CHECK(disk::merge_disk(options->file, printer.progress()));
      std::error_code error;
      if (!options->keeps && !std::filesystem::remove(options->file, error)) {
        return fail(ErrorCode::kIo, "the merge is done, but {} can't be deleted: {}", options->file, error.message());
      }
      return {};
    };
    context.finish(work());
  });
}

void add_map(CLI::App& disk, CommandContext& context) {
  CLI::App* command = disk.add_subcommand("map", "Show where a disk's bytes are kept");
  auto file = std::make_shared<std::string>();
  add_file(*command, *file, "The image");
  context.add_json_flag(*command);
  add_examples(*command, {{"As JSON", "bygone disk map --json xp.vhdx"}});
  command->callback([file, &context] {
    const auto work = [&]() -> Result<void> {
      BYGONE_ASSIGN(const auto entries, disk::map_disk(*file, disk::Progress{{}, &context.cancelled()}));
      json list = json::array();
      for (const disk::MapEntry& entry : entries) {
        if (!context.is_json()) {
          context.print(entry.is_zero ? fmt::format("{:#14x} {:#14x}  zero", entry.offset, entry.length)
                                      : fmt::format("{:#14x} {:#14x}  {} at {:#x}", entry.offset, entry.length, entry.file, entry.file_offset));
          continue;
        }
        json value = {{"start", entry.offset}, {"length", entry.length}, {"depth", entry.depth}, {"zero", entry.is_zero}};
        if (!entry.is_zero) value.update({{"file", entry.file}, {"offset", entry.file_offset}});
        list.push_back(std::move(value));
      }
      if (context.is_json()) context.print(list);
      return {};
    };
    context.finish(work());
  });
}

void add_rebase(CLI::App& disk, CommandContext& context) {
  struct Options {
    std::string file, parent;
    bool is_forced = false;
  };
  CLI::App* command = disk.add_subcommand("rebase", "Tell a differencing image where its parent is now");
  auto options = std::make_shared<Options>();
  add_file(*command, options->file, "The differencing image");
  command->add_option("--parent", options->parent, "The parent's file")->required()->type_name("FILE");
  command->add_flag("--force", options->is_forced, "Take a parent of another identity, whose content must be the same");
  context.add_json_flag(*command);
  add_examples(*command, {{"After moving the base image", "bygone disk rebase trial.vhdx --parent /srv/images/xp.vhdx"}});
  command->callback([options, &context] {
    context.finish(disk::rebase_disk(options->file, options->parent, options->is_forced));
  });
}

}  // namespace

void add_disk_command(CLI::App& root, CommandContext& context) {
  CLI::App* disk = root.add_subcommand("disk", "Make, look at and change disk images");
  disk->require_subcommand(1);
  add_create(*disk, context);
  add_info(*disk, context);
  add_check(*disk, context);
  add_convert(*disk, context);
  add_resize(*disk, context);
  add_compact(*disk, context);
  add_merge(*disk, context);
  add_map(*disk, context);
  add_rebase(*disk, context);
  add_examples(*disk, {{"A disk that grows to 40 GiB", "bygone disk create xp.vhdx 40G"},
                       {"What is this file", "bygone disk info xp.vhdx"}});
}

}  // namespace bygone::programs
