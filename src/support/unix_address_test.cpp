#include "support/unix_address.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

namespace bygone {
namespace {

TEST(UnixAddress, holds_the_path_and_ends_it) {
  const std::string longest(sizeof(sockaddr_un::sun_path) - 1, 'a');
  const auto address = unix_address(longest);
  ASSERT_TRUE(address);
  EXPECT_EQ(address->sun_family, AF_UNIX);
  EXPECT_EQ(std::string(address->sun_path), longest);
}

TEST(UnixAddress, refuses_what_the_kernel_would_cut_short) {
  for (const std::size_t size : {std::size_t{0}, sizeof(sockaddr_un::sun_path), std::size_t{5000}}) {
    const auto address = unix_address(std::string(size, 'a'));
    ASSERT_FALSE(address) << size;
    EXPECT_EQ(address.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace bygone
