// `bygone screenshot`: a picture of a running machine's screen.
#include <cstring>

#include "programs/bygone/commands.h"
#include "programs/bygone/machine_argument.h"
#include "programs/bygone/png.h"
#include "service/control/fields.h"

namespace bygone::programs {
namespace {

namespace control = service::control;
constexpr std::uint32_t kMaximumSide = 16384;

struct ScreenshotArguments {
  std::string name, file;
};

Result<void> screenshot(const ScreenshotArguments& arguments) {
  BYGONE_ASSIGN(const auto client, connect_to(arguments.name));
  BYGONE_ASSIGN(const auto reply, client->ask(control::request::Screenshot{}));
  std::uint32_t width = 0, height = 0;
  control::FieldReader fields(reply.message);
  fields.read("width", width, 1U, kMaximumSide);
  fields.read("height", height, 1U, kMaximumSide);
  BYGONE_CHECK(fields.outcome());
  std::vector<std::uint32_t> pixels(std::size_t{width} * height);
  const std::size_t bytes = pixels.size() * sizeof pixels[0];
  if (reply.fds.size() != 1) return fail(ErrorCode::kCorrupt, "the machine's process sent no picture");
  BYGONE_ASSIGN(const auto content, control::read_sealed_file(reply.fds[0].get(), bytes));
  if (content.size() != bytes) return fail(ErrorCode::kCorrupt, "the machine's process sent a picture of {} bytes", content.size());
  std::memcpy(pixels.data(), content.data(), bytes);
  return write_png(arguments.file, width, height, pixels);
}

}  // namespace

void add_screenshot_command(CLI::App& root, CommandContext& context) {
  CLI::App* command = root.add_subcommand("screenshot", "Write a picture of a running machine's screen (PNG)");
  auto arguments = std::make_shared<ScreenshotArguments>();
  add_machine_argument(*command, arguments->name);
  command->add_option("file", arguments->file, "The picture; what is there is replaced")->required()->type_name("FILE");
  add_examples(*command, {{"What is on the screen now", "bygone screenshot Demo demo.png"}});
  command->callback([arguments, &context] { context.finish(screenshot(*arguments)); });
}

}  // namespace bygone::programs
