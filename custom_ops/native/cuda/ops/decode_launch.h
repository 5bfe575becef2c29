// Launches of kernels/dequantize.cu and gather.cu.
#pragma once

#include "cuda/kernels/dequantize_arguments.h"
#include "cuda/ops/gemv.h"
#include "cuda/queue.h"
#include "quants.h"

namespace ferrum::cuda {

// A thread per value of a float type, per slice of a type with a format, per block of another.
inline Grid decode_grid(int type, int64_t rows, int64_t k) {
  const int64_t block = find_quant(type)->block;
  const int64_t values = block == 1 ? 1 : has_format(type) ? 16 : block;
  const int64_t threads = rows * k / values;
  return {static_cast<unsigned>((threads + kDecodeThreads - 1) / kDecodeThreads)};
}

// A type's kernel, of a table of all types.
struct DecodeKernel {
  int type;
  Symbol symbol;
};
template <size_t n>
const Symbol& find_symbol(const DecodeKernel (&kernels)[n], int type) {
  size_t i = 0;
  while (i + 1 < n && kernels[i].type != type) ++i;
  return kernels[i].symbol;
}

}  // namespace ferrum::cuda
