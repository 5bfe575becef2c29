// Pairs of a step sorted by expert, on the device: a host would have to wait for the ids. And what
// follows the experts' products: SiLU, and the weighted sum of a token's slots.
#include "cuda/device.h"
#include "cuda/kernels/halves_codes.h"
#include "cuda/kernels/moe_arguments.h"
#include "cuda/kernels/round_row-inl.h"

namespace ferrum::cuda {
namespace {

constexpr int kAlignWarps = kAlignThreads / kWarp;

FERRUM_DEVICE int tiles_of(int count, int tile) { return (count + tile - 1) / tile; }

// Over the block; every thread gets the result.
FERRUM_DEVICE int block_sum(int x) {
  FERRUM_SHARED int of_warp[kAlignWarps];
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kWholeWarp, x, step);
  if (lane_index() == 0) of_warp[warp_index()] = x;
  __syncthreads();
  int sum = 0;
  for (int warp = 0; warp < kAlignWarps; ++warp) sum += of_warp[warp];
  return sum;
}

// The pairs of one warp: a range of them, so that warps in order go through pairs in order.
struct WarpPairs {
  int begin, end;
};
FERRUM_DEVICE WarpPairs pairs_of_warp(int pairs) {
  const int each = (pairs + kAlignThreads - 1) / kAlignThreads * kWarp;
  const int begin = warp_index() * each;
  return {begin, begin + each < pairs ? begin + each : pairs};
}

// Which of the pairs first .. first + 31 are the block's expert's; a bit each.
FERRUM_DEVICE uint32_t own_pairs(const AlignArguments& a, int first, int end) {
  const int pair = first + lane_index();
  const bool own = pair < end && a.ids[pair] == static_cast<int>(blockIdx.x);
  return __ballot_sync(kWholeWarp, own);
}

// Lanes of `valid` whose id is the lane's own; ids are below `ids`.
FERRUM_DEVICE uint32_t lanes_of_same_id(uint32_t valid, int id, int ids) {
  uint32_t same = valid;
  for (int bit = 0; (ids - 1) >> bit != 0; ++bit) {
    const bool set = id >> bit & 1;
    const uint32_t others = __ballot_sync(kWholeWarp, set);
    same &= set ? others : ~others;
  }
  return same;
}

// The sum over the threads before this one; kAlignThreads of them.
FERRUM_DEVICE int sum_before(int x) {
  FERRUM_SHARED int of_warp[kAlignWarps];
  int sum = x;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const int other = __shfl_up_sync(kWholeWarp, sum, step);
    if (lane_index() >= step) sum += other;
  }
  if (lane_index() == kWarp - 1) of_warp[warp_index()] = sum;
  __syncthreads();
  for (int warp = 0; warp < warp_index(); ++warp) sum += of_warp[warp];
  return sum - x;
}

// count_pairs and place_pairs in one block: thread i has pair i, and expert i.
FERRUM_DEVICE void align_in_block(const AlignArguments& a) {
  FERRUM_SHARED uint16_t counts[kAlignWarps][kAlignThreads];  // a warp's pairs of each expert
  FERRUM_SHARED int first[kAlignThreads];                     // position of each expert's first
  FERRUM_SHARED int all_tiles;
  const int i = static_cast<int>(threadIdx.x), warp = warp_index();
  const int id = i < a.pairs ? a.ids[i] : -1;  // on its way while the counts are cleared
#pragma unroll
  for (int w = 0; w < kAlignWarps; ++w) counts[w][i] = 0;
  __syncthreads();

  const bool exists = static_cast<uint32_t>(id) < static_cast<uint32_t>(a.experts);
  const uint32_t valid = __ballot_sync(kWholeWarp, exists);
  const uint32_t same = lanes_of_same_id(valid, id, a.experts);
  const int rank = __popc(same & ((1u << lane_index()) - 1));
  if (exists && rank == 0) counts[warp][id] = static_cast<uint16_t>(__popc(same));
  __syncthreads();

  int count = 0;  // of expert i
#pragma unroll
  for (int w = 0; w < kAlignWarps; ++w) {
    const int own = counts[w][i];
    counts[w][i] = static_cast<uint16_t>(count);
    count += own;
  }
  const int tiles = tiles_of(count, a.tile), before = sum_before(tiles);
  first[i] = before * a.tile;
  if (i == kAlignThreads - 1) all_tiles = before + tiles;
  for (int t = 0; t < tiles; ++t) a.tile_expert[before + t] = i;
  for (int p = count; p < tiles * a.tile; ++p) a.sorted[first[i] + p] = a.pairs;
  __syncthreads();
  for (int t = all_tiles + i; t < a.tiles; t += kAlignThreads) a.tile_expert[t] = -1;
  if (exists) a.sorted[first[id] + counts[warp][id] + rank] = i;
}

}  // namespace

FERRUM_KERNEL(align_and_round, AlignAndRoundArguments, kAlignThreads) {
  if (blockIdx.x == 0)
    align_in_block(a.align);
  else
    round_row(a.round, blockIdx.x - 1, kAlignThreads);
}

// A block per expert counts its pairs.
FERRUM_KERNEL(count_pairs, AlignArguments, kAlignThreads) {
  const int expert = static_cast<int>(blockIdx.x);
  int count = 0;
  for (int pair = static_cast<int>(threadIdx.x); pair < a.pairs; pair += kAlignThreads)
    count += a.ids[pair] == expert;
  count = block_sum(count);
  if (threadIdx.x == 0) a.counts[expert] = count;
}

// A block per expert writes its tiles: behind those of the experts before it, pairs in their order.
FERRUM_KERNEL(place_pairs, AlignArguments, kAlignThreads) {
  const int expert = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  int before = 0;
  for (int other = thread; other < expert; other += kAlignThreads)
    before += tiles_of(a.counts[other], a.tile);
  before = block_sum(before);

  const int count = a.counts[expert], tiles = tiles_of(count, a.tile);
  for (int i = thread; i < tiles; i += kAlignThreads) a.tile_expert[before + i] = expert;
  if (expert == a.experts - 1)
    for (int i = before + tiles + thread; i < a.tiles; i += kAlignThreads) a.tile_expert[i] = -1;
  int32_t* const sorted = a.sorted + static_cast<size_t>(before) * a.tile;
  for (int i = count + thread; i < tiles * a.tile; i += kAlignThreads) sorted[i] = a.pairs;
  if (count == 0) return;

  FERRUM_SHARED int of_warp[kAlignWarps];
  const WarpPairs range = pairs_of_warp(a.pairs);
  int found = 0;
  for (int first = range.begin; first < range.end; first += kWarp)
    found += __popc(own_pairs(a, first, range.end));
  if (lane_index() == 0) of_warp[warp_index()] = found;
  __syncthreads();
  int at = 0;
  for (int warp = 0; warp < warp_index(); ++warp) at += of_warp[warp];
  for (int first = range.begin; first < range.end; first += kWarp) {
    const uint32_t own = own_pairs(a, first, range.end), bit = 1u << lane_index();
    if (own & bit) sorted[at + __popc(own & (bit - 1))] = first + lane_index();
    at += __popc(own);
  }
}

// A block per position.
FERRUM_KERNEL(silu_rows, SiluArguments, kSiluThreads) {
  if (a.tile_expert[blockIdx.x / static_cast<unsigned>(a.tile)] < 0) return;
  const size_t in = static_cast<size_t>(blockIdx.x) * a.width;
  uint16_t* const out = a.hidden + static_cast<size_t>(blockIdx.x) * a.rows.stride;
  for (int i = static_cast<int>(threadIdx.x); i < a.rows.values; i += kSiluThreads) {
    uint32_t half = 0;
    if (i < a.width) half = to_finite_halves(silu(a.gate[in + i]) * a.up[in + i], 0.0f);
    out[paired_index(i)] = static_cast<uint16_t>(half);
    float sum = half_to_float(half & 0xffff);  // added up as GemmBlock::store_hidden does
    sum += __shfl_xor_sync(kWholeWarp, sum, 8);
#pragma unroll
    for (int step = 1; step < 8; step *= 2) sum += __shfl_xor_sync(kWholeWarp, sum, step);
    if (i % kMeanValues == 0) out[a.rows.values + mean_index(i / kMeanValues)] = half_mean(sum);
  }
}

namespace {

// Slots in groups whose loads are all on their way before the first is added: rows of pairs without
// an expert hold anything, but are there.
FERRUM_DEVICE float4 combine_slots(const CombineArguments& a, size_t first_pair, int column) {
  constexpr int kAtOnce = 8;
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 1
  for (int first = 0; first < a.slots; first += kAtOnce) {
    float4 v[kAtOnce];
    float weight[kAtOnce];
    int id[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const size_t pair = first_pair + min(first + i, a.slots - 1);
      v[i] = *reinterpret_cast<const float4*>(a.rows + pair * a.width + column);
      weight[i] = a.weights[pair];
      id[i] = a.ids[pair];
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const bool counts = first + i < a.slots;
      const bool exists = static_cast<uint32_t>(id[i]) < static_cast<uint32_t>(a.experts);
      const float w = exists ? weight[i] : bits_to_float(0x7fc00000);
      // A choice, not a branch, behind which the compiler would load.
      sum.x = counts ? fmaf(w, v[i].x, sum.x) : sum.x;
      sum.y = counts ? fmaf(w, v[i].y, sum.y) : sum.y;
      sum.z = counts ? fmaf(w, v[i].z, sum.z) : sum.z;
      sum.w = counts ? fmaf(w, v[i].w, sum.w) : sum.w;
    }
  }
  return sum;
}

}  // namespace

// A block per token and kCombineColumns columns, 4 a thread.
FERRUM_KERNEL(combine_pairs, CombineArguments, kCombineThreads, 8) {
  const size_t token = blockIdx.x;
  const int column =
      static_cast<int>(blockIdx.y) * kCombineColumns + 4 * static_cast<int>(threadIdx.x);
  if (column >= a.width) return;
  const size_t first_pair = token * a.slots;
  store_four(a.out, token * a.width + column, combine_slots(a, first_pair, column));
}

}  // namespace ferrum::cuda
