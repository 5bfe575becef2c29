// What the launches of gemm's kernels have in common.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/kernels/gemm_arguments.h"
#include "cuda/matrix.h"
#include "cuda/ops/linear.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

inline int64_t divided_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// A type's kernels: gemm_few's and gemm's by their tiles' positions, in order of them.
struct GemmKernels {
  int type;
  Symbol few[2], gemm[5], gate_up[4];
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

// Calls multiply(products, count) with those that go together, at most kGemmMatrices at a time.
template <class Together, class Multiply>
void for_each_group(const std::vector<Product>& products, const Together& together,
                    const Multiply& multiply) {
  const size_t count = products.size();
  std::vector<bool> done(count);
  for (size_t i = 0; i < count; ++i) {
    const Product* same[kGemmMatrices];
    int found = 0;
    for (size_t j = i; j < count && found < kGemmMatrices; ++j)
      if (!done[j] && together(products[j].matrix.type, products[i].matrix.type)) {
        same[found++] = &products[j];
        done[j] = true;
      }
    if (found > 0) multiply(same, found);
  }
}

}  // namespace ferrum::cuda
