#include "programs/bygone_window/guest_screen.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace bygone::window {
namespace {

// What SynthVid's largest framebuffer could hold: far above every screen, far below an overflow.
constexpr std::uint32_t kMaximumSide = 16384;

Result<void> check(const ScreenLayout& layout) {
  const bool sides_fit = layout.width > 0 && layout.height > 0 && layout.width <= kMaximumSide && layout.height <= kMaximumSide;
  const bool depth_fits = layout.depth == 32 || layout.depth == 16;
  if (!sides_fit || !depth_fits || layout.pitch < layout.width * (layout.depth / 8) || layout.pitch > kMaximumSide * 4) {
    return fail(ErrorCode::kCorrupt, "the machine sent a screen of {}x{}, {} bits, {} bytes a line, which is none", layout.width, layout.height,
                layout.depth, layout.pitch);
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<GuestScreen>> GuestScreen::create(const UniqueFd& memory, const ScreenLayout& layout) {
  BYGONE_CHECK(check(layout));
  struct stat status {};
  const std::uint64_t bytes = std::uint64_t{layout.pitch} * layout.height;
  if (::fstat(memory.get(), &status) != 0 || std::cmp_greater(layout.offset, status.st_size) ||
      bytes > static_cast<std::uint64_t>(status.st_size) - layout.offset) {
    return fail(ErrorCode::kCorrupt, "the machine sent a screen that lies outside the memory it shared");
  }
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t start = layout.offset / page * page;
  const std::uint64_t skipped = layout.offset - start;
  const std::size_t mapped = bytes + skipped;
  void* mapping = ::mmap(nullptr, mapped, PROT_READ, MAP_SHARED, memory.get(), static_cast<off_t>(start));
  if (mapping == MAP_FAILED) return fail_errno(errno, "mapping the machine's screen");
  const auto format = layout.depth == 32 ? QImage::Format_RGB32 : QImage::Format_RGB16;
  QImage image(static_cast<const uchar*>(mapping) + skipped, static_cast<int>(layout.width), static_cast<int>(layout.height),
               static_cast<qsizetype>(layout.pitch), format);
  return std::shared_ptr<GuestScreen>(new GuestScreen(mapping, mapped, std::move(image)));
}

GuestScreen::GuestScreen(void* mapping, std::size_t mapped_bytes, QImage image)
    : mapping_(mapping), mapped_bytes_(mapped_bytes), image_(std::move(image)) {}

GuestScreen::~GuestScreen() { ::munmap(mapping_, mapped_bytes_); }

}  // namespace bygone::window
