#include "cuda/ops/gemm_f32.h"

#include "cuda/kernels/gemm_f32_arguments.h"

namespace ferrum::cuda {
namespace {

const Symbol kGemmF32("gemm_f32");

unsigned tiles(int64_t n, int64_t of) { return static_cast<unsigned>((n + of - 1) / of); }

}  // namespace

void gemm_f32(Queue& queue, ConstElements x, int64_t tokens, const Product& product) {
  const Matrix& matrix = product.matrix;
  const GemmF32Arguments a = {x,           reinterpret_cast<const float*>(matrix.data),
                              product.out, tokens,
                              matrix.rows, static_cast<int>(matrix.k)};
  queue.launch(kGemmF32, {tiles(tokens, kF32Tokens), tiles(matrix.rows, kF32Rows)}, kF32Threads, a);
}

}  // namespace ferrum::cuda
