#include "cuda/kernels/dequantize_arguments.h"
#include "cuda/ops/decode_launch.h"
#include "cuda/ops/linear.h"

namespace ferrum::cuda {
namespace {

#define FERRUM_KERNEL_OF(name, id, block, bytes) {id, Symbol("gather_" #name)},
const DecodeKernel kKernels[] = {FERRUM_QUANTS(FERRUM_KERNEL_OF)};
#undef FERRUM_KERNEL_OF

}  // namespace

void gather_rows(Queue& queue, const int64_t* ids, int64_t tokens, const Matrix& matrix,
                 float* out) {
  const GatherArguments a = {ids,         out,         tokens,          matrix.k,
                             matrix.data, matrix.rows, matrix.row_bytes};
  queue.launch(find_symbol(kKernels, matrix.type), decode_grid(matrix.type, tokens, matrix.k),
               kDecodeThreads, a);
}

}  // namespace ferrum::cuda
