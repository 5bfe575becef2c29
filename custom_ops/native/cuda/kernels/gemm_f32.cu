// Many rows of activations times a float32 matrix, in float32: the router's product, which must not
// be rounded to float16, in a prefill.
#include "cuda/kernels/gemm_f32_arguments.h"
#include "cuda/kernels/staged_x.h"

namespace ferrum::cuda {
namespace {

constexpr int kDepth = 32;  // terms of the sums in shared memory at a time
constexpr int kVectors = kDepth / 4;

// kDepth terms of kRows rows, transposed, so that a thread reads four rows of a term at once.
template <int kRows>
struct Slab {
  static constexpr int kTurns = kRows * kVectors / kF32Threads;
  alignas(16) float terms[kDepth][kRows + 4];

  // The thread's share of the terms from `begin` on, of rows `first` on; rows beyond the last are
  // the last again, for nothing.
  static FERRUM_DEVICE void load(ConstElements rows, int64_t first, int64_t count, int k, int begin,
                                 float4 (&v)[kTurns]) {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int i = turn * kF32Threads + static_cast<int>(threadIdx.x);
      const int64_t row = min(first + i / kVectors, count - 1);
      float4 four[1];
      load_turns<true>(from(rows, row * k), k, begin + i % kVectors * 4, 0, four);
      v[turn] = four[0];
    }
  }
  FERRUM_DEVICE void store(const float4 (&v)[kTurns]) {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int i = turn * kF32Threads + static_cast<int>(threadIdx.x);
      const int row = i / kVectors, term = i % kVectors * 4;
      terms[term][row] = v[turn].x;
      terms[term + 1][row] = v[turn].y;
      terms[term + 2][row] = v[turn].z;
      terms[term + 3][row] = v[turn].w;
    }
  }
};

FERRUM_KERNEL(gemm_f32, GemmF32Arguments, kF32Threads) {
  FERRUM_SHARED Slab<kF32Tokens> x;
  FERRUM_SHARED Slab<kF32Rows> w;
  const int64_t first_token = static_cast<int64_t>(blockIdx.x) * kF32Tokens;
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kF32Rows;
  const int thread = static_cast<int>(threadIdx.x);
  const int token = thread / (kF32Rows / 4) * 4, row = thread % (kF32Rows / 4) * 4;
  const ConstElements matrix{a.matrix, kF32};
  float4 next_x[Slab<kF32Tokens>::kTurns], next_w[Slab<kF32Rows>::kTurns];
  x.load(a.x, first_token, a.tokens, a.k, 0, next_x);
  w.load(matrix, first_row, a.rows, a.k, 0, next_w);
  float sum[4][4] = {};
  for (int begin = 0; begin < a.k; begin += kDepth) {
    x.store(next_x);
    w.store(next_w);
    __syncthreads();
    x.load(a.x, first_token, a.tokens, a.k, begin + kDepth, next_x);
    w.load(matrix, first_row, a.rows, a.k, begin + kDepth, next_w);
#pragma unroll 8
    for (int term = 0; term < kDepth; ++term) {
      const float4 xs = load_float4(x.terms[term] + token), ws = load_float4(w.terms[term] + row);
      const float t[4] = {xs.x, xs.y, xs.z, xs.w}, r[4] = {ws.x, ws.y, ws.z, ws.w};
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(t[i], r[j], sum[i][j]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t t = first_token + token + i, r = first_row + row + j;
      if (t < a.tokens && r < a.rows) store_element(a.out, t * a.rows + r, sum[i][j]);
    }
}

}  // namespace
}  // namespace ferrum::cuda
