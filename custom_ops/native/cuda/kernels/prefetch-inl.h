// What kernels ask for while those before them still run (FERRUM_PREFETCHING_KERNEL): their
// weights, which would otherwise be on their way from memory when all else is there.
#pragma once

#include "cuda/device.h"
#include "cuda/kernels/planes.h"

namespace ferrum::cuda {

// By the threads of a block, a line each: as much as a block needs first. If blocks of many rows
// asked for all, those on the GPU at once could ask for more than the cache holds.
FERRUM_DEVICE void prefetch_bytes(const void* from, size_t bytes) {
  const size_t i = size_t{128} * threadIdx.x;
  if (i < bytes) prefetch(static_cast<const uint8_t*>(from) + i);
}

template <int kType, int kField>
FERRUM_DEVICE void prefetch_field(const PlanesBlock<kType>& first, uint32_t blocks) {
  prefetch_bytes(first.template field<kField>(), size_t{blocks} * kFieldBytes<kType, kField>);
}

// Rows first .. first + count of a matrix of `rows`, as far as they exist.
template <int kType>
FERRUM_DEVICE void prefetch_rows(const uint8_t* matrix, int64_t rows, size_t row_bytes,
                                 int64_t first, int64_t count) {
  count = min(count, rows - first);
  if (count <= 0) return;
  const BlockOf<kType> block = block_of_row<kType>(matrix, rows, row_bytes, first);
  if constexpr (kInPlanes<kType>) {
    const uint32_t in_row = static_cast<uint32_t>(row_bytes) / kBlockBytes<kType>;
    const uint32_t blocks = static_cast<uint32_t>(count) * in_row;
    prefetch_field<kType, 0>(block, blocks);
    prefetch_field<kType, 1>(block, blocks);
    prefetch_field<kType, 2>(block, blocks);
    prefetch_field<kType, 3>(block, blocks);
  } else {
    prefetch_bytes(block, static_cast<size_t>(count) * row_bytes);
  }
}

// By one thread, how a row begins: 256 bytes, or in planes as many blocks as have that much.
template <int kType>
FERRUM_DEVICE void prefetch_row(const uint8_t* matrix, int64_t rows, size_t row_bytes,
                                int64_t row) {
  const BlockOf<kType> block = block_of_row<kType>(matrix, rows, row_bytes, row);
  if constexpr (kInPlanes<kType>) {
    prefetch(block.template field<0>());
    prefetch(block.template field<1>());
  } else {
    prefetch(block);
    prefetch(block + min(size_t{128}, row_bytes - 1));
  }
}

}  // namespace ferrum::cuda
