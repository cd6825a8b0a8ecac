#include "devices/storage/inquiry.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace bygone::devices::storage {

namespace scsi = spec::scsi;

namespace {

// The strings of Hyper-V's disks: guests choose workarounds and settings by them.
constexpr std::string_view kVendor = "Msft";
constexpr std::string_view kRevision = "1.0";
/// No more bytes than this are zeroed or unmapped by one command, so that none takes too long.
constexpr std::uint64_t kMaximumZeroBytes = std::uint64_t{1} << 30;

template <std::size_t N>
void fill_text(std::array<char, N>& field, std::string_view text) {
  field.fill(' ');
  std::ranges::copy(text.substr(0, N), field.begin());
}

scsi::InquiryData standard_data(const InquiryProperties& properties) {
  scsi::InquiryData data;
  data.device_type = properties.device_type;
  data.removable = properties.device_type == scsi::kTypeDvd ? 0x80 : 0;
  fill_text(data.vendor, kVendor);
  fill_text(data.product, properties.product);
  fill_text(data.revision, kRevision);
  return data;
}

class Page {
 public:
  Page(std::uint8_t device_type, std::uint8_t code) : bytes_{std::byte{device_type}, std::byte{code}, {}, {}} {}
  void add(std::uint8_t value) { bytes_.push_back(std::byte{value}); }
  void add(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void add_text(std::string_view text) { add(std::as_bytes(std::span(text))); }
  [[nodiscard]] std::vector<std::byte> finish() {
    const be16 length(static_cast<std::uint16_t>(bytes_.size() - 4));
    std::memcpy(bytes_.data() + 2, &length, sizeof length);
    return std::move(bytes_);
  }

 private:
  std::vector<std::byte> bytes_;
};

/// SPC-4 7.8.5: a T10 vendor designator, and an NAA 6 name under Microsoft's company id (00-22-48).
std::vector<std::byte> identification_page(const InquiryProperties& properties) {
  Page page(properties.device_type, scsi::kVpdIdentification);
  if (!properties.identity.is_zero()) {
    const auto guid = std::as_bytes(std::span(properties.identity.bytes));
    page.add(0x01);  // binary
    page.add(0x03);  // NAA
    page.add(0);
    page.add(16);
    for (const int byte : {0x60, 0x02, 0x24, 0x80}) page.add(static_cast<std::uint8_t>(byte));
    page.add(guid.first(12));
    page.add(0x01);
    page.add(0x01);  // T10 vendor
    page.add(0);
    page.add(static_cast<std::uint8_t>(8 + guid.size()));
    page.add_text("Msft    ");
    page.add(guid);
  } else {
    page.add(0x02);  // ASCII
    page.add(0x01);
    page.add(0);
    page.add(8);
    page.add_text("Msft    ");
  }
  return page.finish();
}

scsi::BlockLimitsPage block_limits(const disk::BlockDeviceInfo& info) {
  scsi::BlockLimitsPage page;
  const std::uint32_t sector = info.logical_sector_bytes;
  page.flags = 1;  // WSNZ: WRITE SAME of no blocks is refused
  page.optimal_granularity = static_cast<std::uint16_t>(std::max(1U, info.physical_sector_bytes / sector));
  if (info.optimal_unmap_bytes != 0 && !info.is_read_only) {
    page.maximum_unmap_blocks = static_cast<std::uint32_t>(kMaximumZeroBytes / sector);
    page.maximum_unmap_descriptors = 256U;
    page.optimal_unmap_granularity = std::max(1U, info.optimal_unmap_bytes / sector);
    page.unmap_alignment = 0x8000'0000U;
  }
  page.maximum_write_same = kMaximumSameBytes / sector;
  return page;
}

std::optional<std::vector<std::byte>> vital_page(std::uint8_t code, const InquiryProperties& properties) {
  const auto& blocks = properties.blocks;
  Page page(properties.device_type, code);
  switch (code) {
    case scsi::kVpdSupportedPages:
      page.add(scsi::kVpdSupportedPages);
      if (!properties.identity.is_zero()) page.add(scsi::kVpdSerialNumber);
      page.add(scsi::kVpdIdentification);
      if (blocks) {
        for (const auto other : {scsi::kVpdBlockLimits, scsi::kVpdBlockCharacteristics, scsi::kVpdProvisioning}) page.add(other);
      }
      return page.finish();
    case scsi::kVpdSerialNumber: {
      if (properties.identity.is_zero()) return std::nullopt;
      std::string serial = properties.identity.text();
      std::erase(serial, '-');
      page.add_text(serial);
      return page.finish();
    }
    case scsi::kVpdIdentification: return identification_page(properties);
    case scsi::kVpdBlockLimits: {
      if (!blocks) return std::nullopt;
      const auto limits = block_limits(*blocks);
      return std::vector<std::byte>(bytes_of(limits).begin(), bytes_of(limits).end());
    }
    case scsi::kVpdBlockCharacteristics:  // SBC-3 6.6.3: not rotating
      if (!blocks) return std::nullopt;
      page.add(0);
      page.add(1);
      for (int i = 0; i < 58; ++i) page.add(std::uint8_t{0});
      return page.finish();
    case scsi::kVpdProvisioning: {  // SBC-3 6.6.7: LBPU, LBPWS, LBPWS10, LBPRZ; thin
      if (!blocks) return std::nullopt;
      const bool unmaps = blocks->optimal_unmap_bytes != 0 && !blocks->is_read_only;
      page.add(0);
      page.add(static_cast<std::uint8_t>(unmaps ? 0xE0 | (blocks->reads_zero_after_unmap ? 0x04 : 0) : 0));
      page.add(unmaps ? std::uint8_t{2} : std::uint8_t{0});
      page.add(0);
      return page.finish();
    }
    default: return std::nullopt;
  }
}

}  // namespace

ScsiOutcome inquire(const ScsiCommand& command, const InquiryProperties& properties) {
  const auto allocation = command.field<be16>(3);
  const bool vital = (command.cdb[1] & 1) != 0;
  if (!vital) {
    if (command.cdb[2] != 0) return check_condition(scsi::kSenseIllegalRequest, scsi::kInvalidFieldInCdb);
    const scsi::InquiryData data = standard_data(properties);
    return reply(command, bytes_of(data), allocation);
  }
  const auto page = vital_page(command.cdb[2], properties);
  if (!page) return check_condition(scsi::kSenseIllegalRequest, scsi::kInvalidFieldInCdb);
  return reply(command, *page, allocation);
}

ScsiOutcome inquire_missing(const ScsiCommand& command) {
  scsi::InquiryData data;
  data.device_type = scsi::kNoDeviceAtLun;
  fill_text(data.vendor, kVendor);
  fill_text(data.product, "");
  fill_text(data.revision, "");
  return reply(command, bytes_of(data), command.field<be16>(3));
}

}  // namespace bygone::devices::storage
