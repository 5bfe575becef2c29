// A tile of one row of activations in shared memory, as the units of units.h read it.
#pragma once

#include "cuda/device.h"

namespace ferrum::cuda {

// Where value i of a tile lies: four floats of room after every 64 put what neighbouring lanes read
// at a time into different banks.
FERRUM_DEVICE constexpr unsigned staged_at(unsigned i) { return i + i / 64 * 4; }

template <int kValues>
struct StagedX {
  alignas(16) float values[kValues / 64 * 68];
  alignas(16) float sums[kValues / 16];  // of 16 neighbours each
};

FERRUM_DEVICE float4 load_float4(const float* p) { return *reinterpret_cast<const float4*>(p); }

// Values at .. at + 4 of a row of k, zeros beyond its end.
FERRUM_DEVICE float4 load_4_of_row(const float* row, int k, int at) {
  if (k % 4 == 0) {
    if (at < k) return load_float4(row + at);
    return {0.0f, 0.0f, 0.0f, 0.0f};
  }
  return {at < k ? row[at] : 0.0f, at + 1 < k ? row[at + 1] : 0.0f, at + 2 < k ? row[at + 2] : 0.0f,
          at + 3 < k ? row[at + 3] : 0.0f};
}

// v[i] = load_4_of_row(row, k, at + i * step), of which k is asked once.
template <int kTurns>
FERRUM_DEVICE void load_turns(const float* row, int k, int at, int step, float4 (&v)[kTurns]) {
  if (k % 4 == 0) {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      v[turn] = {0.0f, 0.0f, 0.0f, 0.0f};
      if (at + turn * step < k) v[turn] = load_float4(row + at + turn * step);
    }
  } else {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) v[turn] = load_4_of_row(row, k, at + turn * step);
  }
}

// Values begin .. begin + kValues of a row of k, zeros beyond its end up to a multiple of 16, by
// kThreads threads, whole warps of them. A barrier must follow.
template <bool kSums, int kThreads, int kValues>
FERRUM_DEVICE void stage(const float* row, int k, int begin, int thread, StagedX<kValues>& to) {
  constexpr int kTurns = kValues / (4 * kThreads);
  const int n = min(kValues, (k - begin + 15) / 16 * 16);
  float4 v[kTurns];
  load_turns(row, k, begin + 4 * thread, 4 * kThreads, v);
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    if (4 * turn * kThreads >= n) break;
    const int i = 4 * (turn * kThreads + thread);
    if (i < n)
      *reinterpret_cast<float4*>(to.values + staged_at(static_cast<unsigned>(i))) = v[turn];
    if constexpr (kSums) {
      float sum = (v[turn].x + v[turn].y) + (v[turn].z + v[turn].w);
      sum += __shfl_xor_sync(kWholeWarp, sum, 1);
      sum += __shfl_xor_sync(kWholeWarp, sum, 2);
      if (i < n && thread % 4 == 0) to.sums[i / 16] = sum;
    }
  }
}

}  // namespace ferrum::cuda
