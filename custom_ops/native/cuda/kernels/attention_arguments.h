// What the kernels of PagedAttention are launched with.
#pragma once

#include <cstdint>

#include "cuda/elements.h"

namespace ferrum::cuda {

// Of a token: its sequence, and its position there; -1 where the sequence cannot be served.
struct alignas(8) Place {
  int32_t sequence, position;
};

// The cache [blocks, block_size, kv_heads, head_dim], and the sequences that own its blocks. All
// slots together can be counted in 31 bits.
struct PagedCache {
  uint8_t* keys;
  uint8_t* values;
  int type;  // ggml id of F32, F16 or BF16
  int32_t blocks, block_size, kv_heads, head_dim;
  int64_t tokens;  // of the step
  int64_t sequences, columns;
  const int32_t* cumulative;  // [sequences + 1]
  const int32_t* past;        // [sequences]
  const int32_t* table;       // [sequences, columns]
};

// The step's heads as they come from the projections, and what turns them.
struct Heads {
  ConstElements q;        // [tokens, heads * head_dim]
  ConstElements k;        // [tokens, kv_heads * head_dim]
  ConstElements v;        // the same
  const float* q_norm;    // [head_dim]
  const float* k_norm;    // [head_dim]
  const float* inv_freq;  // [head_dim / 2]
  float scale, epsilon, rope_scale;
};

constexpr int kRotateWarps = 8;  // of a block
constexpr int kRotateThreads = 32 * kRotateWarps;

struct RotateArguments {
  PagedCache cache;
  int heads;
  int warps;  // of a token: warp i has heads i, i + warps, ... of q, then k and v of each key head
  Heads from;
  Place* places;   // [tokens]
  float* queries;  // [tokens, heads * head_dim] normalized, rotated, scaled
  Elements out;    // [tokens, heads * head_dim]; NaN where a token has no position
};

// Decoding: a token's positions are cut into chunks, a block each, so that one token over a long
// context keeps the whole GPU busy. What fits into one long chunk is one: then no block waits for
// another.
constexpr int kLongChunk = 512;  // positions
constexpr int kMostChunks = 64;  // of a token; a longer one has longer chunks
constexpr int kUnitHeads = 8;    // most query heads of a block, all of one key head: a unit
constexpr int kDecodeThreads = 256;
constexpr int kDecodeAnyThreads = 128;
constexpr int kMergeThreads = 512;
// Tokens of a step, each of a sequence's own, that go through attention in one launch.
constexpr int kMostStepTokens = 64;

struct DecodeArguments {
  PagedCache cache;
  int heads, group;  // group: query heads of a key head
  int unit_heads;    // at most kUnitHeads
  int units;         // of a token
  int chunk;         // positions, or a multiple of it where kMostChunks would not do
  int chunks;        // most of a token
  bool single;       // block z has sequence first + z, if that has one token, else token
                     // first + z
  int64_t first;
  Heads from;            // of attention_decode_step_*
  const float* queries;  // [tokens, heads * head_dim], of the others
  Place* places;         // [tokens]; attention_decode_step_* writes it, the others read it
  // [grid.z, units, chunks, partial_floats]: of a unit over one chunk, maximum and sum of
  // exponentials [kUnitHeads] each, and the weighted values [kUnitHeads, head_dim].
  float* partials;
  int64_t partial_floats;
  Elements out;  // [tokens, heads * head_dim]
};

// Prefill: a block has the neighbouring tokens of a sequence that make `rows` query rows, all heads
// of a key head each, and walks over its positions in tiles.
constexpr int kTilePositions = 64;

struct PrefillArguments {
  PagedCache cache;
  int heads, group;
  int tile_tokens;       // rows / group
  bool skip_single;      // leaves sequences of one token to the decoding kernel
  const float* queries;  // [tokens, heads * head_dim]
  const Place* places;   // [tokens]
  Elements out;          // [tokens, heads * head_dim]
};

// Of keys and values in shared memory, float16: rows lie apart by 16 bytes more than they have, so
// that neighbouring rows lie in different banks.
constexpr int kRowPadding = 8;

}  // namespace ferrum::cuda
