// Matrices of blocks to float16.
#include "cuda/kernels/dequantize-inl.h"

namespace ferrum::cuda {
namespace {

struct DequantizedRows {
  const DequantizeArguments& a;
  int64_t rows, k;

  FERRUM_DEVICE const uint8_t* source(int64_t row) const {
    if (a.ids == nullptr) return a.data + static_cast<size_t>(row) * a.row_bytes;
    const int64_t matrix = a.ids[row / a.matrix_rows];
    if (matrix < 0 || matrix >= a.matrices) return nullptr;
    const int64_t from = matrix * a.matrix_rows + row % a.matrix_rows;
    return a.data + static_cast<size_t>(from) * a.row_bytes;
  }
  FERRUM_DEVICE void store_one(int64_t at, float value) const {
    a.out[at] = static_cast<uint16_t>(to_finite_halves(value, 0.0f));
  }
  FERRUM_DEVICE void store(int64_t at, const float (&values)[8]) const {
    *reinterpret_cast<uint4*>(a.out + at) = {
        to_finite_halves(values[0], values[1]), to_finite_halves(values[2], values[3]),
        to_finite_halves(values[4], values[5]), to_finite_halves(values[6], values[7])};
  }
};

// Left to choose how many blocks a multiprocessor holds, the compiler spills NVFP4's registers.
#define FERRUM_DEQUANTIZE(name, id, block, bytes)                              \
  FERRUM_KERNEL(dequantize_##name, DequantizeArguments, kDecodeThreads, 8) {   \
    decode_rows<k##name, Block##name, block>(DequantizedRows{a, a.rows, a.k}); \
  }
FERRUM_QUANTS(FERRUM_DEQUANTIZE)
#undef FERRUM_DEQUANTIZE

}  // namespace
}  // namespace ferrum::cuda
