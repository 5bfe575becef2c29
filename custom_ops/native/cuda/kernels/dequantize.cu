// Matrices of blocks to float16.
#include "cuda/kernels/dequantize-inl.h"

namespace ferrum::cuda {
namespace {

FERRUM_DEVICE uint32_t two_halves(float first, float second) {
  return finite_halves(to_halves(first, second));
}

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
    a.out[at] = static_cast<uint16_t>(two_halves(value, 0.0f));
  }
  FERRUM_DEVICE void store(int64_t at, const float (&values)[8]) const {
    *reinterpret_cast<uint4*>(a.out + at) = {
        two_halves(values[0], values[1]), two_halves(values[2], values[3]),
        two_halves(values[4], values[5]), two_halves(values[6], values[7])};
  }
};

#define FERRUM_DEQUANTIZE(name, id, block, bytes)                              \
  FERRUM_KERNEL(dequantize_##name, DequantizeArguments, kDecodeThreads) {      \
    decode_rows<k##name, Block##name, block>(DequantizedRows{a, a.rows, a.k}); \
  }
FERRUM_QUANTS(FERRUM_DEQUANTIZE)
#undef FERRUM_DEQUANTIZE

}  // namespace
}  // namespace ferrum::cuda
