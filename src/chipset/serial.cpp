#include "chipset/serial.h"

#include "support/saved_fields.h"

namespace bygone::chipset {

namespace {

constexpr std::uint32_t kSavedVersion = 1;
constexpr std::size_t kReceiveLimit = 64 * 1024;

// Registers by offset, data sheet table 2.
enum : std::uint16_t { kData = 0, kInterruptEnable = 1, kInterruptIdentify = 2, kLineControl = 3, kModemControl = 4, kLineStatus = 5, kModemStatus = 6, kScratch = 7 };

constexpr std::uint8_t kEnableReceive = 1, kEnableTransmit = 2, kEnableLineStatus = 4, kEnableModemStatus = 8;
constexpr std::uint8_t kCauseNone = 1, kCauseModem = 0, kCauseTransmit = 2, kCauseReceive = 4, kCauseLineStatus = 6, kCauseTimeout = 0xC;
constexpr std::uint8_t kFifoEnable = 1, kFifoClearReceive = 2;
constexpr std::uint8_t kDivisorAccess = 0x80;
constexpr std::uint8_t kStatusDataReady = 1, kStatusOverrun = 2, kStatusTransmitterEmpty = 0x60;
constexpr std::uint8_t kModemOut2 = 8, kModemLoop = 0x10;
constexpr std::uint8_t kLinesConnected = 0xB0;  // CTS, DSR, DCD

}  // namespace

SerialPort::SerialPort(std::uint16_t base, InterruptLine& line, CharBackend* backend)
    : base_(base), line_(line), backend_(backend) {
  if (backend_ != nullptr) {
    backend_->set_input_handler([this](std::span<const std::byte> data) { receive(data); });
  }
}

SerialPort::~SerialPort() {
  if (backend_ != nullptr) backend_->set_input_handler({});
}

bool SerialPort::has_fifo() const { return (registers_.fifo_control & kFifoEnable) != 0; }

std::uint8_t SerialPort::modem_lines() const {
  const std::uint8_t control = registers_.modem_control;
  if ((control & kModemLoop) == 0) return kLinesConnected;
  // Loopback (8.7): DTR→DSR, RTS→CTS, OUT1→RI, OUT2→DCD.
  return static_cast<std::uint8_t>((control & 1) << 5 | (control & 2) << 3 | (control & 4) << 4 | (control & 8) << 4);
}

/// The highest cause that is enabled, section 8.5.
std::uint8_t SerialPort::interrupt_cause() const {
  const std::uint8_t enabled = registers_.interrupt_enable;
  if ((enabled & kEnableLineStatus) != 0 && registers_.overrun) return kCauseLineStatus;
  if ((enabled & kEnableReceive) != 0 && !received_.empty()) {
    static constexpr std::uint8_t kTriggers[] = {1, 4, 8, 14};
    const bool full_enough = !has_fifo() || received_.size() >= kTriggers[registers_.fifo_control >> 6];
    return full_enough ? kCauseReceive : kCauseTimeout;
  }
  if ((enabled & kEnableTransmit) != 0 && registers_.transmitter_interrupt) return kCauseTransmit;
  if ((enabled & kEnableModemStatus) != 0 && registers_.modem_delta != 0) return kCauseModem;
  return kCauseNone;
}

void SerialPort::update_line() {
  // OUT2 gates the interrupt on every PC; in loopback the pin is off.
  const bool gate = (registers_.modem_control & (kModemOut2 | kModemLoop)) == kModemOut2;
  line_.set_level(gate && interrupt_cause() != kCauseNone);
}

void SerialPort::transmit(std::uint8_t value) {
  registers_.transmitter_interrupt = false;
  update_line();  // lets the line fall, so that an edge follows
  if ((registers_.modem_control & kModemLoop) != 0) {
    if (received_.size() < 16) received_.push_back(value);
  } else if (backend_ != nullptr) {
    const auto byte = static_cast<std::byte>(value);
    backend_->write(std::span(&byte, 1));
  }
  ++characters_sent_;
  registers_.transmitter_interrupt = true;
}

std::uint8_t SerialPort::read_register(std::uint16_t offset) {
  const bool divisor = (registers_.line_control & kDivisorAccess) != 0;
  switch (offset) {
    case kData: {
      if (divisor) return registers_.divisor_low;
      if (received_.empty()) return 0;
      const std::uint8_t value = received_.front();
      received_.pop_front();
      return value;
    }
    case kInterruptEnable: return divisor ? registers_.divisor_high : registers_.interrupt_enable;
    case kInterruptIdentify: {
      const std::uint8_t cause = interrupt_cause();
      if (cause == kCauseTransmit) registers_.transmitter_interrupt = false;
      return static_cast<std::uint8_t>(cause | (has_fifo() ? 0xC0 : 0));
    }
    case kLineControl: return registers_.line_control;
    case kModemControl: return registers_.modem_control;
    case kLineStatus: {
      const std::uint8_t status = static_cast<std::uint8_t>(kStatusTransmitterEmpty | (received_.empty() ? 0 : kStatusDataReady) |
                                                            (registers_.overrun ? kStatusOverrun : 0));
      registers_.overrun = false;
      return status;
    }
    case kModemStatus: return static_cast<std::uint8_t>(modem_lines() | std::exchange(registers_.modem_delta, std::uint8_t{0}));
    case kScratch: return registers_.scratch;
    default: return 0xFF;
  }
}

void SerialPort::write_register(std::uint16_t offset, std::uint8_t value) {
  const bool divisor = (registers_.line_control & kDivisorAccess) != 0;
  switch (offset) {
    case kData:
      if (divisor) {
        registers_.divisor_low = value;
      } else {
        transmit(value);
      }
      break;
    case kInterruptEnable:
      if (divisor) {
        registers_.divisor_high = value;
        break;
      }
      // Turning the transmitter's interrupt on with an empty transmitter raises it (8.8).
      if ((value & kEnableTransmit) != 0 && (registers_.interrupt_enable & kEnableTransmit) == 0) registers_.transmitter_interrupt = true;
      registers_.interrupt_enable = value & 0xF;
      break;
    case kInterruptIdentify:
      if (((value ^ registers_.fifo_control) & kFifoEnable) != 0 || (value & kFifoClearReceive) != 0) received_.clear();
      registers_.fifo_control = value & 0xC9;
      break;
    case kLineControl: registers_.line_control = value; break;
    case kModemControl: {
      const std::uint8_t before = modem_lines();
      registers_.modem_control = value & 0x1F;
      const std::uint8_t changed = static_cast<std::uint8_t>(before ^ modem_lines());
      // Deltas of CTS, DSR and DCD; RI counts at its falling edge only.
      registers_.modem_delta = static_cast<std::uint8_t>(registers_.modem_delta | (changed >> 4 & 0xB) |
                                                         ((before & ~modem_lines() & 0x40) >> 4));
      break;
    }
    case kScratch: registers_.scratch = value; break;
    default: break;
  }
}

std::uint32_t SerialPort::read_port(std::uint16_t port, std::uint8_t) {
  const auto offset = static_cast<std::uint16_t>(port - base_);
  const std::lock_guard lock(mutex_);
  const std::uint8_t value = read_register(offset);
  update_line();
  return 0xFFFFFF00U | value;
}

void SerialPort::write_port(std::uint16_t port, std::uint8_t, std::uint32_t value) {
  const auto offset = static_cast<std::uint16_t>(port - base_);
  const std::lock_guard lock(mutex_);
  write_register(offset, static_cast<std::uint8_t>(value));
  update_line();
}

void SerialPort::receive(std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  for (const std::byte byte : data) {
    if (received_.size() >= kReceiveLimit) {
      registers_.overrun = true;
      break;
    }
    received_.push_back(std::to_integer<std::uint8_t>(byte));
  }
  update_line();
}

nlohmann::json SerialPort::save() const {
  const std::lock_guard lock(mutex_);
  return {{"version", kSavedVersion},
          {"interrupt_enable", registers_.interrupt_enable},
          {"fifo_control", registers_.fifo_control},
          {"line_control", registers_.line_control},
          {"modem_control", registers_.modem_control},
          {"modem_delta", registers_.modem_delta},
          {"scratch", registers_.scratch},
          {"divisor_low", registers_.divisor_low},
          {"divisor_high", registers_.divisor_high},
          {"transmitter_interrupt", registers_.transmitter_interrupt},
          {"overrun", registers_.overrun},
          {"characters_sent", characters_sent_},
          {"received", std::vector<std::uint8_t>(received_.begin(), received_.end())}};
}

Result<void> SerialPort::restore(const nlohmann::json& state) {
  SavedFields fields(state, "a serial port", kSavedVersion);
  Registers registers;
  std::vector<std::uint8_t> received;
  std::uint64_t sent = 0;
  fields.read("interrupt_enable", registers.interrupt_enable);
  fields.read("fifo_control", registers.fifo_control);
  fields.read("line_control", registers.line_control);
  fields.read("modem_control", registers.modem_control);
  fields.read("modem_delta", registers.modem_delta);
  fields.read("scratch", registers.scratch);
  fields.read("divisor_low", registers.divisor_low);
  fields.read("divisor_high", registers.divisor_high);
  fields.read("transmitter_interrupt", registers.transmitter_interrupt);
  fields.read("overrun", registers.overrun);
  fields.read("characters_sent", sent);
  fields.read("received", received, kReceiveLimit);
  BYGONE_CHECK(fields.finish());
  const std::lock_guard lock(mutex_);
  registers_ = registers;
  received_.assign(received.begin(), received.end());
  characters_sent_ = sent;
  update_line();
  return {};
}

void SerialPort::reset() {
  const std::lock_guard lock(mutex_);
  registers_ = {};
  received_.clear();
  update_line();
}

}  // namespace bygone::chipset
