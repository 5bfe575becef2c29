// A warp normalizes a head and rotates it by halves (NEOX style): element i turns with element
// i + head_dim / 2.
#pragma once

#include "cuda/kernels/paged_cache-inl.h"
#include "cuda/kernels/prefetch-inl.h"

namespace ferrum::cuda {
namespace {

// What turns the heads; each of it is a few lines.
FERRUM_DEVICE void prefetch_turns(const Heads& heads, int head_dim) {
  const size_t bytes = static_cast<size_t>(head_dim) * sizeof(float);
  prefetch_bytes(heads.q_norm, bytes);
  prefetch_bytes(heads.k_norm, bytes);
  prefetch_bytes(heads.inv_freq, bytes / 2);
}

// Where a token stands of a sequence whose tokens in the step are start .. end; -1 where the
// sequence does not fit its table.
FERRUM_DEVICE int32_t position_in(const PagedCache& cache, int64_t start, int64_t end, int64_t past,
                                  int64_t token) {
  const int64_t length = past + end - start;
  const bool fits =
      (past >= 0) & (length <= 0x7fffffff) & (length <= cache.columns * cache.block_size);
  return fits ? static_cast<int32_t>(past + token - start) : -1;
}

// A warp looks for the sequence that has the token, and on the way sees whether the lengths are in
// order: if they are not, no token has a place. A sequence that does not fit its table has none
// either. Everything is loaded at once, so that it costs one way to memory: a branch would have
// what stands behind it loaded after what it asks for.
FERRUM_DEVICE Place find_place(const PagedCache& cache, int64_t token) {
  const int32_t begin = cache.cumulative[0], all = cache.cumulative[cache.sequences];
  bool ordered = true, found = false;
  int32_t sequence = 0, position = -1;
#pragma unroll 1
  for (int64_t b = lane_index(); b < cache.sequences; b += kWarp) {
    const int64_t start = cache.cumulative[b], end = cache.cumulative[b + 1], past = cache.past[b];
    const bool owns = (token >= start) & (token < end);
    ordered &= start <= end;
    found |= owns;
    sequence = owns ? static_cast<int32_t>(b) : sequence;
    position = owns ? position_in(cache, start, end, past, token) : position;
  }
  const uint32_t owners = __ballot_sync(kWholeWarp, found);
  ordered &= (begin == 0) & (all == cache.tokens);
  // Lengths that are in order, from 0 to beyond the token, have one owner.
  if (!__all_sync(kWholeWarp, ordered) || owners == 0) return {0, -1};
  const int owner = __ffs(static_cast<int>(owners)) - 1;
  return {__shfl_sync(kWholeWarp, sequence, owner), __shfl_sync(kWholeWarp, position, owner)};
}

// A lane's elements lane, lane + 32, ... of the first half of a head, and those of the second half
// that turn with them. kHeld lanes' turns hold a head of up to 64 kHeld elements.
template <int kHeld>
struct Head {
  float first[kHeld], second[kHeld];

  FERRUM_DEVICE void load(const float* head, int half) {
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int i = j * kWarp + lane_index();
      first[j] = i < half ? head[i] : 0.0f;
      second[j] = i < half ? head[i + half] : 0.0f;
    }
  }
  // Of the head that begins at element `at`.
  FERRUM_DEVICE void load(ConstElements heads, int64_t at, int half) {
    if (heads.type == kF32) {
      load(floats_of(heads) + at, half);
      return;
    }
    const uint16_t* const head = halves_of(heads) + at;
    uint32_t bits[2 * kHeld];
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int i = j * kWarp + lane_index();
      bits[2 * j] = i < half ? head[i] : 0u;
      bits[2 * j + 1] = i < half ? head[i + half] : 0u;
    }
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      first[j] = float_of(heads.type, bits[2 * j]);
      second[j] = float_of(heads.type, bits[2 * j + 1]);
    }
  }

  // Makes the root mean square 1, but for epsilon and the weight.
  FERRUM_DEVICE void normalize(const Head& weight, int half, float epsilon) {
    float squares = 0.0f;
#pragma unroll
    for (int j = 0; j < kHeld; ++j)
      squares = fmaf(first[j], first[j], fmaf(second[j], second[j], squares));
    const float mean = warp_sum(squares) / static_cast<float>(2 * half);
    const float factor = 1.0f / sqrtf(mean + epsilon);
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      first[j] = first[j] * factor * weight.first[j];
      second[j] = second[j] * factor * weight.second[j];
    }
  }

  template <class Store>
  FERRUM_DEVICE void store(int half, Store to) const {
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int i = j * kWarp + lane_index();
      if (i >= half) continue;
      to(i, first[j]);
      to(i + half, second[j]);
    }
  }
};

// The sines and cosines of one position, for all heads.
template <int kHeld>
struct Turn {
  float sine[kHeld], cosine[kHeld];

  FERRUM_DEVICE void load(const float* inv_freq, int half) {
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int i = j * kWarp + lane_index();
      cosine[j] = i < half ? inv_freq[i] : 0.0f;
    }
  }
  // From the frequencies that `load` has left. The angle is rounded to float32 as on the CPU, and
  // then taken as exact, however large.
  FERRUM_DEVICE void find(int position, float rope_scale) {
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const float angle = static_cast<float>(position) * cosine[j];
      sincosf(angle, &sine[j], &cosine[j]);
      sine[j] *= rope_scale;
      cosine[j] *= rope_scale;
    }
  }
  FERRUM_DEVICE void turn(Head<kHeld>& head) const {
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const float first = head.first[j], second = head.second[j];
      head.first[j] = first * cosine[j] - second * sine[j];
      head.second[j] = second * cosine[j] + first * sine[j];
    }
  }
};

}  // namespace
}  // namespace ferrum::cuda
