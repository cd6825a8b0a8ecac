#include "programs/bygone_window/host_keys.h"

#include <linux/input-event-codes.h>

#include <array>

namespace bygone::window {
namespace {

struct Row {
  std::uint32_t key;
  ScanCode code;
};

constexpr ScanCode e0(std::uint8_t code) { return {.code = code, .is_e0 = true}; }
constexpr ScanCode plain(std::uint8_t code) { return {.code = code}; }

// Input codes 1 to 83 were taken from set 1 and are the same numbers; these are the others.
constexpr auto kOthers = std::to_array<Row>({
    {KEY_102ND, plain(0x56)},      {KEY_F11, plain(0x57)},        {KEY_F12, plain(0x58)},
    {KEY_RO, plain(0x73)},         {KEY_KATAKANAHIRAGANA, plain(0x70)}, {KEY_HENKAN, plain(0x79)},
    {KEY_MUHENKAN, plain(0x7B)},   {KEY_YEN, plain(0x7D)},        {KEY_KPCOMMA, plain(0x7E)},
    {KEY_KPEQUAL, plain(0x59)},    {KEY_F13, plain(0x64)},        {KEY_F14, plain(0x65)},
    {KEY_F15, plain(0x66)},        {KEY_F16, plain(0x67)},        {KEY_F17, plain(0x68)},
    {KEY_F18, plain(0x69)},        {KEY_F19, plain(0x6A)},        {KEY_F20, plain(0x6B)},
    {KEY_F21, plain(0x6C)},        {KEY_F22, plain(0x6D)},        {KEY_F23, plain(0x6E)},
    {KEY_F24, plain(0x76)},        {KEY_KPENTER, e0(0x1C)},       {KEY_RIGHTCTRL, e0(0x1D)},
    {KEY_KPSLASH, e0(0x35)},       {KEY_SYSRQ, e0(0x37)},         {KEY_RIGHTALT, e0(0x38)},
    {KEY_HOME, e0(0x47)},          {KEY_UP, e0(0x48)},            {KEY_PAGEUP, e0(0x49)},
    {KEY_LEFT, e0(0x4B)},          {KEY_RIGHT, e0(0x4D)},         {KEY_END, e0(0x4F)},
    {KEY_DOWN, e0(0x50)},          {KEY_PAGEDOWN, e0(0x51)},      {KEY_INSERT, e0(0x52)},
    {KEY_DELETE, e0(0x53)},        {KEY_LEFTMETA, e0(0x5B)},      {KEY_RIGHTMETA, e0(0x5C)},
    {KEY_COMPOSE, e0(0x5D)},       {KEY_POWER, e0(0x5E)},         {KEY_SLEEP, e0(0x5F)},
    {KEY_WAKEUP, e0(0x63)},        {KEY_MUTE, e0(0x20)},          {KEY_VOLUMEDOWN, e0(0x2E)},
    {KEY_VOLUMEUP, e0(0x30)},      {KEY_NEXTSONG, e0(0x19)},      {KEY_PREVIOUSSONG, e0(0x10)},
    {KEY_STOPCD, e0(0x24)},        {KEY_PLAYPAUSE, e0(0x22)},     {KEY_MAIL, e0(0x6C)},
    {KEY_HOMEPAGE, e0(0x32)},      {KEY_SEARCH, e0(0x65)},        {KEY_BOOKMARKS, e0(0x66)},
    {KEY_REFRESH, e0(0x67)},       {KEY_STOP, e0(0x68)},          {KEY_FORWARD, e0(0x69)},
    {KEY_BACK, e0(0x6A)},          {KEY_COMPUTER, e0(0x6B)},      {KEY_CALC, e0(0x21)},
    {KEY_MEDIA, e0(0x6D)},
});

constexpr std::uint32_t kLastSameCode = KEY_KPDOT;  // 83
constexpr auto kSame = [] {
  std::array<ScanCode, kLastSameCode + 1> codes{};
  for (std::uint32_t code = 1; code <= kLastSameCode; ++code) codes[code] = plain(static_cast<std::uint8_t>(code));
  return codes;
}();
constexpr std::array<ScanCode, 2> kPause = {ScanCode{.code = 0x1D, .is_e1 = true}, ScanCode{.code = 0x45}};

}  // namespace

std::span<const ScanCode> scan_codes(std::uint32_t linux_code) {
  if (linux_code >= 1 && linux_code <= kLastSameCode) return {&kSame[linux_code], 1};
  if (linux_code == KEY_PAUSE) return kPause;
  for (const Row& row : kOthers) {
    if (row.key == linux_code) return {&row.code, 1};
  }
  return {};
}

}  // namespace bygone::window
