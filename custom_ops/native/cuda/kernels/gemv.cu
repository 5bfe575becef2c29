// A few rows of activations times quantized matrices, in float32.
//
// `lanes` threads share kGemvRows rows of a matrix, so that each value of x that a thread reads
// from shared memory meets as many weights; the weights come straight from global memory, once for
// all columns of a launch.
#include "cuda/kernels/gemv_arguments.h"
#include "cuda/kernels/prefetch-inl.h"
#include "cuda/kernels/row_products.h"
#include "cuda/kernels/unit_shapes.h"

namespace ferrum::cuda {
namespace {

FERRUM_DEVICE const GemvPart& part_of_block(const GemvArguments& a, unsigned block) {
  int i = a.count - 1;
  while (i > 0 && block < a.parts[i].first_block) --i;
  return a.parts[i];
}

// What a block has: rows of a part from `row` on, and columns from `column` on.
struct GemvPlace {
  const GemvPart& part;
  int64_t row, column;
};
template <int kColumns>
FERRUM_DEVICE GemvPlace place_of_block(const GemvArguments& a) {
  const unsigned groups = kColumns < 4 ? 1 : a.column_groups, block = blockIdx.x / groups;
  const GemvPart& part = part_of_block(a, block);
  return {part, static_cast<int64_t>(block - part.first_block) * a.block_rows,
          static_cast<int64_t>(kColumns) * (blockIdx.x % groups)};
}

template <int kType, int kColumns>
FERRUM_DEVICE void prefetch_block(const GemvArguments& a) {
  const GemvPlace place = place_of_block<kColumns>(a);
  const GemvPart& part = place.part;
  prefetch_rows<kType>(part.data, part.rows, part.row_bytes, place.row, a.block_rows);
}

// The activations of a token; beyond the last those of the last, for nothing.
FERRUM_DEVICE ConstElements x_row(const GemvArguments& a, int64_t token) {
  return from(a.x, min(token, a.tokens - 1) * a.k);
}

// The sums of more lanes than a warp, in the first lane of them, in the order of the warps.
template <int kColumns>
FERRUM_DEVICE void sum_over_warps(int lanes, float (&sum)[kGemvRows][kColumns]) {
  FERRUM_SHARED float of_warp[kGemvThreads / kWarp][kGemvRows][kColumns];
  if (lane_index() == 0)
    for (int r = 0; r < kGemvRows; ++r)
      for (int c = 0; c < kColumns; ++c) of_warp[warp_index()][r][c] = sum[r][c];
  __syncthreads();
  if (static_cast<int>(threadIdx.x) % lanes != 0) return;
  for (int warp = 1; warp < lanes / kWarp; ++warp)
    for (int r = 0; r < kGemvRows; ++r)
      for (int c = 0; c < kColumns; ++c) sum[r][c] += of_warp[warp_index() + warp][r][c];
}

template <int kColumns>
using Staged = StagedX<kGemvTile<kColumns>>[kColumns];

template <int kType, int kColumns>
FERRUM_DEVICE void gemv(const GemvArguments& a, Staged<kColumns>& x) {
  using Unit = UnitOf<kType>;
  const GemvPlace place = place_of_block<kColumns>(a);
  const GemvPart& part = place.part;
  const int thread = static_cast<int>(threadIdx.x), lane = thread & (a.lanes - 1);
  const int64_t row = place.row + kGemvRows * divided_by(a.lanes, thread), column = place.column;
  BlockOf<kType> rows[kGemvRows];
#pragma unroll
  for (int r = 0; r < kGemvRows; ++r)  // beyond the end the last one again, for nothing
    rows[r] =
        block_of_row<kType>(part.data, part.rows, part.row_bytes, min(row + r, part.rows - 1));

  const auto stage_tile = [&](int begin) {
    if (begin > 0) __syncthreads();
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      stage<Unit::kSums, Unit::kAnyK, kGemvThreads>(x_row(a, column + c), a.k, begin, thread, x[c]);
    __syncthreads();
  };
  float sum[kGemvRows][kColumns] = {};
  multiply_rows<kType, false, kGemvRows, kColumns>(rows, a.k, lane, a.lanes, x, stage_tile, sum);
  sum_over_lanes(a.lanes, sum);
  if (a.lanes > kWarp) sum_over_warps(a.lanes, sum);
  if (lane != 0) return;
#pragma unroll
  for (int r = 0; r < kGemvRows; ++r)
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (row + r < part.rows && column + c < a.tokens)
        store_element({part.out, a.out_type}, (column + c) * part.rows + row + r, sum[r][c]);
}

// Of a float32 matrix: a block's threads share its rows, four neighbouring values each at a time,
// and read x from where it lies, together with the weights.
template <int kColumns>
FERRUM_DEVICE void gemv_f32(const GemvArguments& a) {
  constexpr int kRows = kColumns, kTurns = kColumns == 1 ? 4 : 2, kWarps = kGemvThreads / kWarp;
  FERRUM_SHARED float of_warp[kWarps][kRows * kColumns];
  const GemvPlace place = place_of_block<kColumns>(a);
  const GemvPart& part = place.part;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t row = place.row, column = place.column;
  const auto* const matrix = reinterpret_cast<const float*>(part.data);
  float sum[kRows][kColumns] = {};
  for (int begin = 4 * thread; begin < a.k; begin += 4 * kGemvThreads * kTurns) {
    float4 w[kRows][kTurns], x[kColumns][kTurns];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      load_turns<true>(matrix + min(row + r, part.rows - 1) * a.k, a.k, begin, 4 * kGemvThreads,
                       w[r]);
    with_element_type(a.x.type, [&](auto type) {  // once, or columns would wait for one another
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        load_turns<true>({x_row(a, column + c).data, decltype(type)::value}, a.k, begin,
                         4 * kGemvThreads, x[c]);
    });
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          sum[r][c] = fmaf(w[r][turn].x, x[c][turn].x, sum[r][c]);
          sum[r][c] = fmaf(w[r][turn].y, x[c][turn].y, sum[r][c]);
          sum[r][c] = fmaf(w[r][turn].z, x[c][turn].z, sum[r][c]);
          sum[r][c] = fmaf(w[r][turn].w, x[c][turn].w, sum[r][c]);
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kRows * kColumns; ++i) {
    const float total = warp_sum(sum[i / kColumns][i % kColumns]);
    if (lane_index() == 0) of_warp[warp_index()][i] = total;
  }
  __syncthreads();
  const int r = thread / kColumns, c = thread % kColumns;
  if (r >= kRows || row + r >= part.rows || column + c >= a.tokens) return;
  float total = of_warp[0][thread];
  for (int warp = 1; warp < kWarps; ++warp) total += of_warp[warp][thread];
  store_element({part.out, a.out_type}, (column + c) * part.rows + row + r, total);
}

template <int kType, int kColumns>
FERRUM_DEVICE void multiply(const GemvArguments& a) {
  if constexpr (kType == kF32) {
    gemv_f32<kColumns>(a);
  } else {
    FERRUM_SHARED Staged<kColumns> x;
    gemv<kType, kColumns>(a, x);
  }
}

// Each block by its part's type.
template <int kColumns>
FERRUM_DEVICE void multiply_mixed(const GemvArguments& a) {
  FERRUM_SHARED Staged<kColumns> x;
  const int type = place_of_block<kColumns>(a).part.type;
#define FERRUM_GEMV_OF(name) \
  if (type == k##name) gemv<k##name, kColumns>(a, x);
  FERRUM_MIXED_TYPES(FERRUM_GEMV_OF)
#undef FERRUM_GEMV_OF
}
template <int kColumns>
FERRUM_DEVICE void prefetch_mixed(const GemvArguments& a) {
  if (place_of_block<kColumns>(a).part.type == kQ6_K_planes)
    prefetch_block<kQ6_K_planes, kColumns>(a);
  else
    prefetch_block<kQ6_K, kColumns>(a);  // as of all types that are not in planes
}

// Blocks that a multiprocessor must have registers for; 0: as many as the compiler finds best.
// Those of a layer's Q4_K matrices would not all be there at once, those of Q6_K with four columns
// would be so many that they spill.
constexpr int gemv_blocks(int type, int columns) {
  if (type == kQ4_K && columns == 1) return 5;
  return type == kQ6_K && columns == 4 ? 3 : 0;
}

#define FERRUM_GEMV_COLUMNS(name, columns)                                    \
  FERRUM_PREFETCHING_KERNEL(gemv_##name##_##columns, GemvArguments,           \
                            (prefetch_block<k##name, columns>), kGemvThreads, \
                            gemv_blocks(k##name, columns)) {                  \
    multiply<k##name, columns>(a);                                            \
  }
#define FERRUM_GEMV_MIXED_COLUMNS(columns)                                                \
  FERRUM_PREFETCHING_KERNEL(gemv_mixed_##columns, GemvArguments, prefetch_mixed<columns>, \
                            kGemvThreads) {                                               \
    multiply_mixed<columns>(a);                                                           \
  }
FERRUM_GEMV_MIXED_COLUMNS(1)
FERRUM_GEMV_MIXED_COLUMNS(2)
FERRUM_GEMV_MIXED_COLUMNS(4)
#undef FERRUM_GEMV_MIXED_COLUMNS

#define FERRUM_GEMV(name)      \
  FERRUM_GEMV_COLUMNS(name, 1) \
  FERRUM_GEMV_COLUMNS(name, 2) \
  FERRUM_GEMV_COLUMNS(name, 4)
FERRUM_CUDA_FORMATS(FERRUM_GEMV)
#undef FERRUM_GEMV_COLUMNS
#undef FERRUM_GEMV

}  // namespace
}  // namespace ferrum::cuda
