// The paged key and value cache of one layer, and the sequences that own its blocks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ferrum {

// Two buffers [blocks, block_size, kv_heads, head_dim].
struct KvCache {
  uint8_t* keys;
  uint8_t* values;
  int type;  // ggml id of F32, F16 or BF16
  int64_t blocks, block_size, kv_heads, head_dim;

  int64_t element_bytes() const;
  int64_t slot_elements() const { return kv_heads * head_dim; }  // from a slot to the next
  int64_t bytes() const { return blocks * block_size * slot_elements() * element_bytes(); }

  // Byte offset, in either buffer, of one head in one slot of a block.
  size_t offset(int64_t block, int64_t slot, int64_t head) const {
    return static_cast<size_t>(((block * block_size + slot) * kv_heads + head) * head_dim *
                               element_bytes());
  }
};

// A step's tokens cut into sequences; token index[b] .. index[b + 1] - 1 belong to sequence b.
struct Sequences {
  int64_t count, columns;
  const int32_t* cumulative;  // [count + 1]
  const int32_t* past;        // [count] tokens that are in the cache already
  const int32_t* table;       // [count, columns]

  int64_t block(int64_t sequence, int64_t column) const {
    return table[sequence * columns + column];
  }
};

// Throws Error unless the sequences cover exactly `tokens` tokens and every block that they use
// lies in the cache. Entries beyond a sequence's length are not looked at.
void check_sequences(const Sequences& sequences, int64_t tokens, const KvCache& cache);

// Rounds n floats (to nearest, ties to even) to the cache's elements at `to`.
void store_elements(int type, const float* from, int64_t n, uint8_t* to);

}  // namespace ferrum
