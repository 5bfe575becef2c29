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

// One matrix of `count` blocks that begins `offset` bytes behind the first of all, which are `data`
// where a function wants them: as numbers of pieces of 16 bytes, places take half the registers.
template <int kType>
struct GemmPlanes<kType, true> {
  static constexpr int kBlocks = weight_chunk(kType).bytes / kBlockBytes<kType>;

  uint32_t plane[kMostFields];  // where each begins
  uint32_t first, of_lane;      // the first block of the quad's first row, and of the lane's row

  FERRUM_DEVICE void find(size_t offset, uint32_t count) {
    find_plane<0>(offset, count);
    find_plane<1>(offset, count);
    find_plane<2>(offset, count);
    find_plane<3>(offset, count);
  }

  // Lane `c` of a quad's share of the chunk that begins with `block`, of a row that has `left`
  // blocks from there on.
  FERRUM_DEVICE void copy(const uint8_t* data, uint32_t block, uint32_t left, int c,
                          uint8_t* to) const {
    copy_field<0>(data, block, left, c, to);
    copy_field<1>(data, block, left, c, to);
    copy_field<2>(data, block, left, c, to);
    copy_field<3>(data, block, left, c, to);
  }

 private:
  template <int kField>
  FERRUM_DEVICE void find_plane(size_t offset, uint32_t count) {
    plane[kField] = static_cast<uint32_t>(
        (offset + static_cast<size_t>(count) * kFieldBegin<kType, kField>) / 16);
  }

  template <int kField>
  FERRUM_DEVICE void copy_field(const uint8_t* data, uint32_t block, uint32_t left, int c,
                                uint8_t* to) const {
    constexpr uint32_t kBytes = kFieldBytes<kType, kField>;
    constexpr int kPieces = kChunkPieces<kType, kField, kBlocks>;
    if constexpr (kBytes != 0) {
      const uint32_t lead = field_lead<kType, kField>(block);
      const uint32_t piece =
          plane[kField] + (kBytes % 16 == 0 ? block * (kBytes / 16) : block * kBytes / 16);
      const uint8_t* const from = data + 16 * static_cast<size_t>(piece);
      uint8_t* const field = to + kChunkBegin<kType, kField, kBlocks>;
      if (kBlocks == 1 || kBytes % 16 == 0 || left >= kBlocks) {
        const uint32_t blocks = kBlocks == 1 ? 1 : min(left, static_cast<uint32_t>(kBlocks));
        const uint32_t bytes = kBlocks == 1 ? 16 * kPieces : lead + blocks * kBytes;
#pragma unroll
        for (int at = 0; at < kPieces; at += 4)
          if (16 * static_cast<uint32_t>(at + c) < bytes)
            copy_16(field + 16 * (at + c), from + 16 * (at + c));
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
