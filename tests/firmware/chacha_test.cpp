// The firmware's random numbers: the part of RngDxe that needs no firmware.
#include "RngDxe/ChaCha.h"

#include <gtest/gtest.h>

namespace bygone::chacha {
namespace {

// RFC 8439, 2.1.1.
TEST(ChaCha, quarter_round_is_the_standards) {
  Block state = {};
  state[2] = 0x11111111;
  state[7] = 0x01020304;
  state[8] = 0x9B8D6F43;
  state[13] = 0x01234567;
  quarter_round(state, 2, 7, 8, 13);
  EXPECT_EQ(state[2], 0xEA2A92F4U);
  EXPECT_EQ(state[7], 0xCB1CF8CEU);
  EXPECT_EQ(state[8], 0x4581472EU);
  EXPECT_EQ(state[13], 0x5881C4BBU);
}

// RFC 8439, 2.3.2: there the nonce's first word is our counter's upper half.
TEST(ChaCha, block_is_the_standards) {
  constexpr Key kKey = {0x03020100, 0x07060504, 0x0B0A0908, 0x0F0E0D0C, 0x13121110, 0x17161514, 0x1B1A1918, 0x1F1E1D1C};
  constexpr Block kExpected = {0xE4E7F110, 0x15593BD1, 0x1FDD0F50, 0xC47120A3, 0xC7F4D1C7, 0x0368C033, 0x9AAA2204, 0x4E6CD4C3,
                               0x466482D2, 0x09AA9F07, 0x05D7C214, 0xA2028BD9, 0xD19C12B5, 0xB94E16DE, 0xE883D0CB, 0x4E3C50A2};
  EXPECT_EQ(block(kKey, 0x09000000'00000001, 0x4A000000), kExpected);
}

}  // namespace
}  // namespace bygone::chacha
