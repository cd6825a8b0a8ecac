// ChaCha20's block function (RFC 8439, 2.3). Nothing of EDK II in it: chacha_test.cpp runs it on the host.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace bygone::chacha {

using Key = std::array<std::uint32_t, 8>;
using Block = std::array<std::uint32_t, 16>;

constexpr std::uint32_t rotate_left(std::uint32_t value, unsigned by) { return value << by | value >> (32 - by); }

/// RFC 8439, 2.1.
constexpr void quarter_round(Block& state, std::size_t a, std::size_t b, std::size_t c, std::size_t d) {
  state[a] += state[b];
  state[d] = rotate_left(state[d] ^ state[a], 16);
  state[c] += state[d];
  state[b] = rotate_left(state[b] ^ state[c], 12);
  state[a] += state[b];
  state[d] = rotate_left(state[d] ^ state[a], 8);
  state[c] += state[d];
  state[b] = rotate_left(state[b] ^ state[c], 7);
}

/// One block of the key stream. Counter and nonce have 64 bits each, as in the cipher's first form: the RFC has moved 32 of them.
constexpr Block block(const Key& key, std::uint64_t counter, std::uint64_t nonce) {
  Block start = {0x61707865, 0x3320646E, 0x79622D32, 0x6B206574};
  for (std::size_t word = 0; word < key.size(); ++word) start[4 + word] = key[word];
  start[12] = static_cast<std::uint32_t>(counter);
  start[13] = static_cast<std::uint32_t>(counter >> 32);
  start[14] = static_cast<std::uint32_t>(nonce);
  start[15] = static_cast<std::uint32_t>(nonce >> 32);
  Block state = start;
  for (int double_round = 0; double_round < 10; ++double_round) {
    for (std::size_t column = 0; column < 4; ++column) quarter_round(state, column, 4 + column, 8 + column, 12 + column);
    for (std::size_t from = 0; from < 4; ++from) quarter_round(state, from, 4 + (from + 1) % 4, 8 + (from + 2) % 4, 12 + (from + 3) % 4);
  }
  for (std::size_t word = 0; word < state.size(); ++word) state[word] += start[word];
  return state;
}

}  // namespace bygone::chacha
