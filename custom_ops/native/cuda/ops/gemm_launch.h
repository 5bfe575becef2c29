// What the launches of gemm's kernels have in common.
#pragma once

#include <cstdint>

#include "cuda/kernels/gemm_arguments.h"
#include "cuda/matrix.h"
#include "cuda/ops/linear.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

inline int64_t divided_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// A type's kernels: gemm_few's and gemm's by their tiles' positions, in order of them.
struct GemmKernels {
  int type;
  Symbol few[3], gemm[5], gate_up[4];
};
const GemmKernels* find_gemm_kernels(int type);
// Throws Error where there are none.
const GemmKernels& kernels_of(const Matrix& matrix);

// All experts of a matrix, and arguments with these alone.
GemmMatrix experts_of(const Matrix& matrix, int64_t experts);
GemmArguments arguments_of(const Matrix& matrix, int64_t experts);

// The matrices of one type, whose blocks have `block_rows` rows each and begin at `row_blocks`;
// returns where they end.
int64_t lay_out(const Product* const* products, int count, int64_t block_rows, int64_t row_blocks,
                GemmArguments& a);

}  // namespace ferrum::cuda
