#include "cuda/ops/linear.h"

#include "cuda/ops/dequantize.h"
#include "cuda/ops/gemm.h"
#include "cuda/ops/gemm_f32.h"
#include "cuda/ops/gemv.h"
#include "quants.h"

namespace ferrum::cuda {
namespace {

// Most tokens that gemv takes, which reads the weights once per four of them: of matrices that
// tensor cores can multiply in float16, and of float32 ones, which are meant to be multiplied as
// such (the router's choice hangs on the last bits). To be tuned.
constexpr int64_t kMostGemvTokens = 8;
constexpr int64_t kMostGemvTokensF32 = 256;

}  // namespace

void multiply_all(Queue& queue, ConstElements x, int64_t tokens, const Products& products) {
  if (tokens == 0) return;
  Products few, many;
  for (int i = 0; i < products.count; ++i) {
    Product product = products.all[i];
    if (!has_format(product.matrix.type)) product.matrix = dequantize(queue, product.matrix, 1);
    if (product.matrix.type == kF32 && tokens > kMostGemvTokensF32)
      gemm_f32(queue, x, tokens, product);
    else if (product.matrix.type == kF32 || tokens <= kMostGemvTokens ||
             !gemm_takes(product.matrix))
      few.add(product);
    else
      many.add(product);
  }
  gemv(queue, x, tokens, few);
  gemm(queue, x, tokens, many);
}

}  // namespace ferrum::cuda
