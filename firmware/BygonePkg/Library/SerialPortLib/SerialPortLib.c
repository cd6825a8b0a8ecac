/** @file
  COM1, a 16550. The machine may have none: then reads are all-ones, and nothing is sent or received.

  SPDX-License-Identifier: Apache-2.0
**/
#include <Uefi.h>
#include <Library/BaseLib.h>
#include <Library/IoLib.h>
#include <Library/SerialPortLib.h>

#define COM1  0x3F8

#define UART_DATA          0
#define UART_FIFO_CONTROL  2
#define UART_LINE_CONTROL  3
#define UART_MODEM_CONTROL 4
#define UART_LINE_STATUS   5
#define UART_SCRATCH       7

#define LINE_STATUS_DATA_READY      BIT0
#define LINE_STATUS_HOLDING_EMPTY   BIT5
#define LINE_STATUS_ABSENT          0xFF

/// A UART that is never ready is given up on after so many reads of its status; a byte is then lost, not the boot.
#define SEND_ATTEMPTS  1000000

/// What an empty transmitter takes.
#define FIFO_BYTES  16

/// So many bytes more go out before the status has to be read again: terminals send one byte a call, and each read is an exit.
STATIC UINT8  mRoom;

/// Waits for an empty transmitter. FALSE: there is no UART.
STATIC BOOLEAN
MakeRoom (
  VOID
  )
{
  UINTN  Attempt;
  UINT8  Status;

  for (Attempt = 0; Attempt < SEND_ATTEMPTS; ++Attempt) {
    Status = IoRead8 (COM1 + UART_LINE_STATUS);
    if (Status == LINE_STATUS_ABSENT) {
      return FALSE;
    }

    if ((Status & LINE_STATUS_HOLDING_EMPTY) != 0) {
      break;
    }

    CpuPause ();
  }

  mRoom = FIFO_BYTES;
  return TRUE;
}

RETURN_STATUS
EFIAPI
SerialPortInitialize (
  VOID
  )
{
  IoWrite8 (COM1 + UART_LINE_CONTROL, BIT7 | BIT1 | BIT0);  // divisor latch
  IoWrite8 (COM1 + UART_DATA, 1);                           // 115200 baud
  IoWrite8 (COM1 + UART_DATA + 1, 0);
  IoWrite8 (COM1 + UART_LINE_CONTROL, BIT1 | BIT0);         // 8 bits, no parity, one stop bit
  IoWrite8 (COM1 + UART_DATA + 1, 0);                       // polled
  IoWrite8 (COM1 + UART_FIFO_CONTROL, BIT0);
  IoWrite8 (COM1 + UART_MODEM_CONTROL, BIT1 | BIT0);
  return RETURN_SUCCESS;
}

UINTN
EFIAPI
SerialPortWrite (
  IN UINT8  *Buffer,
  IN UINTN  NumberOfBytes
  )
{
  UINTN  Sent;

  if (Buffer == NULL) {
    return NumberOfBytes;
  }

  for (Sent = 0; Sent < NumberOfBytes; ++Sent) {
    if ((mRoom == 0) && !MakeRoom ()) {
      break;
    }

    IoWrite8 (COM1 + UART_DATA, Buffer[Sent]);
    --mRoom;
  }

  return NumberOfBytes;
}

BOOLEAN
EFIAPI
SerialPortPoll (
  VOID
  )
{
  UINT8  Status;

  Status = IoRead8 (COM1 + UART_LINE_STATUS);
  return (BOOLEAN)((Status != LINE_STATUS_ABSENT) && ((Status & LINE_STATUS_DATA_READY) != 0));
}

UINTN
EFIAPI
SerialPortRead (
  OUT UINT8  *Buffer,
  IN  UINTN  NumberOfBytes
  )
{
  UINTN  Received;

  for (Received = 0; (Received < NumberOfBytes) && SerialPortPoll (); ++Received) {
    Buffer[Received] = IoRead8 (COM1 + UART_DATA);
  }

  return Received;
}

RETURN_STATUS
EFIAPI
SerialPortSetControl (
  IN UINT32  Control
  )
{
  return RETURN_UNSUPPORTED;
}

RETURN_STATUS
EFIAPI
SerialPortGetControl (
  OUT UINT32  *Control
  )
{
  *Control = EFI_SERIAL_OUTPUT_BUFFER_EMPTY | EFI_SERIAL_CLEAR_TO_SEND | EFI_SERIAL_DATA_SET_READY;
  if (!SerialPortPoll ()) {
    *Control |= EFI_SERIAL_INPUT_BUFFER_EMPTY;
  }

  return RETURN_SUCCESS;
}

RETURN_STATUS
EFIAPI
SerialPortSetAttributes (
  IN OUT UINT64              *BaudRate,
  IN OUT UINT32              *ReceiveFifoDepth,
  IN OUT UINT32              *Timeout,
  IN OUT EFI_PARITY_TYPE     *Parity,
  IN OUT UINT8               *DataBits,
  IN OUT EFI_STOP_BITS_TYPE  *StopBits
  )
{
  // A virtual line has no speed: accept what is asked.
  return RETURN_SUCCESS;
}
