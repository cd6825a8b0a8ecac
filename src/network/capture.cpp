#include "network/capture.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "support/byte_order.h"
#include "support/unique_fd.h"

namespace bygone::network {
namespace {

constexpr std::size_t kBufferBytes = 256 << 10;
constexpr std::uint32_t kSectionHeader = 0x0A0D0D0A, kInterfaceDescription = 1, kEnhancedPacket = 6;
constexpr std::uint16_t kLinkEthernet = 1;
constexpr std::uint16_t kOptionEnd = 0, kOptionTimeResolution = 9, kOptionFlags = 2;
constexpr std::uint32_t kInbound = 1, kOutbound = 2;  // from the guest's point of view

class Capture final : public Backend, private FrameSink {
 public:
  Capture(std::unique_ptr<Backend> inner, UniqueFd file, Log log)
      : inner_(std::move(inner)), file_(std::move(file)), log_(std::move(log)) {
    begin();
  }
  ~Capture() override { write_out(); }

  // Backend
  Result<void> start(FrameSink& sink) override {
    sink_ = &sink;
    return inner_->start(*this);
  }
  void send(std::span<const std::byte> frame) override {
    record(frame, kOutbound);
    inner_->send(frame);
  }
  void finish_burst() override {
    inner_->finish_burst();
    write_out();
  }
  void has_room_again() override { inner_->has_room_again(); }
  bool takes_large_segments() const override { return inner_->takes_large_segments(); }
  void set_guest_limits(std::uint32_t mtu, bool takes_large_segments) override { inner_->set_guest_limits(mtu, takes_large_segments); }
  nlohmann::json inspect() const override {
    nlohmann::json result = inner_->inspect();
    result["captured"] = captured_;
    return result;
  }

 private:
  // FrameSink
  bool deliver(std::span<const std::byte> frame, const FrameNotes& notes) override {
    record(frame, kInbound);
    return sink_->deliver(frame, notes);
  }
  bool has_room() const override { return sink_->has_room(); }
  void finish_delivery() override {
    sink_->finish_delivery();
    write_out();
  }
  void set_link(bool is_up) override { sink_->set_link(is_up); }

  void put(std::span<const std::byte> bytes) { buffer_.insert(buffer_.end(), bytes.begin(), bytes.end()); }
  template <typename T>
  void put_number(T value) {
    put(bytes_of(Little<T>(value)));
  }
  void pad() { buffer_.resize((buffer_.size() + 3) / 4 * 4); }

  void begin() {
    put_number<std::uint32_t>(kSectionHeader);
    put_number<std::uint32_t>(28);
    put_number<std::uint32_t>(0x1A2B3C4D);
    put_number<std::uint16_t>(1);
    put_number<std::uint16_t>(0);
    put_number<std::uint64_t>(UINT64_MAX);  // the section's length is not said
    put_number<std::uint32_t>(28);
    put_number<std::uint32_t>(kInterfaceDescription);
    put_number<std::uint32_t>(32);
    put_number<std::uint16_t>(kLinkEthernet);
    put_number<std::uint16_t>(0);
    put_number<std::uint32_t>(0);  // frames are whole
    put_number<std::uint16_t>(kOptionTimeResolution);
    put_number<std::uint16_t>(1);
    put_number<std::uint32_t>(9);  // 10^-9 s
    put_number<std::uint16_t>(kOptionEnd);
    put_number<std::uint16_t>(0);
    put_number<std::uint32_t>(32);
    write_out();
  }

  void record(std::span<const std::byte> frame, std::uint32_t direction) {
    if (file_.get() < 0) return;
    const auto now = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count());
    const auto length = static_cast<std::uint32_t>(frame.size());
    const std::uint32_t total = 32 + (length + 3) / 4 * 4 + 12;
    put_number<std::uint32_t>(kEnhancedPacket);
    put_number<std::uint32_t>(total);
    put_number<std::uint32_t>(0);
    put_number<std::uint32_t>(static_cast<std::uint32_t>(now >> 32));
    put_number<std::uint32_t>(static_cast<std::uint32_t>(now));
    put_number<std::uint32_t>(length);
    put_number<std::uint32_t>(length);
    put(frame);
    pad();
    put_number<std::uint16_t>(kOptionFlags);
    put_number<std::uint16_t>(4);
    put_number<std::uint32_t>(direction);
    put_number<std::uint16_t>(kOptionEnd);
    put_number<std::uint16_t>(0);
    put_number<std::uint32_t>(total);
    ++captured_;
    if (buffer_.size() >= kBufferBytes) write_out();
  }

  void write_out() {
    std::span<const std::byte> rest = buffer_;
    while (!rest.empty() && file_.get() >= 0) {
      const ssize_t written = ::write(file_.get(), rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        log_.warning("the packet capture ends here: {}", error_from_errno(errno, "writing its file").text());
        file_ = UniqueFd();
        break;
      }
      rest = rest.subspan(static_cast<std::size_t>(written));
    }
    buffer_.clear();
  }

  std::unique_ptr<Backend> inner_;
  UniqueFd file_;
  Log log_;
  FrameSink* sink_ = nullptr;
  std::vector<std::byte> buffer_;
  std::uint64_t captured_ = 0;
};

}  // namespace

Result<std::unique_ptr<Backend>> capture(std::unique_ptr<Backend> inner, const std::filesystem::path& file, Log log) {
  UniqueFd descriptor(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (descriptor.get() < 0) return fail_errno(errno, fmt::format("creating the packet capture {}", file.string()));
  return std::make_unique<Capture>(std::move(inner), std::move(descriptor), std::move(log));
}

}  // namespace bygone::network
