// How gemm lays the fields of blocks that lie in planes into shared memory, for the host too.
#pragma once

#include "quants.h"

namespace ferrum::cuda {

// Chunks of blocks of one row in shared memory, as gemm copies them: of each field in turn the
// pieces of 16 bytes that hold it. A short field lies in its pieces as it does in memory.
constexpr int chunk_pieces(int type, int field, int blocks) {
  const int size = format_row(type).fields[field];
  // Where fields of such a length may begin, the farthest from a multiple of 16.
  const int lead = size % 16 == 0 ? 0 : 16 - size;
  return (lead + blocks * size + 15) / 16;
}
constexpr int chunk_begin(int type, int field, int blocks) {
  int pieces = 0;
  for (int i = 0; i < field; ++i) pieces += chunk_pieces(type, i, blocks);
  return 16 * pieces;
}

}  // namespace ferrum::cuda
