// Norms, a block per row, and the choice of experts, a warp or a block per token.
#include "cuda/kernels/elements-inl.h"
#include "cuda/kernels/prefetch-inl.h"
#include "cuda/kernels/rows_arguments.h"

namespace ferrum::cuda {
namespace {

// Four neighbours of a row from `i` on, zero beyond its end. Threads own the same values whether
// or not memory is aligned, so that the sum's order is one. What a thread loads at once, no branch
// parts: behind one, loads would wait for those in front of it.
template <bool kAligned>
FERRUM_DEVICE float4 load_four_of_row(ConstElements x, int64_t row, int64_t i,
                                      const NormArguments& a) {
  if (kAligned) return load_four(x, row + i);
  const int64_t left = a.columns - i;
  return make_float4(load_element(x, row + i), left > 1 ? load_element(x, row + i + 1) : 0.0f,
                     left > 2 ? load_element(x, row + i + 2) : 0.0f,
                     left > 3 ? load_element(x, row + i + 3) : 0.0f);
}

template <bool kAligned>
FERRUM_DEVICE void store_four_of_row(Elements to, int64_t row, int64_t i, const NormArguments& a,
                                     float4 v) {
  if (kAligned) {
    store_four(to, row + i, v);
    return;
  }
  const int64_t left = a.columns - i;
  store_element(to, row + i, v.x);
  if (left > 1) store_element(to, row + i + 1, v.y);
  if (left > 2) store_element(to, row + i + 2, v.z);
  if (left > 3) store_element(to, row + i + 3, v.w);
}

template <bool kAligned>
FERRUM_DEVICE float4 weights_at(const NormArguments& a, int64_t i) {
  return load_four_of_row<kAligned>({a.weight, kF32}, 0, i, a);
}

FERRUM_DEVICE float block_sum(float x) {
  constexpr int kWarps = kNormThreads / kWarp;
  FERRUM_SHARED float sums[kWarps];
  x = warp_sum(x);
  if (lane_index() == 0) sums[warp_index()] = x;
  __syncthreads();
  return warp_sum(lane_index() < kWarps ? sums[lane_index()] : 0.0f);
}

template <bool kAdd, int kType, bool kAligned>
FERRUM_DEVICE float4 values_at(const NormArguments& a, int64_t row, int64_t i) {
  float4 v = load_four_of_row<kAligned>({a.x, kType}, row, i, a);
  if (kAdd) {
    const float4 other = load_four_of_row<kAligned>({a.residual, kType}, row, i, a);
    v = make_float4(v.x + other.x, v.y + other.y, v.z + other.z, v.w + other.w);
  }
  return v;
}

template <bool kAdd, int kType, bool kAligned>
FERRUM_DEVICE void write_normed(const NormArguments& a, int64_t row, int64_t i, float4 v, float4 w,
                                float factor) {
  if (kAdd) store_four_of_row<kAligned>({a.sum, kType}, row, i, a, v);
  store_four_of_row<kAligned>(
      {a.normed, kType}, row, i, a,
      make_float4(v.x * factor * w.x, v.y * factor * w.y, v.z * factor * w.z, v.w * factor * w.w));
}

// A thread keeps its first four values, with their weights, so that a row of up to 4 kNormThreads
// is loaded once; the rest of a longer one is read twice, the second time from the cache.
template <bool kAdd, int kType, bool kAligned>
FERRUM_DEVICE void normalize_row(const NormArguments& a) {
  constexpr int kStep = 4 * kNormThreads;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * a.columns;
  const int64_t first = 4 * static_cast<int64_t>(threadIdx.x);
  float4 kept = make_float4(0.0f, 0.0f, 0.0f, 0.0f), weight = kept;
  if (first < a.columns) {
    kept = values_at<kAdd, kType, kAligned>(a, row, first);
    weight = weights_at<kAligned>(a, first);
  }
  const auto add_squares = [](float4 v, float sum) {
    return fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, sum))));
  };
  float squares = add_squares(kept, 0.0f);
  for (int64_t i = first + kStep; i < a.columns; i += kStep)
    squares = add_squares(values_at<kAdd, kType, kAligned>(a, row, i), squares);
  const float mean = block_sum(squares) / static_cast<float>(a.columns);
  const float factor = 1.0f / sqrtf(mean + a.epsilon);
  if (first < a.columns) write_normed<kAdd, kType, kAligned>(a, row, first, kept, weight, factor);
  for (int64_t i = first + kStep; i < a.columns; i += kStep)
    write_normed<kAdd, kType, kAligned>(a, row, i, values_at<kAdd, kType, kAligned>(a, row, i),
                                        weights_at<kAligned>(a, i), factor);
}

template <bool kAdd>
FERRUM_DEVICE void normalize_row(const NormArguments& a) {
  with_element_type(a.type, [&](auto type) {
    constexpr int kType = decltype(type)::value;
    if (a.aligned)
      normalize_row<kAdd, kType, true>(a);
    else
      normalize_row<kAdd, kType, false>(a);
  });
}

FERRUM_DEVICE void prefetch_weight(const NormArguments& a) {
  prefetch_bytes(a.weight, static_cast<size_t>(a.columns) * sizeof(float));
}

// Experts are compared by rank: a probability's bits, which as integers have its order, with one
// that is not a number below all others, and those that were taken below that.
constexpr uint32_t kTaken = 0, kNotANumber = 1;
FERRUM_DEVICE uint32_t rank_of(float probability) {
  return probability >= 0.0f ? float_to_bits(probability) + 2 : kNotANumber;
}
FERRUM_DEVICE float probability_of(uint32_t rank) {
  return bits_to_float(rank == kNotANumber ? 0x7fc00000u : rank - 2);
}

// Rank and expert in one number, whose largest is the best expert: of one rank, the lowest id.
FERRUM_DEVICE unsigned long long candidate(uint32_t rank, int64_t expert) {
  return static_cast<unsigned long long>(rank) << 32 |
         (0xffffffffu - static_cast<uint32_t>(expert));
}
FERRUM_DEVICE int32_t expert_of(unsigned long long best) {
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(best));
}
FERRUM_DEVICE unsigned long long larger(unsigned long long a, unsigned long long b) {
  return a > b ? a : b;
}
FERRUM_DEVICE unsigned long long warp_best(unsigned long long x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2)
    x = larger(x, __shfl_xor_sync(kWholeWarp, x, step));
  return x;
}

// One of `threads` threads that know the slots of a token, each of which writes its share. A thread
// keeps the probability of its last slot, most often its only one, and need not read it again.
struct Slots {
  float* weights;
  int32_t* chosen;
  int index, threads;
  float kept = 0.0f;

  FERRUM_DEVICE void take(int64_t slot, int32_t expert, float probability) {
    if (slot % threads != index) return;
    chosen[slot] = expert;
    weights[slot] = kept = probability;
  }
  FERRUM_DEVICE void scale(const RouteArguments& a, float sum) const {
    const bool usable = sum > 0.0f && sum < bits_to_float(0x7f800000u);
    const float equal = 1.0f / static_cast<float>(a.k);
    for (int64_t s = index; s < a.k; s += threads) {
      const float probability = s + threads < a.k ? weights[s] : kept;
      const float share = usable ? probability / sum : equal;
      weights[s] = (a.normalize ? share : probability) * a.scale;
    }
  }
};

// A token by one warp; lane l holds experts l, l + 32, ...
template <int kHeld>
FERRUM_DEVICE void route_by_warp(const RouteArguments& a) {
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kRouteWarps + warp_index();
  if (token >= a.tokens) return;
  const float* const logits = a.logits + token * a.experts;
  float p[kHeld];
  float most = bits_to_float(0xff800000u);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int e = i * kWarp + lane_index();
    p[i] = e < a.experts ? logits[e] : bits_to_float(0xff800000u);
    most = p[i] > most ? p[i] : most;
  }
  most = warp_max(most);
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    p[i] = expf(p[i] - most);
    sum += p[i];
  }
  sum = warp_sum(sum);
  uint32_t rank[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i)
    rank[i] = i * kWarp + lane_index() < a.experts ? rank_of(p[i] / sum) : kTaken;

  Slots slots{a.weights + token * a.k, a.chosen + token * a.k, lane_index(), kWarp};
  float taken = 0.0f;
  for (int64_t slot = 0; slot < a.k; ++slot) {
    uint32_t best = 0;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) best = max(best, rank[i]);
    best = warp_largest(best);
    // Of the experts of that rank the lowest id, which is the largest distance from the end.
    uint32_t distance = 0;
#pragma unroll
    for (int i = kHeld - 1; i >= 0; --i)
      if (rank[i] == best) distance = kHeld * kWarp - (i * kWarp + lane_index());
    const int expert = kHeld * kWarp - static_cast<int>(warp_largest(distance));
    const float probability = probability_of(best);
    taken += probability;
    slots.take(slot, expert, probability);
#pragma unroll
    for (int i = 0; i < kHeld; ++i)
      if (i * kWarp + lane_index() == expert) rank[i] = kTaken;
  }
  slots.scale(a, taken);
}

// The largest that any thread of a block has; `shared` has room for one of each warp.
FERRUM_DEVICE unsigned long long block_best(unsigned long long x, unsigned long long* shared) {
  x = warp_best(x);
  __syncthreads();  // what was read of `shared` before has been read
  if (lane_index() == 0) shared[warp_index()] = x;
  __syncthreads();
  for (int w = 0; w < kRouteAnyThreads / kWarp; ++w) x = larger(x, shared[w]);
  return x;
}

// The same of floats: the sum of all threads in order of warps, or the largest.
template <bool kSum>
FERRUM_DEVICE float block_float(float x, float* shared) {
  x = kSum ? warp_sum(x) : warp_max(x);
  __syncthreads();
  if (lane_index() == 0) shared[warp_index()] = x;
  __syncthreads();
  float all = shared[0];
  for (int w = 1; w < kRouteAnyThreads / kWarp; ++w)
    all = kSum ? all + shared[w] : (shared[w] > all ? shared[w] : all);
  return all;
}

}  // namespace

FERRUM_PREFETCHING_KERNEL(rms_norm, NormArguments, prefetch_weight, kNormThreads) {
  normalize_row<false>(a);
}
FERRUM_PREFETCHING_KERNEL(add_rms_norm, NormArguments, prefetch_weight, kNormThreads) {
  normalize_row<true>(a);
}

FERRUM_KERNEL(route_128, RouteArguments, kRouteThreads) { route_by_warp<4>(a); }
FERRUM_KERNEL(route_1024, RouteArguments, kRouteThreads) { route_by_warp<32>(a); }

// A token by one block, for any count of experts: their ranks lie in memory.
FERRUM_KERNEL(route_any, RouteArguments, kRouteAnyThreads) {
  FERRUM_SHARED float floats[kRouteAnyThreads / kWarp];
  FERRUM_SHARED unsigned long long bests[kRouteAnyThreads / kWarp];
  const int64_t token = blockIdx.x;
  const float* const logits = a.logits + token * a.experts;
  uint32_t* const ranks = a.ranks + token * a.experts;
  float most = bits_to_float(0xff800000u), sum = 0.0f, taken = 0.0f;
  for (int64_t e = threadIdx.x; e < a.experts; e += kRouteAnyThreads)
    most = logits[e] > most ? logits[e] : most;
  most = block_float<false>(most, floats);
  for (int64_t e = threadIdx.x; e < a.experts; e += kRouteAnyThreads) sum += expf(logits[e] - most);
  sum = block_float<true>(sum, floats);
  for (int64_t e = threadIdx.x; e < a.experts; e += kRouteAnyThreads)
    ranks[e] = rank_of(expf(logits[e] - most) / sum);

  Slots slots{a.weights + token * a.k, a.chosen + token * a.k, static_cast<int>(threadIdx.x),
              kRouteAnyThreads};
  for (int64_t slot = 0; slot < a.k; ++slot) {
    unsigned long long best = 0;
    for (int64_t e = threadIdx.x; e < a.experts; e += kRouteAnyThreads)
      best = larger(best, candidate(ranks[e], e));
    best = block_best(best, bests);
    const float probability = probability_of(static_cast<uint32_t>(best >> 32));
    taken += probability;
    const int32_t expert = expert_of(best);
    slots.take(slot, expert, probability);
    if (expert % kRouteAnyThreads == static_cast<int>(threadIdx.x)) ranks[expert] = kTaken;
  }
  slots.scale(a, taken);
}

}  // namespace ferrum::cuda
