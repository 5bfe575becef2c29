// A chunk of positions for one unit of eight query heads on tensor cores, for float16 and bfloat16
// caches with a head_dim of whole 64s.
//
// A warp takes 16 positions at a time and holds all of them at once, so that a short context costs
// one way to memory. mma_f16 wants 16 rows, and there are 8 heads: rows 8 to 15 are what rounding
// the upper ones to float16 has lost, so that queries and probabilities count with 22 bits.
//
//   scores [heads, positions] = queries [heads, dims] keys [positions, dims]^T
//   values [heads, dims]     += probabilities [heads, positions] values [positions, dims]
//
// Sums over dims may take them in any order and columns of the result may stand in any, so each
// lane loads 16 bytes of a row, as they lie in the cache, and uses them where they fall. With row =
// lane / 4 and column = lane % 4, it loads
//   keys    of position `row` of each eight: dims 32 j + 8 column ..+7, two mma's worth
//   values  of positions 2 column, 2 column + 1, 8 + 2 column and 9 + 2 column: dims 64 j + 8 row
//           ..+7, the t-th for column `row` of tile (j, t): so column n of a tile is dim
//           64 j + 8 n + t
#pragma once

#include "cuda/kernels/decode_heads-inl.h"

namespace ferrum::cuda {
namespace {

constexpr int kDecodeWarps = kDecodeThreads / kWarp;
constexpr int kWarpPositions = 16;

// What a warp has gathered for head `row`; the upper and the lower rows are two parts of one sum.
template <int kDim>
struct Gathered {
  float most, sum;            // sum: of this lane's positions
  float values[kDim / 8][4];  // tiles (j, t) of eight dims
};

template <bool kBfloat16>
FERRUM_DEVICE uint4 load_eight(const uint8_t* elements, size_t i, bool exists) {
  if (!exists) return make_uint4(0, 0, 0, 0);
  const uint4 v = *reinterpret_cast<const uint4*>(elements + 2 * i);
  return kBfloat16 ? halves_of_bfloat16s(v) : v;
}

// Scores of positions begin + (2 column, 2 column + 1, 8 + 2 column, 9 + 2 column).
template <int kDim>
FERRUM_DEVICE void score(const UnitHeads<kDim>& heads, const uint4 (&keys)[2][kDim / 32],
                         float (&scores)[4]) {
  const int row = lane_index() / 4, column = lane_index() % 4;
  float d[2][4] = {};
#pragma unroll
  for (int j = 0; j < kDim / 32; ++j) {
    const uint4 upper = *reinterpret_cast<const uint4*>(&heads.upper[row][32 * j + 8 * column]);
    const uint4 rest = *reinterpret_cast<const uint4*>(&heads.rest[row][32 * j + 8 * column]);
#pragma unroll
    for (int g = 0; g < 2; ++g) {
      mma_f16(d[g], {upper.x, rest.x, upper.y, rest.y}, {keys[g][j].x, keys[g][j].y});
      mma_f16(d[g], {upper.z, rest.z, upper.w, rest.w}, {keys[g][j].z, keys[g][j].w});
    }
  }
#pragma unroll
  for (int g = 0; g < 2; ++g) {
    scores[2 * g] = d[g][0] + d[g][2];
    scores[2 * g + 1] = d[g][1] + d[g][3];
  }
}

// The online softmax: scores become probabilities, as mma_f16's a, and what was gathered before
// shrinks to the new maximum.
template <int kDim>
FERRUM_DEVICE void take_probabilities(float (&scores)[4], Gathered<kDim>& gathered,
                                      uint32_t (&a)[4]) {
  float most = gathered.most;
#pragma unroll
  for (int i = 0; i < 4; ++i) most = scores[i] > most ? scores[i] : most;
  most = quad_max(most);
  const float keep = share_of(gathered.most, most);
  gathered.most = most;
  gathered.sum *= keep;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    scores[i] = fast_exp(scores[i] - most);
    gathered.sum += scores[i];
  }
#pragma unroll
  for (int t = 0; t < kDim / 8; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) gathered.values[t][i] *= keep;
  }
  const Halves lower = split(scores[0], scores[1]), upper = split(scores[2], scores[3]);
  a[0] = lower.upper;
  a[1] = lower.rest;
  a[2] = upper.upper;
  a[3] = upper.rest;
}

// The lower, or the upper, halves of two registers.
FERRUM_DEVICE uint32_t lower_halves(uint32_t x, uint32_t y) { return __byte_perm(x, y, 0x5410); }
FERRUM_DEVICE uint32_t upper_halves(uint32_t x, uint32_t y) { return __byte_perm(x, y, 0x7632); }

// Tiles 2 i and 2 i + 1 of 64 dims, from the i-th registers of four positions.
FERRUM_DEVICE void add_tiles(float (*tiles)[4], const uint32_t (&a)[4], uint32_t v0, uint32_t v1,
                             uint32_t v2, uint32_t v3) {
  mma_f16(tiles[0], a, {lower_halves(v0, v1), lower_halves(v2, v3)});
  mma_f16(tiles[1], a, {upper_halves(v0, v1), upper_halves(v2, v3)});
}

// A warp's 16 positions, begin on, as far as they lie below `end`: on their way from the cache to
// registers, and then what they give.
template <int kDim, bool kBfloat16>
struct Positions {
  int begin = -1, end = 0;
  int foreseen = -1;  // the positions whose blocks were looked up ahead of their time
  int32_t block = 0;
  int own_slot = kNoSlot;  // of position begin + lane % 16
  uint4 keys[2][kDim / 32], values[4][kDim / 64];

  // The position of a lane's g-th key, and of its i-th value and score.
  static FERRUM_DEVICE int key_index(int g) { return 8 * g + lane_index() / 4; }
  static FERRUM_DEVICE int value_index(int i) { return i / 2 * 8 + lane_index() % 4 * 2 + i % 2; }

  FERRUM_DEVICE void foresee(const PagedCache& cache, int64_t sequence, int first, int64_t bound) {
    const int own = first + lane_index() % kWarpPositions;
    foreseen = first;
    block = own < bound ? block_of(cache, sequence, own) : kNoSlot;
  }

  // `latest` is a position that the cache does not have yet, or -1.
  FERRUM_DEVICE void load(const DecodeArguments& a, const DecodeUnit& unit, int first, int behind,
                          int latest) {
    const int row = lane_index() / 4, column = lane_index() % 4;
    if (foreseen != first) foresee(a.cache, unit.sequence, first, behind);
    begin = first;
    end = behind;
    const int own = begin + lane_index() % kWarpPositions;
    own_slot = own < end ? slot_in(a.cache, block, own) : kNoSlot;
#pragma unroll
    for (int g = 0; g < 2; ++g) {
      const int slot = __shfl_sync(kWholeWarp, own_slot, key_index(g));
      const bool exists = slot != kNoSlot && begin + key_index(g) != latest;
      const size_t key = element_of(a.cache, slot, unit.kv_head) + 8 * column;
#pragma unroll
      for (int j = 0; j < kDim / 32; ++j)
        keys[g][j] = load_eight<kBfloat16>(a.cache.keys, key + 32 * j, exists);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int slot = __shfl_sync(kWholeWarp, own_slot, value_index(i));
      const bool exists = slot != kNoSlot && begin + value_index(i) != latest;
      const size_t value = element_of(a.cache, slot, unit.kv_head) + 8 * row;
#pragma unroll
      for (int j = 0; j < kDim / 64; ++j)
        values[i][j] = load_eight<kBfloat16>(a.cache.values, value + 64 * j, exists);
    }
    const int next = first + kWarpPositions * kDecodeWarps;
    if (next < behind) foresee(a.cache, unit.sequence, next, behind);
  }

  // Puts the new key and value where the cache had none.
  FERRUM_DEVICE void replace(const UnitHeads<kDim>& heads, int latest) {
    const int row = lane_index() / 4, column = lane_index() % 4;
    const auto* const key = reinterpret_cast<const uint8_t*>(heads.key);
    const auto* const value = reinterpret_cast<const uint8_t*>(heads.value);
#pragma unroll
    for (int g = 0; g < 2; ++g) {
      if (begin + key_index(g) != latest) continue;
#pragma unroll
      for (int j = 0; j < kDim / 32; ++j)
        keys[g][j] = load_eight<kBfloat16>(key, 8 * column + 32 * j, true);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (begin + value_index(i) != latest) continue;
#pragma unroll
      for (int j = 0; j < kDim / 64; ++j)
        values[i][j] = load_eight<kBfloat16>(value, 8 * row + 64 * j, true);
    }
  }

  FERRUM_DEVICE void use(const UnitHeads<kDim>& heads, Gathered<kDim>& gathered) const {
    float scores[4];
    score(heads, keys, scores);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (__shfl_sync(kWholeWarp, own_slot, value_index(i)) == kNoSlot)
        scores[i] = begin + value_index(i) < end ? not_a_number() : minus_infinity();
    }
    uint32_t p[4];
    take_probabilities(scores, gathered, p);
#pragma unroll
    for (int j = 0; j < kDim / 64; ++j) {
      const uint4 &v0 = values[0][j], &v1 = values[1][j], &v2 = values[2][j], &v3 = values[3][j];
      add_tiles(gathered.values + 8 * j, p, v0.x, v1.x, v2.x, v3.x);
      add_tiles(gathered.values + 8 * j + 2, p, v0.y, v1.y, v2.y, v3.y);
      add_tiles(gathered.values + 8 * j + 4, p, v0.z, v1.z, v2.z, v3.z);
      add_tiles(gathered.values + 8 * j + 6, p, v0.w, v1.w, v2.w, v3.w);
    }
  }
};

// What the warps of a block have gathered. Values stand in order of tiles, (j, t, n); rows lie
// apart by 8 floats more, so that a warp's rows lie in different banks.
template <int kDim>
struct alignas(16) WarpPartials {  // values are stored in pairs
  float most[kDecodeWarps][kUnitHeads], sum[kDecodeWarps][kUnitHeads];
  float values[kDecodeWarps][kUnitHeads][kDim + 8];

  FERRUM_DEVICE void put(const Gathered<kDim>& gathered) {
    const int row = lane_index() / 4, column = lane_index() % 4, warp = warp_index();
    const float total = quad_sum(gathered.sum);
    if (column == 0) {
      most[warp][row] = gathered.most;
      sum[warp][row] = total;
    }
#pragma unroll
    for (int t = 0; t < kDim / 8; ++t)
      *reinterpret_cast<float2*>(&values[warp][row][8 * t + 2 * column]) =
          make_float2(gathered.values[t][0] + gathered.values[t][2],
                      gathered.values[t][1] + gathered.values[t][3]);
  }

  // Merges them in order of warps and writes the chunk.
  FERRUM_DEVICE void merge(const DecodeArguments& a, const DecodeUnit& unit, int chunk) const {
    constexpr int kShare = kDecodeThreads / kUnitHeads;  // threads of a head: a warp
    const int head = static_cast<int>(threadIdx.x) / kShare;
    if (head >= unit.heads) return;
    float all = minus_infinity(), total = 0.0f;
    for (int w = 0; w < kDecodeWarps; ++w) all = most[w][head] > all ? most[w][head] : all;
    float shares[kDecodeWarps];
#pragma unroll
    for (int w = 0; w < kDecodeWarps; ++w) {
      shares[w] = share_of(most[w][head], all);
      total = fmaf(shares[w], sum[w][head], total);
    }
    for (int d = static_cast<int>(threadIdx.x) % kShare; d < kDim; d += kShare) {
      const int at = d / 64 * 64 + d % 8 * 8 + d / 8 % 8;
      float value = 0.0f;
#pragma unroll
      for (int w = 0; w < kDecodeWarps; ++w) value = fmaf(shares[w], values[w][head][at], value);
      write_value(a, unit, chunk, head, d, all, total, value);
    }
  }
};

// The block's chunks. Its warps' first positions are loaded before it puts its heads into shared
// memory, so that both take their time at once; once all are there, they are loaded anew if
// `changes_cache` says so.
template <int kDim, bool kBfloat16, class Put, class Change>
FERRUM_DEVICE void take_chunks(const DecodeArguments& a, const DecodeUnit& unit, int latest,
                               Positions<kDim, kBfloat16>& positions, Put put_heads,
                               Change changes_cache) {
  FERRUM_SHARED WarpPartials<kDim> partials;
  FERRUM_SHARED UnitHeads<kDim> heads;
  const int own = kWarpPositions * warp_index(), part = static_cast<int>(blockIdx.x);
  if (unit.begin(part) + own < unit.end(part))
    positions.load(a, unit, unit.begin(part) + own, unit.end(part), latest);
  put_heads(heads);
  __syncthreads();
  if (changes_cache()) positions.begin = -1;
  for (int c = part; c < unit.chunks; c += static_cast<int>(gridDim.x)) {
    Gathered<kDim> gathered{};
    gathered.most = minus_infinity();
    const int end = unit.end(c);
    for (int begin = unit.begin(c) + own; begin < end; begin += kWarpPositions * kDecodeWarps) {
      if (positions.begin != begin) positions.load(a, unit, begin, end, latest);
      if (begin <= latest && latest < begin + kWarpPositions) positions.replace(heads, latest);
      positions.use(heads, gathered);
    }
    partials.put(gathered);
    __syncthreads();
    partials.merge(a, unit, c);
    __syncthreads();
  }
}

// Asks for the keys and values of a chunk's first positions, a position each thread: where they lie
// follows from the step's inputs, which are there before the kernels in front are done. Were they
// not, or were the token not its sequence's only one, other positions would be asked for.
template <int kDim>
FERRUM_DEVICE void prefetch_positions(const DecodeArguments& a) {
  const int64_t sequence = a.first + blockIdx.z;
  if (sequence >= a.cache.sequences) return;
  const int32_t past = a.cache.past[sequence];
  if (past >= a.cache.columns * a.cache.block_size) return;  // no place, so that nothing is read
  DecodeUnit unit = unit_of_block(a);
  find_chunks(a, sequence, {static_cast<int32_t>(sequence), past}, unit);
  const int part = static_cast<int>(blockIdx.x);
  if (part >= unit.chunks) return;
  const int position = unit.begin(part) + static_cast<int>(threadIdx.x);
  if (position >= unit.end(part)) return;
  const int slot = slot_of(a.cache, sequence, position);
  if (slot == kNoSlot) return;
  const size_t at = 2 * element_of(a.cache, slot, unit.kv_head);
#pragma unroll
  for (int line = 0; line < 2 * kDim; line += 128) {
    prefetch(a.cache.keys + at + line);
    prefetch(a.cache.values + at + line);
  }
}

template <int kDim, bool kBfloat16>
FERRUM_DEVICE void decode_tensor(const DecodeArguments& a) {
  const DecodeUnit unit = placed_unit_of_block(a);
  if (static_cast<int>(blockIdx.x) >= unit.chunks) return;
  Positions<kDim, kBfloat16> positions;
  take_chunks(
      a, unit, -1, positions, [&](UnitHeads<kDim>& heads) { heads.load(a, unit); },
      [] { return false; });
}

}  // namespace
}  // namespace ferrum::cuda
