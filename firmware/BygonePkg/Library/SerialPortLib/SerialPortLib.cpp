// COM1, a 16550. The machine may have none: then reads are all-ones, and nothing is sent or received.
// SPDX-License-Identifier: Apache-2.0
extern "C" {
#include <Uefi.h>
#include <Library/BaseLib.h>
#include <Library/IoLib.h>
#include <Library/SerialPortLib.h>
}

namespace {

constexpr UINTN kCom1 = 0x3F8;

/// Registers, as offsets from the port; the first two are the divisor's halves while the latch is open.
enum class Register : UINTN { kData = 0, kInterruptEnable = 1, kFifoControl = 2, kLineControl = 3, kModemControl = 4, kLineStatus = 5 };

constexpr UINT8 kFifoEnable = BIT0;
constexpr UINT8 kEightBits = BIT1 | BIT0;  ///< no parity, one stop bit
constexpr UINT8 kDivisorLatch = BIT7;
constexpr UINT8 kDtrAndRts = BIT1 | BIT0;
constexpr UINT8 kDivisor = 1;  ///< 115200 baud

/// A UART that is never ready is given up on after so many reads of its status; a byte is then lost, not the boot.
constexpr UINTN kSendAttempts = 1000000;

/// What an empty transmitter takes.
constexpr UINT8 kFifoBytes = 16;

/// So many bytes more go out before the status has to be read again: terminals send one byte a call, and each read is an exit.
UINT8 room;

UINT8 read(Register which) { return IoRead8(kCom1 + static_cast<UINTN>(which)); }
void write(Register which, UINT8 value) { IoWrite8(kCom1 + static_cast<UINTN>(which), value); }

/// The line status register's value.
class LineStatus {
 public:
  static LineStatus now() { return LineStatus(read(Register::kLineStatus)); }
  bool is_absent() const { return value_ == MAX_UINT8; }
  bool has_data() const { return !is_absent() && (value_ & BIT0) != 0; }
  bool is_sender_empty() const { return !is_absent() && (value_ & BIT5) != 0; }

 private:
  explicit LineStatus(UINT8 value) : value_(value) {}
  const UINT8 value_;
};

/// Waits for an empty transmitter. False: there is no UART.
bool make_room() {
  for (UINTN attempt = 0; attempt < kSendAttempts; ++attempt) {
    const LineStatus status = LineStatus::now();
    if (status.is_absent()) return false;
    if (status.is_sender_empty()) break;
    CpuPause();
  }
  room = kFifoBytes;
  return true;
}

}  // namespace

RETURN_STATUS EFIAPI SerialPortInitialize() {
  write(Register::kLineControl, kDivisorLatch | kEightBits);
  write(Register::kData, kDivisor);
  write(Register::kInterruptEnable, 0);
  write(Register::kLineControl, kEightBits);
  write(Register::kInterruptEnable, 0);  // polled
  write(Register::kFifoControl, kFifoEnable);
  write(Register::kModemControl, kDtrAndRts);
  return RETURN_SUCCESS;
}

/// Without a UART everything counts as sent.
UINTN EFIAPI SerialPortWrite(UINT8* bytes, UINTN count) {
  if (bytes == nullptr) return 0;
  for (UINTN sent = 0; sent < count; ++sent) {
    if (room == 0 && !make_room()) break;
    write(Register::kData, bytes[sent]);
    --room;
  }
  return count;
}

BOOLEAN EFIAPI SerialPortPoll() { return LineStatus::now().has_data(); }

UINTN EFIAPI SerialPortRead(UINT8* bytes, UINTN count) {
  if (bytes == nullptr) return 0;
  UINTN received = 0;
  while (received < count && LineStatus::now().has_data()) bytes[received++] = read(Register::kData);
  return received;
}

RETURN_STATUS EFIAPI SerialPortSetControl(UINT32) { return RETURN_UNSUPPORTED; }

RETURN_STATUS EFIAPI SerialPortGetControl(UINT32* control) {
  *control = EFI_SERIAL_OUTPUT_BUFFER_EMPTY | EFI_SERIAL_CLEAR_TO_SEND | EFI_SERIAL_DATA_SET_READY;
  if (!SerialPortPoll()) *control |= EFI_SERIAL_INPUT_BUFFER_EMPTY;
  return RETURN_SUCCESS;
}

/// A virtual line has no speed: what is asked is accepted.
RETURN_STATUS EFIAPI SerialPortSetAttributes(UINT64*, UINT32*, UINT32*, EFI_PARITY_TYPE*, UINT8*, EFI_STOP_BITS_TYPE*) {
  return RETURN_SUCCESS;
}
