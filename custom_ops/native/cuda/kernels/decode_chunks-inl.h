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
  const int64_t start = a.cache.cumulative[z], end = a.cache.cumulative[z + 1];
  const bool alone = (start >= 0) & (start < a.cache.tokens) & (end == start + 1);
  return alone ? start : -1;
}

// The query heads of a block, which its place in the grid tells.
FERRUM_DEVICE DecodeUnit unit_of_block(const DecodeArguments& a) {
  DecodeUnit unit{};
  const int units_of_head = a.units / a.cache.kv_heads;
  const int part = static_cast<int>(blockIdx.y) % units_of_head;
  unit.kv_head = static_cast<int>(blockIdx.y) / units_of_head;
  unit.first_head = unit.kv_head * a.group + part * a.unit_heads;
  unit.heads = min(a.unit_heads, a.group - part * a.unit_heads);
  return unit;
}

// And its positions, in chunks that depend on the token's own length alone.
FERRUM_DEVICE void find_chunks(const DecodeArguments& a, int64_t token, const Place& place,
                               DecodeUnit& unit) {
  unit.token = token;
  if (place.position < 0) return;
  unit.sequence = place.sequence;
  unit.length = place.position + 1;
  unit.chunk = unit.length <= kLongChunk ? kLongChunk
                                         : a.chunk * (place.position / (a.chunk * kMostChunks) + 1);
  unit.chunks = place.position / unit.chunk + 1;
}

FERRUM_DEVICE DecodeUnit placed_unit_of_block(const DecodeArguments& a) {
  DecodeUnit unit = unit_of_block(a);
  const int64_t token = token_of_block(a);
  if (token < 0) return unit;
  // A copy, for the sequence's load not to wait for what the position decides.
  const Place place = a.places[token];
  find_chunks(a, token, place, unit);
  return unit;
}

FERRUM_DEVICE int64_t partial_at(const DecodeArguments& a, int chunk) {
  const int64_t unit = static_cast<int64_t>(blockIdx.z) * a.units + blockIdx.y;
  return (unit * a.chunks + chunk) * a.partial_floats;
}
FERRUM_DEVICE float* partial_of(const DecodeArguments& a, int chunk) {
  return a.partials + partial_at(a, chunk);
}

// One value of one head over a chunk, to where it belongs: over the sum of exponentials to the
// output, or as it is to the chunk's partial.
FERRUM_DEVICE void write_value(const DecodeArguments& a, const DecodeUnit& unit, int chunk,
                               int head, int d, float most, float sum, float value) {
  if (unit.chunks == 1) {
    const int64_t at = unit.token * a.heads + unit.first_head + head;
    store_element(a.out, at * a.cache.head_dim + d, value / sum);
    return;
  }
  float* const partial = partial_of(a, chunk);
  if (d == 0) {
    partial[head] = most;
    partial[kUnitHeads + head] = sum;
  }
  partial[2 * kUnitHeads + head * a.cache.head_dim + d] = value;
}

// What each chunk's values count in the whole; a lane has the maxima and sums of chunks lane and
// lane + 32.
FERRUM_DEVICE void find_shares(int chunks, const float (&most)[kMostChunks / kWarp],
                               const float (&sum)[kMostChunks / kWarp], float* shares) {
  float all = minus_infinity(), total = 0.0f;
  float kept[kMostChunks / kWarp];
#pragma unroll
  for (int j = 0; j < kMostChunks / kWarp; ++j)
    if (j * kWarp + lane_index() < chunks) all = most[j] > all ? most[j] : all;
  all = warp_max(all);
#pragma unroll
  for (int j = 0; j < kMostChunks / kWarp; ++j) {
    const bool exists = j * kWarp + lane_index() < chunks;
    kept[j] = exists ? share_of(most[j], all) : 0.0f;
    if (exists) total = fmaf(kept[j], sum[j], total);
  }
  total = warp_sum(total);
#pragma unroll
  for (int j = 0; j < kMostChunks / kWarp; ++j)
    if (j * kWarp + lane_index() < chunks) shares[j * kWarp + lane_index()] = kept[j] / total;
}

// One head's output from its partials, in order of chunks; block (head of the unit, unit, token).
// Threads take a fourth of the chunks each and 128 elements side by side. All is loaded before the
// token's length is known, which tells what of it counts.
FERRUM_DEVICE void merge_chunks(const DecodeArguments& a) {
  constexpr int kWidth = 128, kShares = kMergeThreads / kWidth, kHeld = kMostChunks / kShares;
  FERRUM_SHARED float shares[kMostChunks];
  FERRUM_SHARED float sums[kShares][kWidth];
  const int head = static_cast<int>(blockIdx.x), dim = a.cache.head_dim;
  const int share = static_cast<int>(threadIdx.x) / kWidth;
  const int column = static_cast<int>(threadIdx.x) % kWidth;
  float most[kMostChunks / kWarp], sum[kMostChunks / kWarp];
#pragma unroll
  for (int j = 0; j < kMostChunks / kWarp; ++j) {
    const int c = j * kWarp + lane_index();
    const bool exists = warp_index() == 0 && c < a.chunks;
    most[j] = exists ? partial_of(a, c)[head] : 0.0f;
    sum[j] = exists ? partial_of(a, c)[kUnitHeads + head] : 0.0f;
  }
  for (int base = 0; base < dim; base += kWidth) {
    const int d = base + column;
    float values[kHeld];
    int64_t at = partial_at(a, share) + 2 * kUnitHeads + head * dim + d;
#pragma unroll
    for (int j = 0; j < kHeld; ++j, at += kShares * a.partial_floats)
      values[j] = j * kShares + share < a.chunks && d < dim ? a.partials[at] : 0.0f;
    const DecodeUnit unit = placed_unit_of_block(a);
    if (unit.chunks <= 1 || head >= unit.heads) return;
    if (base == 0 && warp_index() == 0) find_shares(unit.chunks, most, sum, shares);
    __syncthreads();
    float value = 0.0f;
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int c = j * kShares + share;
      if (c < unit.chunks) value = fmaf(shares[c], values[j], value);
    }
    sums[share][column] = value;
    __syncthreads();
    if (share != 0 || d >= dim) continue;
    for (int other = 1; other < kShares; ++other) value += sums[other][column];
    store_element(a.out, (unit.token * a.heads + unit.first_head + head) * dim + d, value);
  }
}

}  // namespace
}  // namespace ferrum::cuda
