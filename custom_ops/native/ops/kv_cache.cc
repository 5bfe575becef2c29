#include "ops/kv_cache.h"

#include <cstring>

#include "error.h"
#include "quants.h"

namespace ferrum {
namespace {

uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

uint16_t to_bfloat16(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // NaN
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t to_float16(float value) {
  const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (magnitude > 0x7f800000) return sign | 0x7e00;   // NaN
  if (magnitude >= 0x477ff000) return sign | 0x7c00;  // 65520 and above round to infinity
  if (magnitude >= 0x38800000) {                      // normal: shift the exponent, round
    const uint32_t rebased = magnitude - (112u << 23);
    return sign | static_cast<uint16_t>((rebased + 0xfff + (rebased >> 13 & 1)) >> 13);
  }
  // Subnormal: in steps of 2^-24. Adding 2^-1 leaves them, rounded, in the low mantissa bits.
  float shifted;
  memcpy(&shifted, &magnitude, sizeof shifted);
  return sign | static_cast<uint16_t>(bits_of(shifted + 0.5f) - bits_of(0.5f));
}

}  // namespace

int64_t KvCache::element_bytes() const { return type == kF32 ? 4 : 2; }

void store_elements(int type, const float* from, int64_t n, uint8_t* to) {
  if (type == kF32) {
    memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  const auto round = type == kF16 ? to_float16 : to_bfloat16;
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t element = round(from[i]);
    memcpy(to + 2 * i, &element, sizeof element);
  }
}

void check_sequences(const Sequences& sequences, int64_t tokens, const KvCache& cache) {
  const int32_t* const ends = sequences.cumulative;
  if (ends[0] != 0) fail("cumulative_sequence_lengths[0], got ", ends[0], ", expected 0");
  for (int64_t b = 0; b < sequences.count; ++b) {
    if (ends[b + 1] < ends[b])
      fail("cumulative_sequence_lengths[", b + 1, "], got ", ends[b + 1], ", expected at least ",
           ends[b], ", where sequence ", b, " starts");
    if (sequences.past[b] < 0)
      fail("past_sequence_lengths[", b, "], got ", sequences.past[b], ", expected 0 or more");
    if (ends[b + 1] == ends[b]) continue;  // an empty sequence reads and writes nothing
    const int64_t length = int64_t{sequences.past[b]} + ends[b + 1] - ends[b];
    const int64_t used = (length + cache.block_size - 1) / cache.block_size;
    if (used > sequences.columns)
      fail("sequence ", b, " of ", length, " tokens, got a block_table row of ", sequences.columns,
           " blocks of ", cache.block_size, ", expected at least ", used);
    for (int64_t column = 0; column < used; ++column) {
      const int64_t block = sequences.block(b, column);
      if (block < 0 || block >= cache.blocks)
        fail("block_table[", b, ", ", column, "], got ", block, ", expected 0 to ",
             cache.blocks - 1, ", a block of the cache");
    }
  }
  if (ends[sequences.count] != tokens)
    fail("cumulative_sequence_lengths[", sequences.count, "], got ", ends[sequences.count],
         ", expected ", tokens, ", the tokens of this step");
}

}  // namespace ferrum
