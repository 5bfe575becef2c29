// A tile of one row of activations in shared memory, as the units of units.h read it.
#pragma once

#include "cuda/kernels/elements-inl.h"

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

// What a row of k has in place of values beyond its end is zero. kAnyK: k may be no multiple of 4.

// v[i] = values at + i * step .. + 4 of a row.
template <bool kAnyK, int kTurns>
FERRUM_DEVICE void load_turns(const float* row, int k, int at, int step, float4 (&v)[kTurns]) {
  if (!kAnyK || k % 4 == 0) {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      v[turn] = {0.0f, 0.0f, 0.0f, 0.0f};
      if (at + turn * step < k) v[turn] = load_float4(row + at + turn * step);
    }
  } else {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int i = at + turn * step;
      v[turn] = {i < k ? row[i] : 0.0f, i + 1 < k ? row[i + 1] : 0.0f,
                 i + 2 < k ? row[i + 2] : 0.0f, i + 3 < k ? row[i + 3] : 0.0f};
    }
  }
}

// The same of values of 2 bytes, as they are.
template <bool kAnyK, int kTurns>
FERRUM_DEVICE void load_turns(const uint16_t* row, int k, int at, int step, uint2 (&v)[kTurns]) {
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int i = at + turn * step;
    v[turn] = make_uint2(0, 0);
    if (!kAnyK || k % 4 == 0) {
      if (i < k) v[turn] = *reinterpret_cast<const uint2*>(row + i);
    } else {
      const auto value = [&](int j) { return i + j < k ? uint32_t{row[i + j]} : 0u; };
      v[turn] = make_uint2(value(0) | value(1) << 16, value(2) | value(3) << 16);
    }
  }
}

// Of either, as floats.
template <bool kAnyK, int kTurns>
FERRUM_DEVICE void load_turns(ConstElements row, int k, int at, int step, float4 (&v)[kTurns]) {
  if (row.type == kF32) {
    load_turns<kAnyK>(floats_of(row), k, at, step, v);
  } else {
    uint2 raw[kTurns];
    load_turns<kAnyK>(halves_of(row), k, at, step, raw);
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) v[turn] = four_of(row.type, raw[turn]);
  }
}

// Values of a tile of n from `first` on, four of each turn, by all lanes of a warp. Turns go side
// by side, for each is a chain of shuffles.
template <bool kSums, int kThreads, int kTurns, int kValues>
FERRUM_DEVICE void put_turns(const float4 (&v)[kTurns], int first, int n, int thread,
                             StagedX<kValues>& to) {
  const auto at = [&](int turn) { return first + 4 * (turn * kThreads + thread); };
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn)
    if (at(turn) < n)
      *reinterpret_cast<float4*>(to.values + staged_at(static_cast<unsigned>(at(turn)))) = v[turn];
  if constexpr (kSums) {
    float sum[kTurns];
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn)
      sum[turn] = (v[turn].x + v[turn].y) + (v[turn].z + v[turn].w);
#pragma unroll
    for (int step = 1; step <= 2; step *= 2)
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn)
        sum[turn] += __shfl_xor_sync(kWholeWarp, sum[turn], step);
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn)
      if (at(turn) < n && thread % 4 == 0) to.sums[at(turn) / 16] = sum[turn];
  }
}

// Values begin .. begin + kValues of a row of k, zeros beyond its end up to a multiple of 16, by
// kThreads threads, whole warps of them. A barrier must follow. Each type goes its own way from
// loads to stores, so that neither waits, in registers, for where they would meet again.
template <bool kSums, bool kAnyK, int kThreads, int kValues>
FERRUM_DEVICE void stage(ConstElements row, int k, int begin, int thread, StagedX<kValues>& to) {
  constexpr int kTurns = kValues / (4 * kThreads), kAtOnce = kTurns < 4 ? kTurns : 4;
  static_assert(kTurns % kAtOnce == 0);
  const int n = min(kValues, (k - begin + 15) / 16 * 16);
  const auto put_all = [&](const auto& four_of_turn) {
#pragma unroll
    for (int turn = 0; turn < kTurns; turn += kAtOnce) {
      const int first = 4 * turn * kThreads;
      if (first >= n) break;
      float4 v[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) v[i] = four_of_turn(turn + i);
      put_turns<kSums, kThreads>(v, first, n, thread, to);
    }
  };
  if (row.type == kF32) {
    float4 v[kTurns];
    load_turns<kAnyK>(floats_of(row), k, begin + 4 * thread, 4 * kThreads, v);
    put_all([&](int turn) { return v[turn]; });
  } else {
    uint2 v[kTurns];
    load_turns<kAnyK>(halves_of(row), k, begin + 4 * thread, 4 * kThreads, v);
    put_all([&](int turn) { return four_of(row.type, v[turn]); });
  }
}

}  // namespace ferrum::cuda
