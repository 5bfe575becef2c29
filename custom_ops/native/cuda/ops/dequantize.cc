#include "cuda/ops/dequantize.h"

#include "cuda/kernels/dequantize_arguments.h"
#include "cuda/ops/decode_launch.h"

namespace ferrum::cuda {
namespace {

#define FERRUM_KERNEL_OF(name, id, block, bytes) {id, Symbol("dequantize_" #name)},
const DecodeKernel kKernels[] = {FERRUM_QUANTS(FERRUM_KERNEL_OF)};
#undef FERRUM_KERNEL_OF

Matrix launch(Queue& queue, const Matrix& from, const int32_t* ids, int64_t count,
              int64_t matrices) {
  const int64_t rows = count * from.rows;
  auto* const out = queue.take<uint16_t>(rows * from.k);
  const DequantizeArguments a = {ids,       out,       rows,     from.k,
                                 from.rows, from.data, matrices, from.row_bytes};
  queue.launch(find_symbol(kKernels, from.type), decode_grid(from.type, rows, from.k),
               kDecodeThreads, a);
  return {kF16, reinterpret_cast<const uint8_t*>(out), from.rows, from.k,
          static_cast<size_t>(from.k) * sizeof(uint16_t)};
}

}  // namespace

Matrix dequantize(Queue& queue, const Matrix& matrix, int64_t count) {
  return launch(queue, matrix, nullptr, count, count);
}

Matrix dequantize_chosen(Queue& queue, const Matrix& matrix, const int32_t* ids, int64_t pairs,
                         int64_t experts) {
  return launch(queue, matrix, ids, pairs, experts);
}

}  // namespace ferrum::cuda
