// Rows of any type, decoded by the CPU's own functions where the type has no Format: one thread a
// block of values into shared memory, from where all threads write the floats.
#pragma once

#ifdef __CUDACC__
#define FERRUM_CODEC __device__
#define FERRUM_TABLE __device__ constexpr
#else
#define FERRUM_CODEC [[maybe_unused]]
#endif
#include "cpu/codes.h"
#include "cpu/half.h"
#include "cuda/kernels/dequantize_arguments.h"
#include "cuda/kernels/formats.h"

namespace ferrum::cuda {
namespace {

// In the order of their needs.
// clang-format off
#include "cpu/decode_small-inl.h"
#include "cpu/decode_k-inl.h"
#include "cpu/decode_iq-inl.h"
// clang-format on

template <int kType>
constexpr bool kHasMins = has_mins(kType);

// A class Rows says where rows come from and go to:
//   int64_t rows, k
//   const uint8_t* source(row)   null where there is no such row, which makes it NaN
//   store(at, values)            elements at .. at + 8 of all rows together, 8 dividing `at`
//   store_one(at, value)

FERRUM_DEVICE float not_a_number() { return bits_to_float(0x7fc00000u); }

FERRUM_DEVICE int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * kDecodeThreads + static_cast<int>(threadIdx.x);
}

// A thread per slice.
template <int kType, class Rows>
FERRUM_DEVICE void decode_slices(const Rows& to) {
  using F = Format<kType>;
  const int64_t slices = to.k / 16, row = global_thread() / slices;
  if (row >= to.rows) return;
  const int64_t in_row = global_thread() % slices, block = in_row / F::kSlices;
  const int slice = static_cast<int>(in_row % F::kSlices);
  const int64_t at = row * to.k + block * F::kBlock;
  const uint8_t* const source = to.source(row);
  float w[16];
  if (source == nullptr) {
#pragma unroll
    for (int i = 0; i < 16; ++i) w[i] = not_a_number();
  } else {
    F::unpack(source + static_cast<size_t>(block) * F::kBytes, slice, w);
  }
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    float values[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = w[8 * run + i];
    to.store(at + (run == 0 ? F::first(slice) : F::second(slice)), values);
  }
}

// A thread per value, of rows of any length.
template <int kType, class Rows>
FERRUM_DEVICE void decode_floats(const Rows& to) {
  const int64_t at = global_thread(), row = at / to.k;
  if (row >= to.rows) return;
  constexpr int kValueBytes = Format<kType>::kBytes / 16;
  const uint8_t* const source = to.source(row);
  to.store_one(at, source == nullptr ? not_a_number()
                                     : Format<kType>::value(source + at % to.k * kValueBytes));
}

// A thread per block.
template <int kType, class Block, int kBlock, class Rows>
FERRUM_DEVICE void decode_blocks(const Rows& to) {
  constexpr int kScales = kBlock / 16, kGroups = kBlock / 8;
  // The room after each block's codes and scales puts those of different threads into different
  // banks.
  FERRUM_SHARED int8_t q[kDecodeThreads][kBlock + 4];
  FERRUM_SHARED float scale[kDecodeThreads][kScales + 1], minimum[kDecodeThreads][kScales + 1];
  FERRUM_SHARED bool known[kDecodeThreads];
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t in_row = to.k / kBlock, blocks = to.rows * in_row;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kDecodeThreads, own = first + thread;
  const uint8_t* const source = own < blocks ? to.source(own / in_row) : nullptr;
  known[thread] = source != nullptr;
  if (source != nullptr)
    decode(reinterpret_cast<const Block*>(source)[own % in_row], q[thread], scale[thread],
           minimum[thread]);
  __syncthreads();
  const int groups = static_cast<int>(min(int64_t{kDecodeThreads}, blocks - first)) * kGroups;
  for (int group = thread; group < groups; group += kDecodeThreads) {
    const int block = group / kGroups, i = group % kGroups * 8;
    float values[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float value = scale[block][i / 16] * static_cast<float>(q[block][i + j]);
      values[j] = !known[block]     ? not_a_number()
                  : kHasMins<kType> ? value - minimum[block][i / 16]
                                    : value;
    }
    to.store(first * kBlock + 8 * group, values);
  }
}

template <int kType>
constexpr bool kHasFormat = false;
#define FERRUM_HAS_FORMAT(name) \
  template <>                   \
  constexpr bool kHasFormat<k##name> = true;
FERRUM_CUDA_FORMATS(FERRUM_HAS_FORMAT)
#undef FERRUM_HAS_FORMAT

template <int kType, class Block, int kBlock, class Rows>
FERRUM_DEVICE void decode_rows(const Rows& to) {
  if constexpr (kBlock == 1)
    decode_floats<kType>(to);
  else if constexpr (kHasFormat<kType>)
    decode_slices<kType>(to);
  else
    decode_blocks<kType, Block, kBlock>(to);
}

}  // namespace
}  // namespace ferrum::cuda
