// A program for the bare machine: greets on the screen and on COM1, paints, and waits for a key (but not for ever).
// Built by the Makefile beside it with g++ or clang++, without a library and without a development kit.
#include <bygone/uefi.h>

namespace {

namespace uefi = bygone::uefi;

constexpr std::uint16_t kCom1 = 0x3F8;
constexpr std::uint16_t kLineStatus = kCom1 + 5;
constexpr std::uint8_t kTransmitterEmpty = 0x20;

void out8(std::uint16_t port, std::uint8_t value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }

std::uint8_t in8(std::uint16_t port) {
  std::uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

// Straight to the port, past the firmware: what a kernel does before it has anything else.
void print_serial(const char* text) {
  for (; *text != 0; ++text) {
    while ((in8(kLineStatus) & kTransmitterEmpty) == 0) {
    }
    out8(kCom1, static_cast<std::uint8_t>(*text));
  }
}

uefi::GraphicsOutput* find_graphics(uefi::BootServices& services) {
  void* found = nullptr;
  const auto status = services.locate_protocol(&uefi::GraphicsOutput::kGuid, nullptr, &found);
  return uefi::is_error(status) ? nullptr : static_cast<uefi::GraphicsOutput*>(found);
}

void paint(const uefi::GraphicsOutput& graphics) {
  const auto& shape = *graphics.mode->information;
  auto* const pixels = reinterpret_cast<volatile std::uint32_t*>(graphics.mode->frame_buffer);
  for (std::uint32_t y = shape.height / 2; y < shape.height; ++y) {
    for (std::uint32_t x = 0; x < shape.width; ++x) {
      const std::uint32_t red = 255 * x / shape.width;
      const std::uint32_t blue = 255 * (y - shape.height / 2) / (shape.height / 2);
      pixels[std::size_t{y} * shape.pixels_per_line + x] = red << 16 | 0x40 << 8 | blue;
    }
  }
}

void wait_for_key(uefi::SystemTable& system, int tenths) {
  uefi::InputKey key;
  while (tenths-- > 0 && system.console_in->read_key(system.console_in, &key) == uefi::kNotReady) {
    system.boot_services->stall(100'000);
  }
}

}  // namespace

extern "C" BYGONE_UEFI_CALL uefi::Status efi_main(uefi::Handle, uefi::SystemTable* system) {
  auto& services = *system->boot_services;
  auto& console = *system->console_out;
  print_serial("hello: on COM1, straight to the port\r\n");
  console.output_string(&console, u"hello: a C++ program on the bare machine, firmware by ");
  console.output_string(&console, system->firmware_vendor);
  console.output_string(&console, u"\r\n");
  if (const auto* const graphics = find_graphics(services)) paint(*graphics);
  console.output_string(&console, u"hello: press a key, or wait five seconds\r\n");
  wait_for_key(*system, 50);
  console.output_string(&console, u"hello: done\r\n");
  return uefi::kSuccess;
}
