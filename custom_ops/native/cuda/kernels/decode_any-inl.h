// A chunk of positions for one unit of query heads in float32, for any head_dim and cache type.
//
// Shared memory holds the unit's queries and gathered values, [heads, head_dim] each. 64 positions
// at a time: warps take a position each and multiply it with all heads, then warps take a head each
// for the softmax, then threads take an element each for the values.
#pragma once

#include "cuda/kernels/decode_chunks-inl.h"

namespace ferrum::cuda {
namespace {

constexpr int kStep = 64;  // positions
constexpr int kAnyWarps = kDecodeAnyThreads / kWarp;

struct AnySpace {
  float* queries;          // [heads, head_dim]
  float* values;           // [heads, head_dim]
  float (*scores)[kStep];  // [kUnitHeads][kStep], after the softmax probabilities
  int* slots;              // [kStep]
  float* most;             // [kUnitHeads] so far
  float* sum;              // [kUnitHeads]
  float* keep;             // [kUnitHeads] what this step leaves of what was gathered before it
};

FERRUM_DEVICE void score_positions(const DecodeArguments& a, const DecodeUnit& unit, int count,
                                   const AnySpace& space) {
  const int dim = a.cache.head_dim;
  for (int i = warp_index(); i < count; i += kAnyWarps) {
    const int slot = space.slots[i];
    float scores[kUnitHeads] = {};
    if (slot != kNoSlot) {
      const size_t key = element_of(a.cache, slot, unit.kv_head);
      for (int d = lane_index(); d < dim; d += kWarp) {
        const float element = load_element({a.cache.keys, a.cache.type}, key + d);
#pragma unroll
        for (int h = 0; h < kUnitHeads; ++h)
          if (h < unit.heads) scores[h] = fmaf(space.queries[h * dim + d], element, scores[h]);
      }
    }
#pragma unroll
    for (int h = 0; h < kUnitHeads; ++h) {
      const float score = h < unit.heads ? warp_sum(scores[h]) : 0.0f;
      if (lane_index() == 0) space.scores[h][i] = slot == kNoSlot ? not_a_number() : score;
    }
  }
}

FERRUM_DEVICE void take_softmax(const DecodeUnit& unit, int count, const AnySpace& space) {
  for (int h = warp_index(); h < unit.heads; h += kAnyWarps) {
    const float before = space.most[h];
    float most = before, sum = 0.0f;
    for (int i = lane_index(); i < count; i += kWarp)
      most = space.scores[h][i] > most ? space.scores[h][i] : most;
    most = warp_max(most);
    for (int i = lane_index(); i < count; i += kWarp) {
      const float p = fast_exp(space.scores[h][i] - most);
      space.scores[h][i] = p;
      sum += p;
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) {
      space.keep[h] = share_of(before, most);
      space.most[h] = most;
      space.sum[h] = space.sum[h] * space.keep[h] + sum;
    }
  }
}

FERRUM_DEVICE void add_values(const DecodeArguments& a, const DecodeUnit& unit, int count,
                              const AnySpace& space) {
  const int dim = a.cache.head_dim;
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += kDecodeAnyThreads) {
    float sums[kUnitHeads] = {};
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      const int slot = space.slots[i];
      if (slot == kNoSlot) continue;
      const size_t value = element_of(a.cache, slot, unit.kv_head);
      const float element = load_element({a.cache.values, a.cache.type}, value + d);
#pragma unroll
      for (int h = 0; h < kUnitHeads; ++h)
        if (h < unit.heads) sums[h] = fmaf(space.scores[h][i], element, sums[h]);
    }
#pragma unroll
    for (int h = 0; h < kUnitHeads; ++h)
      if (h < unit.heads)
        space.values[h * dim + d] = fmaf(space.values[h * dim + d], space.keep[h], sums[h]);
  }
}

FERRUM_DEVICE void take_chunk_any(const DecodeArguments& a, const DecodeUnit& unit, int chunk,
                                  const AnySpace& space) {
  const int elements = unit.heads * a.cache.head_dim, thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < elements; i += kDecodeAnyThreads) space.values[i] = 0.0f;
  if (thread < kUnitHeads) {
    space.most[thread] = minus_infinity();
    space.sum[thread] = 0.0f;
  }
  for (int base = unit.begin(chunk); base < unit.end(chunk); base += kStep) {
    const int count = min(kStep, unit.end(chunk) - base);
    if (thread < count) space.slots[thread] = slot_of(a.cache, unit.sequence, base + thread);
    __syncthreads();
    score_positions(a, unit, count, space);
    __syncthreads();
    take_softmax(unit, count, space);
    __syncthreads();
    add_values(a, unit, count, space);
    __syncthreads();
  }
  for (int i = thread; i < elements; i += kDecodeAnyThreads) {
    const int head = i / a.cache.head_dim;
    write_value(a, unit, chunk, head, i - head * a.cache.head_dim, space.most[head],
                space.sum[head], space.values[i]);
  }
  __syncthreads();
}

FERRUM_DEVICE void decode_any(const DecodeArguments& a) {
  FERRUM_SHARED float scores[kUnitHeads][kStep];
  FERRUM_SHARED int slots[kStep];
  FERRUM_SHARED float most[kUnitHeads], sum[kUnitHeads], keep[kUnitHeads];
  const DecodeUnit unit = placed_unit_of_block(a);
  if (static_cast<int>(blockIdx.x) >= unit.chunks) return;
  float* const queries = dynamic_shared<float>();
  const int dim = a.cache.head_dim, elements = unit.heads * dim;
  const AnySpace space{queries, queries + elements, scores, slots, most, sum, keep};
  const float* const from = a.queries + (unit.token * a.heads + unit.first_head) * dim;
  for (int i = static_cast<int>(threadIdx.x); i < elements; i += kDecodeAnyThreads)
    queries[i] = from[i];
  for (int c = static_cast<int>(blockIdx.x); c < unit.chunks; c += static_cast<int>(gridDim.x))
    take_chunk_any(a, unit, c, space);
}

}  // namespace
}  // namespace ferrum::cuda
