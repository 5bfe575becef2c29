// Integers in bits as float16 pairs; float16 constants by their bits, in both halves.
#pragma once

#include "cuda/device.h"

namespace ferrum::cuda {

// Where a row of activations holds value i: of each four neighbours the two in the middle have
// changed places, so that pairs are the first and the third, the second and the fourth.
FERRUM_DEVICE int paired_index(int i) { return (i & ~3) | (i & 1) << 1 | (i >> 1 & 1); }

// Where a row's means stand, of each 16 values of 256: so that those of the two halves of a group
// of 32 come to one lane of a quad, beside those of the group after the next.
FERRUM_DEVICE int mean_index(int i) {
  return (i & ~7) | (i & 2) << 1 | (i & 1) << 1 | (i >> 2 & 1);
}

constexpr uint32_t kHalf1024 = 0x64006400u, kHalfMinus1024 = 0xe400e400u;
constexpr uint32_t kHalf64 = 0x54005400u, kHalfMinus64 = 0xd400d400u;
constexpr uint32_t kHalf16 = 0x4c004c00u, kHalfMinus512 = 0xe000e000u;
// Less 1024: 32 and 128 below zero.
constexpr uint32_t kHalfMinus1056 = 0xe420e420u, kHalfMinus1152 = 0xe480e480u;

// 1024 + the integers that `mask` leaves of `word`; and 64 + those that are 16 times too high.
FERRUM_DEVICE uint32_t above_1024(uint32_t word, uint32_t mask) {
  return mask_or(word, mask, kHalf1024);
}
FERRUM_DEVICE uint32_t above_64(uint32_t word, uint32_t mask) {
  return mask_or(word, mask, kHalf64);
}

// Four bytes as 1024 + each: the first and the third, the second and the fourth.
FERRUM_DEVICE uint32_t even_bytes(uint32_t bytes) { return __byte_perm(bytes, kHalf1024, 0x5250u); }
FERRUM_DEVICE uint32_t odd_bytes(uint32_t bytes) { return __byte_perm(bytes, kHalf1024, 0x5351u); }

// How far an even address lies behind a multiple of 4.
FERRUM_DEVICE unsigned behind_4(const uint8_t* p) {
  return static_cast<unsigned>(reinterpret_cast<uintptr_t>(p)) & 2;
}
// 4 n bytes from an address that lies `odd` behind a multiple of 4, by aligned loads; the last of
// them at `last`.
template <int n>
FERRUM_DEVICE void load_words(const uint8_t* p, unsigned odd, const uint8_t* last,
                              uint32_t (&words)[n]) {
  const uint32_t selector = 0x3210u + odd * 0x1111u;
  uint32_t loaded[n + 1];
#pragma unroll
  for (int i = 0; i < n; ++i) loaded[i] = *reinterpret_cast<const uint32_t*>(p - odd + 4 * i);
  loaded[n] = *reinterpret_cast<const uint32_t*>(last);
#pragma unroll
  for (int i = 0; i < n; ++i) words[i] = __byte_perm(loaded[i], loaded[i + 1], selector);
}
// None from behind them.
template <int n>
FERRUM_DEVICE void load_words(const uint8_t* p, unsigned odd, uint32_t (&words)[n]) {
  load_words(p, odd, p + odd + 4 * (n - 1), words);
}
// Where there are 4 more bytes.
template <int n>
FERRUM_DEVICE void load_words_of_more(const uint8_t* p, unsigned odd, uint32_t (&words)[n]) {
  load_words(p, odd, p - odd + 4 * n, words);
}

// Four codes in bytes, less what `minus` holds with the 1024, times `scale`.
FERRUM_DEVICE void put_bytes(uint32_t codes, uint32_t minus, uint32_t scale, uint32_t* pairs) {
  pairs[0] = multiply_halves(add_halves(even_bytes(codes), minus), scale);
  pairs[1] = multiply_halves(add_halves(odd_bytes(codes), minus), scale);
}

}  // namespace ferrum::cuda
