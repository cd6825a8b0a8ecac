// A UEFI program that looks at what the firmware gives to a boot loader, says each thing on COM1 in a line of its own, then leaves boot
// services, looks at what the firmware has left behind in the hypervisor, and switches the machine off. What is right and what is wrong
// is boot_test.py's to say. UEFI 2.10: 4.4 boot services, 4.5 runtime services, 4.6 tables.
#include <bygone/uefi.h>

#include <initializer_list>

namespace {

using namespace bygone::uefi;

enum class Boot : unsigned {
  kGetMemoryMap = 4,
  kHandleProtocol = 16,
  kExitBootServices = 26,
  kStall = 28,
  kLocateHandleBuffer = 36,
};
enum class Runtime : unsigned { kGetTime = 0, kGetVariable = 6, kSetVariable = 8, kResetSystem = 10 };

constexpr Guid kMemoryAttributes{0xdcfa911d, 0x26eb, 0x469f, {0xa2, 0x20, 0x38, 0xb7, 0xdc, 0x46, 0x12, 0x20}};
constexpr Guid kRandom{0x3152bca5, 0xeade, 0x433d, {0x86, 0x2e, 0xc0, 0x1c, 0xdc, 0x29, 0x1f, 0x44}};
constexpr Guid kFileSystem{0x964e5b22, 0x6459, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
constexpr Guid kVendor{0x52d01c9e, 0x3f4b, 0x4a6e, {9, 2, 3, 4, 5, 6, 7, 8}};

SystemTable* system_table;

template <typename... Arguments>
Status call(const void* services, unsigned slot, Arguments... arguments) {
  using Function = Status(BYGONE_UEFI_CALL*)(Arguments...);
  return (*reinterpret_cast<const Function*>(static_cast<const char*>(services) + 24 + 8 * slot))(arguments...);
}
template <typename... Arguments>
Status boot(Boot slot, Arguments... arguments) {
  return call(system_table->boot_services, static_cast<unsigned>(slot), arguments...);
}
template <typename... Arguments>
Status runtime(Runtime slot, Arguments... arguments) {
  return call(system_table->runtime_services, static_cast<unsigned>(slot), arguments...);
}
/// A function of a protocol: protocols are structures of pointers, some behind a revision.
template <typename... Arguments>
Status method(void* protocol, unsigned slot, Arguments... arguments) {
  using Function = Status(BYGONE_UEFI_CALL*)(void*, Arguments...);
  return (*reinterpret_cast<const Function*>(static_cast<const char*>(protocol) + 8 * slot))(protocol, arguments...);
}

constexpr std::uint16_t kCom1 = 0x3F8;

void put(char character) {
  std::uint8_t status = 0;
  do {
    asm volatile("inb %1, %0" : "=a"(status) : "Nd"(std::uint16_t{kCom1 + 5}));
  } while ((status & 0x20) == 0);
  asm volatile("outb %0, %1" ::"a"(character), "Nd"(kCom1));
}
void say(const char* text) {
  for (; *text != 0; ++text) put(*text);
}
void say_hex(std::uint64_t value, int digits = 0) {
  char text[17];
  int at = 16;
  text[at] = 0;
  do {
    text[--at] = "0123456789abcdef"[value & 15];
    value >>= 4;
  } while (value != 0 || 16 - at < digits);
  say(text + at);
}
void say_field(const char* name, std::uint64_t value) {
  put(' ');
  say(name);
  put('=');
  say_hex(value);
}
void end_line() { say("\r\n"); }

std::uint64_t read_msr(std::uint32_t number) {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
  return std::uint64_t{high} << 32 | low;
}

bool is_equal(const Guid& left, const Guid& right) {
  const auto* a = reinterpret_cast<const unsigned char*>(&left);
  const auto* b = reinterpret_cast<const unsigned char*>(&right);
  for (unsigned at = 0; at < sizeof left; ++at) {
    if (a[at] != b[at]) return false;
  }
  return true;
}

struct Descriptor {
  std::uint32_t type, padding;
  std::uint64_t start, virtual_start, pages, attributes;
};

void say_descriptors(const char* name, const void* first, std::uint64_t bytes, std::uint64_t step) {
  for (std::uint64_t at = 0; at + sizeof(Descriptor) <= bytes; at += step) {
    const auto* each = reinterpret_cast<const Descriptor*>(static_cast<const char*>(first) + at);
    say(name);
    say_field("type", each->type);
    say_field("start", each->start);
    say_field("pages", each->pages);
    say_field("attributes", each->attributes);
    end_line();
  }
}

/// UEFI 2.10, 4.6.4.
void look_at_memory_attributes() {
  struct Table {
    Guid name;
    const void* table;
  };
  for (std::uint64_t at = 0; at < system_table->table_count; ++at) {
    const auto& each = static_cast<const Table*>(system_table->tables)[at];
    if (!is_equal(each.name, kMemoryAttributes)) continue;
    const auto* header = static_cast<const std::uint32_t*>(each.table);  // version, count, descriptor size, flags
    say("attributes-table");
    say_field("version", header[0]);
    say_field("count", header[1]);
    end_line();
    say_descriptors("protected", header + 4, std::uint64_t{header[1]} * header[2], header[2]);
  }
}

/// Intel SDM, volume 3, 12.11: default type, then pairs of base and mask, then the fixed range of the first 512 KiB.
void look_at_mtrrs() {
  say("mtrrs");
  say_field("default", read_msr(0x2FF));
  for (std::uint32_t range = 0; range < 2; ++range) {
    say_field("base", read_msr(0x200 + 2 * range));
    say_field("mask", read_msr(0x201 + 2 * range));
  }
  say_field("fixed", read_msr(0x250));
  end_line();
}

void look_at_random_numbers() {
  void* random = nullptr;
  if (is_error(system_table->boot_services->locate_protocol(&kRandom, nullptr, &random))) return;
  for (int round = 0; round < 2; ++round) {
    std::uint8_t bytes[32] = {};
    const Status status = method(random, 1, static_cast<const Guid*>(nullptr), std::uint64_t{sizeof bytes}, &bytes[0]);
    say("random ");
    for (const std::uint8_t each : bytes) say_hex(each, 2);
    say_field("status", status);
    end_line();
  }
}

void look_at_modes() {
  void* found = nullptr;
  if (is_error(system_table->boot_services->locate_protocol(&GraphicsOutput::kGuid, nullptr, &found))) return;
  auto* graphics = static_cast<GraphicsOutput*>(found);
  const std::uint32_t first = graphics->mode->mode;
  for (std::uint32_t number = 0; number < graphics->mode->max_mode; ++number) {
    const Status status = graphics->set_mode(graphics, number);
    const auto& information = *graphics->mode->information;
    auto* pixels = reinterpret_cast<volatile std::uint32_t*>(graphics->mode->frame_buffer);
    for (std::uint64_t at = 0; at < graphics->mode->frame_buffer_size / 4; ++at) pixels[at] = 0x123400 + number;
    say(number == first ? "mode first" : "mode other");
    say_field("number", number);
    say_field("width", information.width);
    say_field("height", information.height);
    say_field("line", information.pixels_per_line);
    say_field("format", information.pixel_format);
    say_field("base", graphics->mode->frame_buffer);
    say_field("size", graphics->mode->frame_buffer_size);
    say_field("status", status);
    end_line();
    InputKey key;
    while (system_table->console_in->read_key(system_table->console_in, &key) != kSuccess) {
      system_table->boot_services->stall(1000);
    }
  }
}

/// Every file system's file who.txt, as far as it has one.
void look_at_files() {
  std::uint64_t count = 0;
  Handle* handles = nullptr;
  if (is_error(boot(Boot::kLocateHandleBuffer, std::uint32_t{2}, &kFileSystem, static_cast<void*>(nullptr), &count, &handles))) return;
  for (std::uint64_t at = 0; at < count; ++at) {
    void* volume = nullptr;
    void* root = nullptr;
    void* file = nullptr;
    if (is_error(boot(Boot::kHandleProtocol, handles[at], &kFileSystem, &volume)) || is_error(method(volume, 1, &root))) continue;
    const Status status = method(root, 1, &file, u"\\folder\\who.txt", std::uint64_t{1}, std::uint64_t{0});
    say("volume");
    say_field("open", status);
    if (!is_error(status)) {
      char text[64] = {};
      std::uint64_t bytes = sizeof text - 1;
      say_field("read", method(file, 4, &bytes, &text[0]));
      say(" text=");
      say(text);
      (void)method(file, 2);
    }
    end_line();
    (void)method(root, 2);
  }
}

void look_at_clock() {
  struct Time {
    std::uint16_t year;
    std::uint8_t month, day, hour, minute, second, padding;
    std::uint32_t nanosecond;
    std::int16_t zone;
    std::uint8_t daylight, padding2;
  } time{};
  const Status status = runtime(Runtime::kGetTime, &time, static_cast<void*>(nullptr));
  say("clock");
  say_field("status", status);
  for (const unsigned each : {unsigned{time.year}, unsigned{time.month}, unsigned{time.day}, unsigned{time.hour}}) say_field("part", each);
  end_line();
}

std::uint8_t map[64 << 10];

void set(const char16_t* name, std::uint32_t attributes, std::uint8_t value) {
  (void)runtime(Runtime::kSetVariable, name, &kVendor, attributes, std::uint64_t{1}, &value);
}
void say_variable(const char* what, const char16_t* name) {
  std::uint8_t value = 0;
  std::uint64_t bytes = 1;
  std::uint32_t attributes = 0;
  const Status status = runtime(Runtime::kGetVariable, name, &kVendor, &attributes, &bytes, &value);
  say(what);
  say_field("status", status);
  say_field("value", value);
  end_line();
}

}  // namespace

extern "C" BYGONE_UEFI_CALL Status efi_main(Handle image, SystemTable* table) {
  system_table = table;
  look_at_memory_attributes();
  look_at_mtrrs();
  look_at_random_numbers();
  look_at_clock();
  look_at_files();
  look_at_modes();
  set(u"OnlyBoot", 3, 5);
  set(u"AlsoRuntime", 7, 6);

  std::uint64_t bytes = sizeof map;
  std::uint64_t key = 0;
  std::uint64_t step = 0;
  std::uint32_t version = 0;
  Status status = boot(Boot::kGetMemoryMap, &bytes, &map[0], &key, &step, &version);
  if (!is_error(status)) status = boot(Boot::kExitBootServices, image, key);
  say("left");
  say_field("status", status);
  end_line();
  say_descriptors("memory", map, bytes, step);
  for (const std::uint32_t msr : {0x40000000U, 0x40000001U, 0x40000080U, 0x40000082U, 0x40000083U, 0x40000092U, 0x400000B0U}) {
    say("msr");
    say_field("number", msr);
    say_field("value", read_msr(msr));
    end_line();
  }
  say_variable("boot-variable", u"OnlyBoot");
  say_variable("runtime-variable", u"AlsoRuntime");
  say("the end\r\n");
  (void)runtime(Runtime::kResetSystem, std::uint32_t{2}, std::uint64_t{0}, std::uint64_t{0}, static_cast<void*>(nullptr));
  for (;;) asm volatile("hlt");
}
