// PagedAttention's second part for many tokens, on tensor cores.
//
// A block has neighbouring tokens of one sequence and all query heads of one key head: query row i
// is head i % group of token i / group. A warp has 16 rows. It walks over the sequence's positions
// in tiles of 64, with an online softmax in float32 between two products:
//
//   scores [16, 64]   = queries [16, dims] keys [64, dims]^T
//   values [16, dims] += probabilities [16, 64] values [64, dims]
//
// The scores' registers, two and two as float16, are the second product's left operand as they lie.
// Of every register array below, a lane holds rows lane / 4 (the first half of the registers) and
// 8 further (the second half), as mma_f16 says.
#include "cuda/kernels/prefill_tiles-inl.h"

namespace ferrum::cuda {
namespace {

constexpr int kWarpRows = 16;

// The tokens of a block.
struct QueryTile {
  int sequence, first;
  int kv_head;
  int position;  // of the first token
  int length;    // positions that the last token sees; 0 where the block has nothing to do

  FERRUM_DEVICE int tokens() const { return length - position; }
};

// Sequence b has tiles cumulative[b] / tile_tokens + b on: more numbers than it has tiles, but they
// can be told without a sum over the sequences before it.
FERRUM_DEVICE int64_t first_tile(const PrefillArguments& a, int64_t b) {
  return a.cache.cumulative[b] / a.tile_tokens + b;
}

FERRUM_DEVICE QueryTile tile_of_block(const PrefillArguments& a) {
  const int64_t kv_heads = a.cache.kv_heads;
  // The last tokens of a sequence see the most: they go first, so that blocks end together.
  const int64_t tile = gridDim.x / kv_heads - 1 - blockIdx.x / kv_heads;
  int64_t low = 0, high = a.cache.sequences;  // first_tile(low) <= tile < first_tile(high)
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (first_tile(a, middle) <= tile)
      low = middle;
    else
      high = middle;
  }
  const int64_t start = a.cache.cumulative[low], end = a.cache.cumulative[low + 1];
  const int64_t first = start + (tile - first_tile(a, low)) * a.tile_tokens;
  QueryTile none{};
  // The lengths may be wrong, and then no token has a place; but its place must be there to see it.
  if (first < 0 || first >= end || first >= a.cache.tokens) return none;
  if (a.skip_single && end - start == 1) return none;
  const Place place = a.places[first];
  if (place.position < 0) return none;
  const int tokens = static_cast<int>(min(end - first, static_cast<int64_t>(a.tile_tokens)));
  return {static_cast<int>(low), static_cast<int>(first), static_cast<int>(blockIdx.x % kv_heads),
          place.position, place.position + tokens};
}

// A query row of a block; rows beyond the last repeat it, and are not written.
struct Row {
  int64_t at;    // of its head, in queries and output
  int position;  // of its token
  bool exists;
};
FERRUM_DEVICE Row row_of(const PrefillArguments& a, const QueryTile& tile, int index) {
  const int last = tile.tokens() * a.group - 1, i = min(index, last);
  const int token = i / a.group, head = tile.kv_head * a.group + i % a.group;
  const int64_t at = (static_cast<int64_t>(tile.first + token) * a.heads + head) * a.cache.head_dim;
  return {at, tile.position + token, index <= last};
}

// Of a query, times log2 e: scores then are exponents of 2, as the GPU takes them.
FERRUM_DEVICE uint32_t load_pair(const float* p) {
  constexpr float kLog2E = 1.4426950408889634f;
  const float2 v = *reinterpret_cast<const float2*>(p);
  return to_halves(v.x * kLog2E, v.y * kLog2E);
}

template <int kDim>
struct WarpRows {
  int positions[2];  // of the rows' tokens
  uint32_t queries[kDim / 16][4];
  float values[kDim / 8][4];
  float most[2], sum[2];  // sum: of this lane's positions

  // The lane's row r of the block.
  static FERRUM_DEVICE Row row(const PrefillArguments& a, const QueryTile& tile, int r) {
    return row_of(a, tile, warp_index() * kWarpRows + lane_index() / 4 + 8 * r);
  }

  FERRUM_DEVICE void begin(const PrefillArguments& a, const QueryTile& tile) {
    const int column = lane_index() % 4;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const Row query = row(a, tile, r);
      positions[r] = query.position;
      most[r] = minus_infinity();
      sum[r] = 0.0f;
#pragma unroll
      for (int s = 0; s < kDim / 16; ++s) {
        const float* const from = a.queries + query.at + 16 * s + 2 * column;
        queries[s][r] = load_pair(from);
        queries[s][2 + r] = load_pair(from + 8);
      }
#pragma unroll
      for (int t = 0; t < kDim / 8; ++t) values[t][2 * r] = values[t][2 * r + 1] = 0.0f;
    }
  }

  FERRUM_DEVICE void multiply_keys(const uint16_t (&keys)[kTilePositions][kDim + kRowPadding],
                                   float (&scores)[kTilePositions / 8][4]) const {
    const int matrix = lane_index() / 8, within = lane_index() % 8;
#pragma unroll
    for (int t = 0; t < kTilePositions / 8; ++t)
      scores[t][0] = scores[t][1] = scores[t][2] = scores[t][3] = 0.0f;
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
#pragma unroll
      for (int t = 0; t < kTilePositions / 8; t += 2) {
        uint32_t b[4];  // (tile t, dims 0-7), (t, 8-15), (t + 1, 0-7), (t + 1, 8-15)
        load_matrices(b, &keys[8 * (t + matrix / 2) + within][16 * s + matrix % 2 * 8]);
        mma_f16(scores[t], queries[s], {b[0], b[1]});
        mma_f16(scores[t + 1], queries[s], {b[2], b[3]});
      }
    }
  }

  // Hides from each row the positions after its own, in a tile that begins at `begin`.
  FERRUM_DEVICE void mask(int begin, float (&scores)[kTilePositions / 8][4]) const {
#pragma unroll
    for (int t = 0; t < kTilePositions / 8; ++t) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int position = begin + 8 * t + 2 * (lane_index() % 4) + i % 2;
        if (position > positions[i / 2]) scores[t][i] = minus_infinity();
      }
    }
  }

  // The online softmax: scores become probabilities, and what was gathered before shrinks to the
  // new maximum.
  FERRUM_DEVICE void take_probabilities(float (&scores)[kTilePositions / 8][4]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float now = most[r];
#pragma unroll
      for (int t = 0; t < kTilePositions / 8; ++t) {
        now = scores[t][2 * r] > now ? scores[t][2 * r] : now;
        now = scores[t][2 * r + 1] > now ? scores[t][2 * r + 1] : now;
      }
      now = quad_max(now);
      const float keep = share_of_2(most[r], now);
      most[r] = now;
      sum[r] *= keep;
#pragma unroll
      for (int t = 0; t < kTilePositions / 8; ++t) {
        scores[t][2 * r] = fast_exp2(scores[t][2 * r] - now);
        scores[t][2 * r + 1] = fast_exp2(scores[t][2 * r + 1] - now);
        sum[r] += scores[t][2 * r] + scores[t][2 * r + 1];
      }
#pragma unroll
      for (int t = 0; t < kDim / 8; ++t) {
        values[t][2 * r] *= keep;
        values[t][2 * r + 1] *= keep;
      }
    }
  }

  FERRUM_DEVICE void add_values(const uint16_t (&tile)[kTilePositions][kDim + kRowPadding],
                                const float (&p)[kTilePositions / 8][4]) {
    const int matrix = lane_index() / 8, within = lane_index() % 8;
#pragma unroll
    for (int s = 0; s < kTilePositions / 16; ++s) {
      const float (&low)[4] = p[2 * s];
      const float (&high)[4] = p[2 * s + 1];
      const uint32_t a[4] = {to_halves(low[0], low[1]), to_halves(low[2], low[3]),
                             to_halves(high[0], high[1]), to_halves(high[2], high[3])};
#pragma unroll
      for (int t = 0; t < kDim / 8; t += 2) {
        uint32_t b[4];  // (positions 0-7, tile t), (8-15, t), (0-7, t + 1), (8-15, t + 1)
        load_matrices_transposed(b, &tile[16 * s + matrix % 2 * 8 + within][8 * (t + matrix / 2)]);
        mma_f16(values[t], a, {b[0], b[1]});
        mma_f16(values[t + 1], a, {b[2], b[3]});
      }
    }
  }

  FERRUM_DEVICE void write(const PrefillArguments& a, const QueryTile& tile) const {
    with_element_type(a.out.type, [&](auto type) { write_as<decltype(type)::value>(a, tile); });
  }

  template <int kType>
  FERRUM_DEVICE void write_as(const PrefillArguments& a, const QueryTile& tile) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float share = 1.0f / quad_sum(sum[r]);
      const Row query = row(a, tile, r);
      if (!query.exists) continue;
      const int64_t at = query.at + 2 * (lane_index() % 4);
#pragma unroll
      for (int t = 0; t < kDim / 8; ++t)
        store_two({a.out.data, kType}, at + 8 * t, values[t][2 * r] * share,
                  values[t][2 * r + 1] * share);
    }
  }
};

template <int kDim, int kThreads>
FERRUM_DEVICE void prefill(const PrefillArguments& a) {
  const QueryTile tile = tile_of_block(a);
  if (tile.length == 0) return;
  // As the host asks for it: prefill_shared of ops/attention.cc.
  static_assert(sizeof(Tiles<kDim>) == 2 * kTilePositions * (4 * (kDim + kRowPadding) + 4), "");
  Tiles<kDim>& tiles = *dynamic_shared<Tiles<kDim>>();
  const int count = (tile.length + kTilePositions - 1) / kTilePositions;
  const TileLoader<kDim, kThreads> loader{a.cache, tiles, tile.sequence, tile.kv_head, tile.length};
  loader.keep_slot(0, loader.find_block(0));
  loader.keep_slot(1, loader.find_block(1));
  __syncthreads();
  loader.load(0);
  WarpRows<kDim> warp;
  warp.begin(a, tile);
  for (int i = 0; i < count; ++i) {
    wait_for_copies<0>();
    __syncthreads();  // tile i is there, and nobody reads what tile i - 1 leaves to tile i + 1
    if (i + 1 < count) loader.load(i + 1);
    const int32_t block = loader.find_block(i + 2);
    float scores[kTilePositions / 8][4];
    warp.multiply_keys(tiles.keys[i % 2], scores);
    if ((i + 1) * kTilePositions > tile.position) warp.mask(i * kTilePositions, scores);
    warp.take_probabilities(scores);
    warp.add_values(tiles.values[i % 2], scores);
    loader.keep_slot(i + 2, block);
  }
  warp.write(a, tile);
}

}  // namespace

// Blocks of 4 warps have registers for three on a multiprocessor.
#define FERRUM_PREFILL(dim)                                                   \
  FERRUM_KERNEL(attention_prefill_##dim##_rows64, PrefillArguments, 128, 3) { \
    prefill<dim, 128>(a);                                                     \
  }                                                                           \
  FERRUM_KERNEL(attention_prefill_##dim##_rows128, PrefillArguments, 256) { prefill<dim, 256>(a); }
FERRUM_PREFILL(64)
FERRUM_PREFILL(80)
FERRUM_PREFILL(96)
FERRUM_PREFILL(128)
#undef FERRUM_PREFILL

}  // namespace ferrum::cuda
