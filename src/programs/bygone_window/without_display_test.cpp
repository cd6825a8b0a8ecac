// One Qt application for the whole test program, without a display.
#include <gtest/gtest.h>

#include <QApplication>
#include <memory>

namespace bygone::window {
namespace {

class WithoutDisplay : public testing::Environment {
 public:
  void SetUp() override {
    qputenv("QT_QPA_PLATFORM", "offscreen");
    application_ = std::make_unique<QApplication>(count_, arguments_);
  }
  void TearDown() override { application_.reset(); }

 private:
  int count_ = 1;
  char name_[5] = "test";
  char* arguments_[2] = {name_, nullptr};
  std::unique_ptr<QApplication> application_;
};
[[maybe_unused]] const auto* const kEnvironment = testing::AddGlobalTestEnvironment(new WithoutDisplay);

}  // namespace
}  // namespace bygone::window
