// The chunks of weights that gemm copies to shared memory, of types in planes: a field at a time,
// so that all but the shortest are copied in whole pieces of 16 bytes that lie as they are wanted.
#pragma once

#include "cuda/device.h"
#include "cuda/kernels/gemm_arguments.h"
#include "cuda/kernels/planes.h"

namespace ferrum::cuda {

// Of a type that is not in planes: nothing.
template <int kType, bool = kInPlanes<kType>>
struct GemmPlanes {};

// One matrix of `count` blocks; `first` is the first one of the quad's first row, `of_lane` that of
// row `lane` of the warp.
template <int kType>
struct GemmPlanes<kType, true> {
  static constexpr int kBlocks = weight_chunk(kType).bytes / kBlockBytes<kType>;

  const uint8_t* matrix;
  uint32_t count, first, of_lane;

  // Lane `c` of a quad's share of the chunk that begins with `block`, of a row that has `left`
  // blocks from there on.
  FERRUM_DEVICE void copy(uint32_t block, uint32_t left, int c, uint8_t* to) const {
    copy_field<0>(block, left, c, to);
    copy_field<1>(block, left, c, to);
    copy_field<2>(block, left, c, to);
    copy_field<3>(block, left, c, to);
  }

 private:
  template <int kField>
  FERRUM_DEVICE void copy_field(uint32_t block, uint32_t left, int c, uint8_t* to) const {
    constexpr uint32_t kBytes = kFieldBytes<kType, kField>;
    if constexpr (kBytes != 0) {
      const uint32_t lead = field_lead<kType, kField>(block);
      const uint8_t* const from =
          PlanesBlock<kType>{matrix, count, block}.template field<kField>() - lead;
      uint8_t* const field = to + kChunkBegin<kType, kField, kBlocks>;
      if (kBytes % 16 == 0 || left >= kBlocks) {
        const uint32_t bytes = lead + min(left, static_cast<uint32_t>(kBlocks)) * kBytes;
#pragma unroll
        for (int piece = 0; piece < kChunkPieces<kType, kField, kBlocks>; piece += 4)
          if (16 * static_cast<uint32_t>(piece + c) < bytes)
            copy_16(field + 16 * (piece + c), from + 16 * (piece + c));
      } else {
        // Where a stage reads on behind its row: zeros, which scale to zeros what else is there.
#pragma unroll 1
        for (uint32_t i = lead + c; i < lead + kBlocks * kBytes; i += 4)
          field[i] = i < lead + left * kBytes ? from[i] : 0;
      }
    }
  }
};

}  // namespace ferrum::cuda
