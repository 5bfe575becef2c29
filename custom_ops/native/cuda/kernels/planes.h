// Where the fields of a block lie, of types in planes (quants.h): field<i>() of a place is the
// address of field i. In global memory planes and what a row has of them begin at multiples of 16,
// but for fields that are shorter: those lie where they fall.
#pragma once

#include "cuda/device.h"
#include "cuda/kernels/chunk_fields.h"

namespace ferrum::cuda {

template <int kType>
constexpr bool kInPlanes = kType >= kPlanesId;

constexpr int field_begin(int type, int field) {
  int begin = 0;
  for (int i = 0; i < field; ++i) begin += format_row(type).fields[i];
  return begin;
}
template <int kType, int kField>
constexpr int kFieldBytes = format_row(kType).fields[kField];
template <int kType, int kField>
constexpr int kFieldBegin = field_begin(kType, kField);
template <int kType>
constexpr int kBlockBytes = static_cast<int>(format_row(kType).bytes);

// Block `index` of the `count` that a matrix has, row by row.
template <int kType>
struct PlanesBlock {
  const uint8_t* matrix;
  uint32_t count, index;

  template <int kField>
  FERRUM_DEVICE const uint8_t* field() const {
    return matrix + static_cast<size_t>(count) * kFieldBegin<kType, kField> +
           static_cast<size_t>(index) * kFieldBytes<kType, kField>;
  }
};

// Where a block lies of a type in planes or not.
template <int kType, bool = kInPlanes<kType>>
struct BlockPlace {
  using Type = const uint8_t*;
};
template <int kType>
struct BlockPlace<kType, true> {
  using Type = PlanesBlock<kType>;
};
template <int kType>
using BlockOf = typename BlockPlace<kType>::Type;

// The first block of a row.
template <int kType>
FERRUM_DEVICE BlockOf<kType> block_of_row(const uint8_t* matrix, int64_t rows, size_t row_bytes,
                                          int64_t row) {
  if constexpr (kInPlanes<kType>) {
    const uint32_t in_row = static_cast<uint32_t>(row_bytes) / kBlockBytes<kType>;
    return {matrix, static_cast<uint32_t>(rows) * in_row, static_cast<uint32_t>(row) * in_row};
  } else {
    return matrix + static_cast<size_t>(row) * row_bytes;
  }
}

// The block `count` blocks further on.
template <int kBytes>
FERRUM_DEVICE const uint8_t* skip_blocks(const uint8_t* block, unsigned count) {
  return block + count * kBytes;
}
template <int kBytes, int kType>
FERRUM_DEVICE PlanesBlock<kType> skip_blocks(const PlanesBlock<kType>& block, unsigned count) {
  return {block.matrix, block.count, block.index + count};
}

// How far behind a multiple of 16 a block's field lies.
template <int kType, int kField>
FERRUM_DEVICE uint32_t field_lead(uint32_t block) {
  constexpr uint32_t kBytes = kFieldBytes<kType, kField>;
  return kBytes % 16 == 0 ? 0 : block * kBytes % 16;
}

template <int kType, int kField, int kBlocks>
constexpr int kChunkBegin = chunk_begin(kType, kField, kBlocks);
template <int kType, int kField, int kBlocks>
constexpr int kChunkPieces = chunk_pieces(kType, kField, kBlocks);

// Block `block` of a chunk of kBlocks that lies at `chunk`, whose first is `first` in its matrix.
template <int kType, int kBlocks>
struct ChunkBlock {
  const uint8_t* chunk;
  uint32_t first, block;

  template <int kField>
  FERRUM_DEVICE const uint8_t* field() const {
    return chunk + kChunkBegin<kType, kField, kBlocks> + field_lead<kType, kField>(first) +
           block * static_cast<uint32_t>(kFieldBytes<kType, kField>);
  }
};

}  // namespace ferrum::cuda
