// A warp's copies of blocks that begin at even addresses, a column of blocks of neighbouring rows.
// The many narrow loads that such blocks need, each of 32 places far apart, would keep L1 busy for
// longer than the memory; so the blocks come as aligned words of 16 bytes, and the narrow loads are
// of shared memory.
#pragma once

#include "cuda/device.h"

namespace ferrum::cuda {

// One word each of two rows' blocks is copied by half a warp, so a block has at most 16 words.
template <int kRows, int kBytes>
struct BlockCopies {
  static constexpr int kWords = (kBytes + 14 + 15) / 16;
  // An odd number of words, which spreads neighbouring rows over the banks.
  static constexpr int kStride = 16 * (kWords + 1 - kWords % 2);
  static_assert(kRows % 2 == 0 && kWords <= kWarp / 2);
  alignas(16) uint8_t bytes[kRows][kStride];

  // From the first row's block on; of rows beyond `end`, where the matrix's memory ends, anything.
  // The lanes must commit and await the copies, and meet, before they read.
  FERRUM_DEVICE void begin(const uint8_t* from, size_t row_bytes, const uint8_t* end) {
    const int at = lane_index() % (kWarp / 2) * 16, first = lane_index() / (kWarp / 2);
    const bool whole = end - from >= static_cast<int64_t>(kRows * row_bytes + 16);
    from += static_cast<size_t>(first) * row_bytes;
    if (whole) {
#pragma unroll
      for (int row = 0; row < kRows; row += 2, from += 2 * row_bytes) {
        const auto skew = static_cast<int>(skew_of(from));
        if (at < skew + kBytes) copy_16(bytes[first + row] + at, from - skew + at);
      }
    } else {
#pragma unroll 1
      for (int row = first; row < kRows; row += 2, from += 2 * row_bytes) {
        const auto skew = static_cast<int>(skew_of(from));
        for (int i = at; i < min(at + 16, skew + kBytes); i += 2)
          if (i >= skew && from - skew + i < end)
            *reinterpret_cast<uint16_t*>(bytes[row] + i) =
                *reinterpret_cast<const uint16_t*>(from - skew + i);
      }
    }
  }
  // Where the copy of row `row` begins, whose block begins at `from`.
  FERRUM_DEVICE const uint8_t* block(int row, const uint8_t* from) const {
    return bytes[row] + skew_of(from);
  }

 private:
  static FERRUM_DEVICE unsigned skew_of(const uint8_t* from) {
    return static_cast<unsigned>(reinterpret_cast<uintptr_t>(from)) % 16;
  }
};

}  // namespace ferrum::cuda
