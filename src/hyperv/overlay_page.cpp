#include "hyperv/overlay_page.h"

#include <algorithm>

namespace bygone::hyperv {

namespace {

constexpr std::uint32_t kSavedVersion = 1;

std::vector<std::uint8_t> to_numbers(std::span<const std::byte> bytes) {
  std::vector<std::uint8_t> numbers(bytes.size());
  std::ranges::transform(bytes, numbers.begin(), [](std::byte byte) { return std::to_integer<std::uint8_t>(byte); });
  return numbers;
}

bool read_page(SavedFields& fields, const char* name, std::vector<std::byte>& into) {
  const nlohmann::json* field = fields.nested(name);
  if (field == nullptr) return false;
  const bool fits = field->is_binary() && (field->get_binary().empty() || field->get_binary().size() == memory::kPageSize);
  fields.require(fits, fmt::format("{} is not a page", name));
  if (!fits) return false;
  into.resize(field->get_binary().size());
  std::ranges::transform(field->get_binary(), into.begin(), [](std::uint8_t byte) { return std::byte{byte}; });
  return true;
}

}  // namespace

bool OverlayPage::place(std::uint64_t page) {
  if (is_placed() && page == page_) return true;
  if (page > ~0ULL / memory::kPageSize) return false;
  const std::span<std::byte> target = memory_->host_span(memory::Gpa::from_page(page), memory::kPageSize);
  if (target.empty()) return false;
  remove();
  page_ = page;
  bytes_ = target;
  beneath_.assign(target.begin(), target.end());
  if (own_.empty()) {
    std::ranges::fill(target, std::byte{0});
  } else {
    std::ranges::copy(own_, target.begin());
  }
  own_.clear();
  wrote(0, memory::kPageSize);
  return true;
}

void OverlayPage::remove() {
  if (!is_placed()) return;
  own_.assign(bytes_.begin(), bytes_.end());
  std::ranges::copy(beneath_, bytes_.begin());
  wrote(0, memory::kPageSize);
  beneath_.clear();
  bytes_ = {};
}

void OverlayPage::set_content(std::span<const std::byte> content) {
  std::vector<std::byte> page(memory::kPageSize);
  std::ranges::copy(content.first(std::min<std::size_t>(content.size(), page.size())), page.begin());
  if (is_placed()) {
    std::ranges::copy(page, bytes_.begin());
    wrote(0, memory::kPageSize);
  } else {
    own_ = std::move(page);
  }
}

void OverlayPage::reset() {
  bytes_ = {};
  beneath_.clear();
  own_.clear();
  page_ = 0;
}

nlohmann::json OverlayPage::save() const {
  return {{"version", kSavedVersion},
          {"is_placed", is_placed()},
          {"page", page_},
          {"beneath", nlohmann::json::binary(to_numbers(beneath_))},
          {"own", nlohmann::json::binary(to_numbers(own_))}};
}

Result<OverlayPage> OverlayPage::restore(memory::GuestMemory& memory, const nlohmann::json& state) {
  SavedFields fields(state, "an overlay page", kSavedVersion);
  OverlayPage page(memory);
  bool is_placed = false;
  fields.read("is_placed", is_placed);
  fields.read("page", page.page_);
  read_page(fields, "beneath", page.beneath_);
  read_page(fields, "own", page.own_);
  if (is_placed && page.page_ <= ~0ULL / memory::kPageSize) {
    page.bytes_ = memory.host_span(memory::Gpa::from_page(page.page_), memory::kPageSize);
  }
  fields.require(is_placed == page.is_placed() && is_placed == !page.beneath_.empty(), "it lies where there is no RAM");
  BYGONE_CHECK(fields.finish());
  return page;
}

}  // namespace bygone::hyperv
