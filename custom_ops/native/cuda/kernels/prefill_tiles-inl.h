// Tiles of keys and values on their way from the paged cache to shared memory, as float16.
#pragma once

#include "cuda/kernels/paged_cache-inl.h"

namespace ferrum::cuda {
namespace {

constexpr int kUnseen = -2;  // a position that no token of the block sees

// A tile holds positions at absolute places, tile * kTilePositions on: so a token meets the same
// tiles in any batch. Two of them take turns: one is multiplied while the other arrives.
template <int kDim>
struct alignas(16) Tiles {
  uint16_t keys[2][kTilePositions][kDim + kRowPadding];
  uint16_t values[2][kTilePositions][kDim + kRowPadding];
  int slots[2][kTilePositions];  // of positions; kNoSlot or kUnseen
};

template <int kDim, int kThreads>
struct TileLoader {
  const PagedCache& cache;
  Tiles<kDim>& tiles;
  int sequence;
  int kv_head;
  int length;  // positions that the last token sees

  // A thread's block of a tile, to be loaded long before it is needed, and its slot from that.
  FERRUM_DEVICE int32_t find_block(int tile) const {
    const int i = static_cast<int>(threadIdx.x), position = tile * kTilePositions + i;
    const bool seen = i < kTilePositions && position < length;
    return seen ? block_of(cache, sequence, position) : kNoSlot;
  }
  FERRUM_DEVICE void keep_slot(int tile, int32_t block) const {
    const int i = static_cast<int>(threadIdx.x), position = tile * kTilePositions + i;
    if (i >= kTilePositions) return;
    tiles.slots[tile % 2][i] = position < length ? slot_in(cache, block, position) : kUnseen;
  }

  // Eight neighbours of a slot's row. What is not there must still be a number in the values, for
  // it is multiplied with a probability of 0; the keys of a slot that should be there are not
  // numbers, and so is the output of every token that sees it.
  FERRUM_DEVICE void load_eight(int slot, int d, uint16_t* key, uint16_t* value) const {
    if (slot < 0) {
      const uint32_t pair = slot == kNoSlot ? 0x7e007e00u : 0;
      *reinterpret_cast<uint4*>(key) = make_uint4(pair, pair, pair, pair);
      *reinterpret_cast<uint4*>(value) = make_uint4(0, 0, 0, 0);
      return;
    }
    const size_t at = element_of(cache, slot, kv_head) + d;
    if (cache.type == kF16) {
      copy_16(key, cache.keys + 2 * at);
      copy_16(value, cache.values + 2 * at);
      return;
    }
    *reinterpret_cast<uint4*>(key) = halves_at(cache.keys, at);
    *reinterpret_cast<uint4*>(value) = halves_at(cache.values, at);
  }

  // Eight elements of bfloat16 or float32.
  FERRUM_DEVICE uint4 halves_at(const uint8_t* elements, size_t i) const {
    if (cache.type == kBF16)
      return halves_of_bfloat16s(*reinterpret_cast<const uint4*>(elements + 2 * i));
    const float4 x = *reinterpret_cast<const float4*>(elements + 4 * i);
    const float4 y = *reinterpret_cast<const float4*>(elements + 4 * i + 16);
    return make_uint4(to_halves(x.x, x.y), to_halves(x.z, x.w), to_halves(y.x, y.y),
                      to_halves(y.z, y.w));
  }

  // Begins to load a tile whose slots the block has found.
  FERRUM_DEVICE void load(int tile) const {
    constexpr int kPieces = kDim / 8;  // of 16 bytes in a row
    const int buffer = tile % 2;
    for (int i = static_cast<int>(threadIdx.x); i < kTilePositions * kPieces; i += kThreads) {
      const int row = i / kPieces, d = i % kPieces * 8;
      load_eight(tiles.slots[buffer][row], d, &tiles.keys[buffer][row][d],
                 &tiles.values[buffer][row][d]);
    }
    commit_copies();
  }
};

}  // namespace
}  // namespace ferrum::cuda
