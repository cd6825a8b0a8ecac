#include "vmbus/packet.h"

namespace bygone::vmbus {

Result<void> Packet::parse(const spec::vmbus::PacketDescriptor& descriptor) {
  type_ = static_cast<PacketType>(descriptor.type.value());
  transaction_id_ = descriptor.transaction_id;
  wants_completion_ = (descriptor.flags & spec::vmbus::kPacketFlagCompletionRequested) != 0;
  data_offset_ = std::size_t{descriptor.data_offset8} * 8;
  buffers_.clear();
  transfer_ranges_.clear();
  const auto header = std::span<const std::byte>(bytes_).first(data_offset_).subspan(sizeof descriptor);
  if (type_ == PacketType::kGpaDirect) {
    spec::vmbus::GpaDirectHeader direct;
    if (header.size() < sizeof direct) return fail(ErrorCode::kCorrupt, "a GPA-direct packet without its header");
    std::memcpy(&direct, header.data(), sizeof direct);
    return buffers_.parse(header.subspan(sizeof direct), direct.range_count);
  }
  if (type_ == PacketType::kTransferPages) return parse_transfer_pages(header);
  return {};
}

Result<void> Packet::parse_transfer_pages(std::span<const std::byte> header) {
  spec::vmbus::TransferPagesHeader transfer;
  if (header.size() < sizeof transfer) return fail(ErrorCode::kCorrupt, "a transfer-pages packet without its header");
  std::memcpy(&transfer, header.data(), sizeof transfer);
  header = header.subspan(sizeof transfer);
  if (transfer.range_count > header.size() / sizeof(spec::vmbus::TransferPageRange)) {
    return fail(ErrorCode::kCorrupt, "a transfer-pages packet of {} ranges in {} bytes", transfer.range_count.value(),
                header.size());
  }
  page_set_ = transfer.page_set;
  for (std::uint32_t i = 0; i < transfer.range_count; ++i) {
    spec::vmbus::TransferPageRange range;
    std::memcpy(&range, header.data() + i * sizeof range, sizeof range);
    transfer_ranges_.push_back({range.byte_count, range.byte_offset});
  }
  return {};
}

}  // namespace bygone::vmbus
