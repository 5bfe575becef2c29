// How many sorted (token, slot) pairs make one tile of the experts' products. Many share each
// decoded weight; few leave little of a tile empty where experts have few pairs.
#pragma once

#include <cstdint>

namespace ferrum::cuda {

struct BlockSizeRule {
  int forced = 0;  // 8, 16, 32, 48 or 64; 0: none
  // One of those each, where only the device knows the experts' counts: below so many pairs, and
  // from so many on.
  int small_m = 16, large_m = 64;
  int64_t large_m_pairs = 1024;
};

// With the experts' counts known: the largest of 64, 32 and 16 that pads all pairs to at most 1.30
// times as many, else 16. Throws Error on a count or a rule that cannot be.
int block_size(const BlockSizeRule& rule, const int32_t* counts, int64_t experts);

// With the counts on the device.
int block_size(const BlockSizeRule& rule, int64_t pairs);

}  // namespace ferrum::cuda
