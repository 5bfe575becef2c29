// The chunks of a decoding token: which a block has, and how their partials become one output.
#pragma once

#include "cuda/kernels/paged_cache-inl.h"

namespace ferrum::cuda {
namespace {

// What a block of (part, unit, token) works on. It takes chunks part, part + gridDim.x, ...
struct DecodeUnit {
  int64_t token, sequence;
  int kv_head;
  int first_head, heads;  // query heads
  int length;             // positions that the token sees
  int chunk, chunks;      // positions of a chunk, and their count; 0 where nothing is to be done

  FERRUM_DEVICE int begin(int c) const { return c * chunk; }
  FERRUM_DEVICE int end(int c) const { return min(c * chunk + chunk, length); }
};

FERRUM_DEVICE int64_t token_of_block(const DecodeArguments& a) {
  const int64_t z = a.first + blockIdx.z;
  if (!a.single) return z;
  const int64_t start = a.cache.cumulative[z];
  const bool in_step = start >= 0 && start < a.cache.tokens;
  return in_step && a.cache.cumulative[z + 1] == start + 1 ? start : -1;
}

FERRUM_DEVICE DecodeUnit unit_of_block(const DecodeArguments& a) {
  DecodeUnit unit{};
  unit.token = token_of_block(a);
  if (unit.token < 0) return unit;
  const Place place = a.places[unit.token];
  if (place.position < 0) return unit;
  const int units_of_head = a.units / a.cache.kv_heads;
  const int part = static_cast<int>(blockIdx.y) % units_of_head;
  unit.sequence = place.sequence;
  unit.kv_head = static_cast<int>(blockIdx.y) / units_of_head;
  unit.first_head = unit.kv_head * a.group + part * a.unit_heads;
  unit.heads = min(a.unit_heads, a.group - part * a.unit_heads);
  unit.length = place.position + 1;
  unit.chunk = a.chunk * (place.position / (a.chunk * kMostChunks) + 1);
  unit.chunks = place.position / unit.chunk + 1;
  return unit;
}

FERRUM_DEVICE float* partial_of(const DecodeArguments& a, int chunk) {
  const int64_t unit = static_cast<int64_t>(blockIdx.z) * a.units + blockIdx.y;
  return a.partials + (unit * a.chunks + chunk) * a.partial_floats;
}

// One value of one head over a chunk, to where it belongs: over the sum of exponentials to the
// output, or as it is to the chunk's partial.
FERRUM_DEVICE void write_value(const DecodeArguments& a, const DecodeUnit& unit, int chunk,
                               int head, int d, float most, float sum, float value) {
  if (unit.chunks == 1) {
    const int64_t at = unit.token * a.heads + unit.first_head + head;
    a.out[at * a.cache.head_dim + d] = value / sum;
    return;
  }
  float* const partial = partial_of(a, chunk);
  if (d == 0) {
    partial[head] = most;
    partial[kUnitHeads + head] = sum;
  }
  partial[2 * kUnitHeads + head * a.cache.head_dim + d] = value;
}

// Whether all other blocks of the unit have written their partials, which this one then may read.
FERRUM_DEVICE bool is_last_of_unit(const DecodeArguments& a, const DecodeUnit& unit) {
  FERRUM_SHARED int before;
  const int blocks = min(static_cast<int>(gridDim.x), unit.chunks);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) before = atomicAdd(&a.arrived[unit.token * a.units + blockIdx.y], 1);
  __syncthreads();
  __threadfence();
  return before == blocks - 1;
}

// The unit's outputs from its partials, in order of chunks, by the block that came last.
template <int kThreads>
FERRUM_DEVICE void merge_chunks(const DecodeArguments& a, const DecodeUnit& unit) {
  FERRUM_SHARED float shares[kUnitHeads][kMostChunks];
  const int dim = a.cache.head_dim;
  for (int head = warp_index(); head < unit.heads; head += kThreads / kWarp) {
    float all = minus_infinity(), sum = 0.0f;
    for (int c = lane_index(); c < unit.chunks; c += kWarp) {
      const float most = partial_of(a, c)[head];
      all = most > all ? most : all;
    }
    all = warp_max(all);
    for (int c = lane_index(); c < unit.chunks; c += kWarp) {
      const float* const partial = partial_of(a, c);
      shares[head][c] = share_of(partial[head], all);
      sum += shares[head][c] * partial[kUnitHeads + head];
    }
    sum = warp_sum(sum);
    for (int c = lane_index(); c < unit.chunks; c += kWarp) shares[head][c] /= sum;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < unit.heads * dim; i += kThreads) {
    const float* const values = partial_of(a, 0) + 2 * kUnitHeads + i;
    const int head = i / dim;
    float value = 0.0f;
#pragma unroll 8
    for (int c = 0; c < unit.chunks; ++c)
      value = fmaf(shares[head][c], values[c * a.partial_floats], value);
    a.out[(unit.token * a.heads + unit.first_head) * dim + i] = value;
  }
}

// After a block's chunks are written.
template <int kThreads>
FERRUM_DEVICE void finish_unit(const DecodeArguments& a, const DecodeUnit& unit) {
  if (unit.chunks > 1 && is_last_of_unit(a, unit)) merge_chunks<kThreads>(a, unit);
}

}  // namespace
}  // namespace ferrum::cuda
