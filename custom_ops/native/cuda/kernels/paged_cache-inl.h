// Where a position lies in the paged cache, and what lies there.
#pragma once

#include "cuda/kernels/attention_arguments.h"
#include "cuda/kernels/elements-inl.h"
#include "cuda/kernels/softmax-inl.h"
#include "quants.h"

namespace ferrum::cuda {
namespace {

constexpr int kNoSlot = -1;  // the table names no block of the cache

// The table's block for a position below columns * block_size.
FERRUM_DEVICE int32_t block_of(const PagedCache& cache, int64_t sequence, int position) {
  const uint32_t column = static_cast<uint32_t>(position) / static_cast<uint32_t>(cache.block_size);
  return cache.table[sequence * cache.columns + column];
}

// The slot of a position in its block, counted through all blocks.
FERRUM_DEVICE int slot_in(const PagedCache& cache, int32_t block, int position) {
  if (block < 0 || block >= cache.blocks) return kNoSlot;
  const uint32_t within = static_cast<uint32_t>(position) % static_cast<uint32_t>(cache.block_size);
  return block * cache.block_size + static_cast<int>(within);
}

FERRUM_DEVICE int slot_of(const PagedCache& cache, int64_t sequence, int position) {
  return slot_in(cache, block_of(cache, sequence, position), position);
}

// Index of the first element of a head in a slot.
FERRUM_DEVICE size_t element_of(const PagedCache& cache, int slot, int kv_head) {
  return (static_cast<size_t>(slot) * cache.kv_heads + kv_head) * cache.head_dim;
}

// Two bfloat16 values as float16 ones.
FERRUM_DEVICE uint32_t halves_of_bfloat16s(uint32_t pair) {
  return to_halves(bits_to_float(pair << 16), bits_to_float(pair & 0xffff0000u));
}
FERRUM_DEVICE uint4 halves_of_bfloat16s(uint4 v) {
  return make_uint4(halves_of_bfloat16s(v.x), halves_of_bfloat16s(v.y), halves_of_bfloat16s(v.z),
                    halves_of_bfloat16s(v.w));
}

}  // namespace
}  // namespace ferrum::cuda
