// Rows of blocks times a few columns of x, by the lanes that share the rows.
#pragma once

#include "cuda/kernels/units.h"

namespace ferrum::cuda {

// n / lanes, which is a power of two.
FERRUM_DEVICE int divided_by(int lanes, int n) { return n >> (31 - __clz(lanes)); }

// One unit of each of kRows rows, and the x that it meets, from its block's first value on.
template <class Unit, int kRows, int kColumns, int kTile>
FERRUM_DEVICE void multiply_unit(const typename Unit::Raw (&raw)[kRows], int unit, unsigned block,
                                 const StagedX<kTile>* x, float (&sum)[kRows][kColumns]) {
  const unsigned begin = block + static_cast<unsigned>(Unit::begin(unit));
  decltype(Unit::scales(raw[0], unit)) scales[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) scales[r] = Unit::scales(raw[r], unit);
#pragma unroll
  for (int group = 0; group < Unit::kGroups; ++group) {
    float total[kColumns], dot[kRows][kColumns] = {};
    if constexpr (Unit::kSums) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        total[c] = Unit::sum(x[c].sums + begin / 16, group);
#pragma unroll
        for (int r = 0; r < kRows; ++r) dot[r][c] = -Unit::kZero * total[c];
      }
    }
#pragma unroll
    for (int word = 0; word < Unit::kWords; ++word) {
      uint32_t codes[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) codes[r] = Unit::codes(raw[r], unit, group, word);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const float4 v = load_float4(x[c].values + staged_at(begin) + Unit::at(group, word));
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          dot[r][c] = fmaf(Unit::code(codes[r], 0), v.x, dot[r][c]);
          dot[r][c] = fmaf(Unit::code(codes[r], 1), v.y, dot[r][c]);
          dot[r][c] = fmaf(Unit::code(codes[r], 2), v.z, dot[r][c]);
          dot[r][c] = fmaf(Unit::code(codes[r], 3), v.w, dot[r][c]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        sum[r][c] = fmaf(scales[r].factor[group], dot[r][c], sum[r][c]);
        if constexpr (Unit::kMins) sum[r][c] = fmaf(-scales[r].min[group], total[c], sum[r][c]);
      }
    }
  }
}

template <class Unit, int kRows, int kColumns, int kTile>
FERRUM_DEVICE void multiply_slice(const typename Unit::Raw (&raw)[kRows], int slice, unsigned block,
                                  const StagedX<kTile>* x, float (&sum)[kRows][kColumns]) {
  const unsigned runs[2] = {staged_at(block + static_cast<unsigned>(Unit::F::first(slice))),
                            staged_at(block + static_cast<unsigned>(Unit::F::second(slice)))};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float w[16];
    Unit::unpack(raw[r], slice, w);
#pragma unroll
    for (int i = 0; i < 16; i += 4) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const float4 v = load_float4(x[c].values + runs[i / 8] + i % 8);
        sum[r][c] = fmaf(w[i], v.x, sum[r][c]);
        sum[r][c] = fmaf(w[i + 1], v.y, sum[r][c]);
        sum[r][c] = fmaf(w[i + 2], v.z, sum[r][c]);
        sum[r][c] = fmaf(w[i + 3], v.w, sum[r][c]);
      }
    }
  }
}

// sum[r][c] += this lane's share of row r times column c. Of a row's units lane `lane` of `lanes`,
// a power of two and not below kPerBlock, takes every `lanes`-th, in order: that is what fixes the
// order of a sum. `stage_tile(begin)` puts the columns' values from `begin` on into x, with
// barriers before and after. kAhead: a unit is loaded before the one in front of it is multiplied,
// where too few warps run to hide the memory's latency from each other.
template <int kType, bool kAhead, int kRows, int kColumns, int kTile, class StageTile>
FERRUM_DEVICE void multiply_rows(const BlockOf<kType> (&rows)[kRows], int k, int lane, int lanes,
                                 const StagedX<kTile>* x, const StageTile& stage_tile,
                                 float (&sum)[kRows][kColumns]) {
  using Unit = UnitOf<kType>;
  constexpr unsigned kPerBlock = Unit::kPerBlock;
  const unsigned units = static_cast<unsigned>(k) / Unit::kValues;
  const int in_block = lane % Unit::kPerBlock;
  unsigned unit = static_cast<unsigned>(lane);
  BlockOf<kType> blocks[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) blocks[r] = skip_blocks<Unit::kBytes>(rows[r], unit / kPerBlock);
  typename Unit::Raw raw[kRows];
  const auto load = [&](typename Unit::Raw(&to)[kRows]) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) to[r] = Unit::load(blocks[r], in_block);
  };
  const auto multiply_tile = [&](int begin) {
    stage_tile(begin);
    const unsigned end = min(units, static_cast<unsigned>(begin + kTile) / Unit::kValues);
    while (unit < end) {
      const unsigned block = unit / kPerBlock * Unit::kBlock - static_cast<unsigned>(begin);
      unit += static_cast<unsigned>(lanes);
      const unsigned step = unit < units ? static_cast<unsigned>(lanes) / kPerBlock : 0;
#pragma unroll
      for (int r = 0; r < kRows; ++r) blocks[r] = skip_blocks<Unit::kBytes>(blocks[r], step);
      typename Unit::Raw next[kRows];
      if constexpr (kAhead) load(next);  // after the last unit that one again, for nothing
      if constexpr (Unit::kIsSlice)
        multiply_slice<Unit, kRows, kColumns, kTile>(raw, in_block, block, x, sum);
      else
        multiply_unit<Unit, kRows, kColumns, kTile>(raw, in_block, block, x, sum);
      if constexpr (!kAhead) {
        if (unit < units) load(raw);
      } else {
#pragma unroll
        for (int r = 0; r < kRows; ++r) raw[r] = next[r];
      }
    }
  };
  if (unit < units) load(raw);
  // One token's first tile, most often its only one, apart from others: in a loop, the compiler has
  // x wait for the weights.
  if (kColumns == 1) multiply_tile(0);
#pragma unroll 1
  for (int begin = kColumns == 1 ? kTile : 0; begin < k; begin += kTile) multiply_tile(begin);
  if constexpr (Unit::kBlock == 16) {  // a float type's row that ends in no whole slice
    constexpr int kValueBytes = Unit::kBytes / 16;
    for (int i = k / 16 * 16 + lane; i < k; i += lanes)
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
          sum[r][c] = fmaf(Unit::F::value(rows[r] + static_cast<size_t>(i) * kValueBytes),
                           x[c].values[staged_at(static_cast<unsigned>(i) % kTile)], sum[r][c]);
  }
}

// Over neighbouring lanes, up to a warp of them.
template <int kRows, int kColumns>
FERRUM_DEVICE void sum_over_lanes(int lanes, float (&sum)[kRows][kColumns]) {
  for (int step = min(lanes, kWarp) / 2; step > 0; step /= 2)
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sum[r][c] += __shfl_xor_sync(kWholeWarp, sum[r][c], step);
}

}  // namespace ferrum::cuda
