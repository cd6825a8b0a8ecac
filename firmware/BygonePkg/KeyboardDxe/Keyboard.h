// The synthetic keyboard's packets (Linux drivers/input/serio/hyperv-keyboard.c describes the same wire format) and the driver's state.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Library/VmbusDriverLib.h>

#include <array>

extern "C" {
#include <Guid/ConsoleInDevice.h>
#include <Protocol/SimpleTextIn.h>
#include <Protocol/SimpleTextInEx.h>
}

namespace bygone::keyboard {

enum class PacketType : UINT32 {
  kProtocolRequest = 1,
  kProtocolResponse = 2,
  kEvent = 3,
  kSetLeds = 4,
};

constexpr UINT32 kVersion = 0x00010000;
constexpr UINT32 kAccepted = BIT0;

#pragma pack(1)

struct KeyEvent {
  UINT16 code;  ///< set 1 scan code, or a character
  UINT16 reserved;
  UINT32 flags;

  bool is_character() const { return (flags & BIT0) != 0; }
  bool is_break() const { return (flags & BIT1) != 0; }
  bool has_e0() const { return (flags & BIT2) != 0; }
  bool has_e1() const { return (flags & BIT3) != 0; }
};

struct Packet {
  PacketType type;
  union {
    UINT32 version;
    UINT32 accepted;
    UINT32 leds;
    KeyEvent key;
  };
};

#pragma pack()

static_assert(sizeof(Packet) == 12);
constexpr UINTN kShortPacketBytes = 8;  ///< of all but key events

/// What has been asked to be told of a key.
struct Notification {
  Notification* next = nullptr;
  EFI_KEY_DATA key = {};
  EFI_KEY_NOTIFY_FUNCTION function = nullptr;
};

/// Keys that nobody has read yet; the newest are lost when it is full.
class KeyQueue {
 public:
  bool is_empty() const { return count_ == 0; }
  void clear() { count_ = 0; }
  /// False if there is no room.
  bool push(const EFI_KEY_DATA& key) {
    if (count_ == keys_.size()) return false;
    keys_[(first_ + count_) % keys_.size()] = key;
    ++count_;
    return true;
  }
  /// Not of an empty one.
  EFI_KEY_DATA pop() {
    const EFI_KEY_DATA& key = keys_[first_];
    first_ = (first_ + 1) % keys_.size();
    --count_;
    return key;
  }

 private:
  std::array<EFI_KEY_DATA, 64> keys_;
  UINTN first_;
  UINTN count_;
};

class Keyboard : public EFI_SIMPLE_TEXT_INPUT_PROTOCOL, public EFI_SIMPLE_TEXT_INPUT_EX_PROTOCOL {
 public:
  static constexpr EFI_GUID kInterface = kKeyboardInterface;
  static constexpr EFI_GUID* kProtocol = &gEfiSimpleTextInProtocolGuid;
  static constexpr char kName[] = "keyboard";
  using Protocol = EFI_SIMPLE_TEXT_INPUT_PROTOCOL;
  using ProtocolEx = EFI_SIMPLE_TEXT_INPUT_EX_PROTOCOL;

  Keyboard() = default;
  ~Keyboard();
  EFI_STATUS start(EFI_DRIVER_BINDING_PROTOCOL* binding, EFI_HANDLE controller);
  EFI_STATUS withdraw(EFI_HANDLE controller);

  // What both protocols do (TextInput.cpp).
  EFI_STATUS read(EFI_KEY_DATA& key);
  void reset();
  /// The toggles, and whether keys are reported that only shift or toggle.
  void set_state(EFI_KEY_TOGGLE_STATE state);
  void add(Notification* notification);
  /// False if it is none of ours.
  bool remove(const void* notification);

 private:
  EFI_STATUS negotiate();
  void on_channel(EFI_EVENT event);
  void on_wait(EFI_EVENT event);
  void offer_text_input();
  /// Tells the host which lights shall burn.
  void send_leds();
  /// Takes one key event from the host into the state; queues and notifies what it means (Layout.cpp).
  void handle(const KeyEvent& event);
  /// What an event means: false if it is no key; `changes_state` if it only shifts or toggles.
  bool understand(const KeyEvent& event, EFI_INPUT_KEY& key, bool& changes_state);
  bool toggle(UINT16 code);
  EFI_KEY_STATE state() const;
  /// A finished key, to the queue and to whoever asked for it.
  void deliver(const EFI_KEY_DATA& key);

  KeyQueue queue_;
  UINT32 shift_;  ///< EFI_*_PRESSED bits
  EFI_KEY_TOGGLE_STATE toggle_;
  bool reports_partial_;  ///< keys that are only shift or toggle changes
  Notification* notifications_;
  Event wait_;
  Event wait_ex_;
  Event channel_event_;
  Channel channel_;  ///< closed first
};

}  // namespace bygone::keyboard
