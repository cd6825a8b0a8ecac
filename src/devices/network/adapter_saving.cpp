#include "devices/network/network_adapter.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "devices/network/adapter_layout.h"
#include "support/saved_fields.h"

namespace bygone::devices::network {

namespace nvsp = spec::netvsp;

namespace {

bool is_known_version(std::uint32_t version) {
  return version == nvsp::kVersion1 || version == nvsp::kVersion2 || version == nvsp::kVersion4 || version == nvsp::kVersion5 ||
         version == nvsp::kVersion6 || version == nvsp::kVersion6_1;
}

}  // namespace

Result<nlohmann::json> NetworkAdapter::save() {
  // What was received and not sent yet goes where it would have gone.
  if (channel_ != nullptr) send_batch();
  nlohmann::json completions = nlohmann::json::array();
  for (const Completion& completion : waiting_completions_) {
    const auto* first = reinterpret_cast<const std::uint8_t*>(completion.message.data());
    completions.push_back({{"version", 1},
                           {"transaction", completion.transaction_id},
                           {"message", std::vector<std::uint8_t>(first, first + completion.message.size())}});
  }
  nlohmann::json batches = nlohmann::json::array();
  for (std::uint32_t i = 0; i < batches_.size(); ++i) {
    if (!batches_[i].in_use) continue;
    batches.push_back(i);
    batches.push_back(std::ranges::find(waiting_batches_, i) != waiting_batches_.end() ? 1 : 0);
    batches.push_back(batches_[i].channel_type);
    batches.push_back(batches_[i].ranges.size());
    for (const vmbus::TransferRange& range : batches_[i].ranges) {
      batches.push_back(range.byte_offset / receive_->section_bytes());
      batches.push_back(range.byte_count);
    }
  }
  return nlohmann::json{{"version", 1},
                        {"protocol", version_},
                        {"guest_mtu", guest_mtu_},
                        {"receive_gpadl", receive_ ? receive_->id().value : 0},
                        {"receive_page_set", receive_ ? receive_->page_set() : 0},
                        {"receive_section_bytes", receive_ ? receive_->section_bytes() : 0},
                        {"send_gpadl", send_ ? send_->id().value : 0},
                        {"send_section_bytes", send_ ? send_->section_bytes() : 0},
                        {"batch_generation", batch_generation_},
                        {"batches", std::move(batches)},
                        {"completions", std::move(completions)},
                        {"rndis", rndis_.save()}};
}

Result<void> NetworkAdapter::restore(const nlohmann::json& state) {
  constexpr std::size_t kMostSavedWords = 1 << 20;
  SavedFields fields(state, options_.name, 1);
  std::uint32_t version = 0, mtu = 0, generation = 0;
  auto buffers = std::make_unique<SavedBuffers>();
  fields.read("protocol", version);
  fields.read("guest_mtu", mtu);
  fields.read("receive_gpadl", buffers->receive_gpadl);
  fields.read("receive_page_set", buffers->page_set);
  fields.read("receive_section_bytes", buffers->receive_section_bytes);
  fields.read("send_gpadl", buffers->send_gpadl);
  fields.read("send_section_bytes", buffers->send_section_bytes);
  fields.read("batch_generation", generation);
  fields.read("batches", buffers->batches, kMostSavedWords);
  fields.require(version == 0 || is_known_version(version), "the protocol's version is unknown");
  fields.require(mtu <= kLargestMtu, "the MTU is too large");
  fields.require(buffers->receive_gpadl == 0 || (buffers->receive_section_bytes > kLongestHeader + 576 && buffers->receive_section_bytes <= 1U << 20),
                 "the receive buffer's sections have an impossible size");
  fields.require(buffers->send_gpadl == 0 || (buffers->send_section_bytes != 0 && buffers->send_section_bytes <= kSendSectionBytes),
                 "the send buffer's sections have an impossible size");
  const nlohmann::json* saved_completions = fields.nested("completions");
  const nlohmann::json* saved_rndis = fields.nested("rndis");
  BYGONE_CHECK(fields.finish());
  std::deque<Completion> completions;
  for (const nlohmann::json& saved : *saved_completions) {
    SavedFields completion(saved, options_.name, 1);
    Completion& next = completions.emplace_back();
    std::vector<std::uint8_t> message;
    completion.read("transaction", next.transaction_id);
    completion.read("message", message, nvsp::kMessageBytes6_1);
    BYGONE_CHECK(completion.finish());
    for (const std::uint8_t byte : message) next.message.push_back(std::byte{byte});
  }
  BYGONE_CHECK(rndis_.restore(*saved_rndis));
  version_ = version;
  guest_mtu_ = mtu;
  batch_generation_ = generation;
  waiting_completions_ = std::move(completions);
  restored_ = std::move(buffers);
  return {};
}

/// A restored channel: the guest's buffers are found again, and what it holds of them.
Result<void> NetworkAdapter::adopt_restored(vmbus::Channel& channel) {
  const auto saved = std::move(restored_);
  if (!saved) return fail(ErrorCode::kCorrupt, "{} has a channel in the saved state and no state of its own", options_.name);
  const auto find = [&](std::uint32_t id) -> Result<std::shared_ptr<const vmbus::Gpadl>> {
    auto gpadl = channel.gpadl(vmbus::GpadlId{id});
    if (gpadl == nullptr) return fail(ErrorCode::kCorrupt, "{}: the saved buffer {:#x} is not there", options_.name, id);
    return gpadl;
  };
  if (saved->send_gpadl != 0) {
    BYGONE_ASSIGN(auto gpadl, find(saved->send_gpadl));
    BYGONE_ASSIGN(send_, SendBuffer::create(std::move(gpadl), vmbus::GpadlId{saved->send_gpadl}, saved->send_section_bytes));
  }
  if (saved->receive_gpadl == 0) return {};
  BYGONE_ASSIGN(auto gpadl, find(saved->receive_gpadl));
  BYGONE_ASSIGN(receive_, ReceiveBuffer::create(std::move(gpadl), vmbus::GpadlId{saved->receive_gpadl}, saved->page_set,
                                                saved->receive_section_bytes));
  std::span<const std::uint32_t> words = saved->batches;
  while (words.size() >= 4) {
    const std::uint32_t index = words[0], count = words[3];
    if (index >= receive_->section_count() || count > kMostRanges || (words.size() - 4) / 2 < count) break;
    if (batches_.size() <= index) batches_.resize(index + 1);
    Batch& batch = batches_[index];
    if (batch.in_use) break;
    batch.in_use = true;
    batch.channel_type = words[2];
    if (words[1] != 0) waiting_batches_.push_back(index);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint32_t section = words[4 + 2 * i], bytes = words[5 + 2 * i];
      if (bytes > receive_->section_bytes() || !receive_->take_again(section)) {
        return fail(ErrorCode::kCorrupt, "{}: the saved receive buffer is inconsistent", options_.name);
      }
      batch.ranges.push_back({bytes, section * receive_->section_bytes()});
    }
    words = words.subspan(4 + 2 * std::size_t{count});
  }
  if (!words.empty()) return fail(ErrorCode::kCorrupt, "{}: the saved receive buffer is inconsistent", options_.name);
  for (std::uint32_t i = 0; i < batches_.size(); ++i) {
    if (!batches_[i].in_use) free_batches_.push_back(i);
  }
  return {};
}

}  // namespace bygone::devices::network
