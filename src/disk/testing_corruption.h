// What the tests of damaged images share, whatever the format: a file in memory whose structures can be changed, and what is said of it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "disk/fault_file.h"
#include "disk/tools/inspect.h"
#include "support/byte_order.h"

namespace bygone::disk {

/// `Layout` is a format's: VhdLayout, VhdxLayout.
template <typename Layout>
class CorruptionTest : public testing::Test {
 protected:
  template <typename T>
  T get(std::uint64_t offset) {
    T value;
    history_->now.read(offset, writable_bytes_of(value));
    return value;
  }
  template <typename T>
  void put(std::uint64_t offset, const T& value) {
    history_->now.write(offset, bytes_of(value));
  }

  Error open_error(bool is_read_only = false) {
    FaultFile file(history_, is_read_only);
    auto layout = Layout::open(file);
    if (layout) return {ErrorCode::kInternal, "opened all the same", {}};
    return layout.error();
  }

  /// What `bygone disk check` would say.
  std::vector<std::string> findings() {
    FaultFile file(history_, true);
    auto layout = Layout::open(file);
    if (!layout) return {layout.error().message};
    const auto found = check_layout(**layout, false, {});
    if (!found) return {found.error().message};
    std::vector<std::string> texts;
    for (const Finding& finding : *found) texts.push_back(finding.text);
    return texts;
  }

  std::shared_ptr<FaultFile::History> history_ = FaultFile::history_of({});
};

}  // namespace bygone::disk
